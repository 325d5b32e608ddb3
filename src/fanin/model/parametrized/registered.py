"""Weights that `torch.nn.utils.parametrize` computes from the originals they were split into."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

# Private: torch has no other way to tell its own parametrizations from a user's.
from torch.nn.utils.parametrizations import _Orthogonal, _SpectralNorm
from torch.nn.utils.parametrize import ParametrizationList

__all__ = ["POWER_ITERATIONS", "SPECTRAL_NOTE", "Registered"]

# How many torch does when a spectral norm is registered, to start from a usable estimate of σ.
POWER_ITERATIONS = 15
SPECTRAL_NOTE = (
    "spectral_norm divides by the largest singular value σ: "
    "the weight is what was asked for times 1/σ, and its spectral norm is 1"
)


@dataclass(frozen=True, eq=False, slots=True)
class Registered:
    """The parametrizations registered on one attribute of a module."""

    module: nn.Module
    attribute: str
    parametrizations: ParametrizationList

    @property
    def originals(self) -> tuple[tuple[str, nn.Parameter], ...]:
        """Names relative to the module; parameters of a parametrization itself are none of them."""
        held = self.parametrizations.named_parameters(recurse=False, remove_duplicate=False)
        return tuple((f"parametrizations.{self.attribute}.{name}", tensor) for name, tensor in held)

    @property
    def through(self) -> str:
        """What the weight is computed by, in the order of computing."""
        return ", ".join(type(each).__name__ for each in self.parametrizations)

    @property
    def note(self) -> str:
        """The known rescaling."""
        return SPECTRAL_NOTE if self._has(_SpectralNorm) else ""

    @property
    def advice(self) -> str:
        """Which values it can hold, where that is known."""
        # Of more dims torch makes each matrix of the last two orthogonal, which is another thing.
        is_matrix = self.originals[0][1].ndim == 2
        return "Match it with orthogonal()" if is_matrix and self._has(_Orthogonal) else ""

    def read(self) -> Tensor:
        """The weight of an eval-mode forward."""
        with _evaluating(self.parametrizations):
            weight: Tensor = self.parametrizations()
        return weight

    def tried(self, value: Tensor) -> tuple[Sequence[Tensor], Tensor]:
        """The originals and the weight that a write would lead to, computed by copies."""
        # In one call, so that what the parametrizations share is shared by their copies.
        copies: list[nn.Module] = copy.deepcopy([*self.parametrizations])
        for parametrization in copies:
            parametrization.eval()
        originals = _inverse(copies, value)
        return originals, _forward(copies, originals)

    def store(self, value: Tensor) -> None:
        """Write the originals and whatever else right_inverse keeps, such as an orthogonal base."""
        with _evaluating(self.parametrizations):
            chain = [*self.parametrizations]
            held = [original for _, original in self.originals]
            # Copied, where torch's own assignment would replace the memory of the originals.
            for original, new in zip(held, _inverse(chain, value), strict=True):
                original.copy_(new)
            _forward(chain, held)
        # Inside parametrize.cached() the attribute would go on giving the weight from before.
        parametrize._cache.pop((id(self.module), self.attribute), None)

    def _has(self, kind: type[nn.Module]) -> bool:
        return any(isinstance(each, kind) for each in self.parametrizations)


def _inverse(chain: Sequence[Any], value: Tensor) -> Sequence[Tensor]:
    """The originals for a value, from the last parametrization back to the first."""
    for parametrization in reversed(chain):
        if not hasattr(parametrization, "right_inverse"):
            raise NotImplementedError
        value = parametrization.right_inverse(value)
    return (value,) if isinstance(value, Tensor) else tuple(value)


def _forward(chain: Sequence[Any], originals: Sequence[Tensor]) -> Tensor:
    """The weight for new originals; spectral norms look for their singular vectors anew."""
    inputs = originals
    for parametrization in chain:
        if isinstance(parametrization, _SpectralNorm) and inputs[0].ndim > 1:
            # Private: in public, iterations go on from vectors that suit the weight before.
            for vector in (parametrization._u, parametrization._v):
                start = torch.randn_like(vector, device="cpu")  # equal on every device
                vector.copy_(F.normalize(start, dim=0, eps=parametrization.eps))
            matrix = parametrization._reshape_weight_to_matrix(inputs[0])
            parametrization._power_method(matrix, POWER_ITERATIONS)
        inputs = (parametrization(*inputs),)
    return inputs[0]


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode for a module and all below it; each one's own mode afterwards."""
    modes = [(each, each.training) for each in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for each, mode in modes:
            each.training = mode
