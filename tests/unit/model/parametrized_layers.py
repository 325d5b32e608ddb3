"""What the tests of parametrized weights share: every way to wrap a layer, and its state."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from fanin.model.parametrized import Parametrized, parametrized

Wrap = Callable[[nn.Module], nn.Module]


def old(wrap: Callable[..., nn.Module], module: nn.Module, *names: object) -> nn.Module:
    """The older utilities warn that they are deprecated; people's models have them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return wrap(module, *names)


def old_weight_norm(module: nn.Module, name: str = "weight", dim: int | None = 0) -> nn.Module:
    return old(nn.utils.weight_norm, module, name, dim)


def old_spectral_norm(module: nn.Module, name: str = "weight") -> nn.Module:
    return old(nn.utils.spectral_norm, module, name)


class Doubled(nn.Module):
    """With a right_inverse, and a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(2.0))

    def forward(self, original: Tensor) -> Tensor:
        return original * self.factor

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight / self.factor


class Split(nn.Module):
    """Several originals: a part that is positive and one that is negative."""

    def forward(self, positive: Tensor, negative: Tensor) -> Tensor:
        return positive - negative

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return weight.clamp(min=0), (-weight).clamp(min=0)


def through(*chain: nn.Module, unsafe: bool = False) -> Wrap:
    def wrap(module: nn.Module) -> nn.Module:
        for each in chain:
            parametrize.register_parametrization(module, "weight", each, unsafe=unsafe)
        return module

    return wrap


def chained(module: nn.Module) -> nn.Module:
    return through(Split(), Doubled())(module)


EXACT: dict[str, Wrap] = {
    "weight_norm": parametrizations.weight_norm,
    "weight_norm of all": lambda module: parametrizations.weight_norm(module, dim=None),
    "weight_norm by column": lambda module: parametrizations.weight_norm(module, dim=1),
    "own": through(Doubled()),
    "several originals": through(Split()),
    "chained": chained,
    "old weight_norm": old_weight_norm,
    "old weight_norm of all": lambda module: old_weight_norm(module, dim=None),
    "old weight_norm by column": lambda module: old_weight_norm(module, dim=1),
}
RESCALED: dict[str, Wrap] = {
    "spectral_norm": parametrizations.spectral_norm,
    "spectral_norm last": lambda m: parametrizations.spectral_norm(through(Doubled())(m)),
    "spectral_norm first": lambda m: through(Doubled())(parametrizations.spectral_norm(m)),
    "old spectral_norm": old_spectral_norm,
}
each_exact = pytest.mark.parametrize("wrap", EXACT.values(), ids=list(EXACT))
each_rescaled = pytest.mark.parametrize("wrap", RESCALED.values(), ids=list(RESCALED))
each = pytest.mark.parametrize(
    "wrap", [*EXACT.values(), *RESCALED.values()], ids=[*EXACT, *RESCALED]
)


def layer(wrap: Wrap, dtype: torch.dtype = torch.float32) -> nn.Linear:
    wrapped = wrap(nn.Linear(24, 32).to(dtype))
    assert isinstance(wrapped, nn.Linear)
    return wrapped


def held(module: nn.Module) -> Parametrized:
    return parametrized(module)["weight"]


def normal(*shape: int, std: float = 0.1, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(11)
    return (torch.randn(shape, generator=generator, dtype=torch.float64) * std).to(dtype)


def state(module: nn.Module) -> list[object]:
    """All that a trial might change, as data."""
    attributes = {k: v for k, v in vars(module).items() if isinstance(v, Tensor)}
    tensors = {**module.state_dict(), **attributes}
    return [
        {name: (id(t), t._version, t.tolist()) for name, t in attributes.items()},
        {name: (t.data_ptr(), t._version, t.tolist()) for name, t in tensors.items()},
        [each.training for each in module.modules()],
        torch.get_rng_state().tolist(),
    ]
