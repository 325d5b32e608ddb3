"""Faults that show when a batch goes through: FAN401 to FAN409."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from faults_table import Fault
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["SIGNAL_FAULTS"]

WIDTH = 128


def mlp(depth: int, *, std: float, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    torch.manual_seed(depth)
    hidden = [
        layer() for _ in range(depth) for layer in (lambda: nn.Linear(WIDTH, WIDTH), activation)
    ]
    model = nn.Sequential(*hidden, nn.Linear(WIDTH, 10))
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)
    return model


def batch() -> Tensor:
    return torch.randn(16, WIDTH, generator=torch.Generator().manual_seed(0))


def cross_entropy(logits: Any) -> Tensor:
    return F.cross_entropy(logits, torch.arange(16) % 10)


HE = (2 / WIDTH) ** 0.5


def explodes() -> nn.Module:
    """The tutorial's `torch.randn` weights (pain 26's counterpart)."""
    return mlp(30, std=1.0)


def vanishes() -> nn.Module:
    """The tutorial's `torch.randn * 0.01` weights."""
    return mlp(30, std=0.01)


def torch_default() -> nn.Module:
    """Fifty layers of torch's own default (pain 26)."""
    torch.manual_seed(0)
    layers = [layer() for _ in range(50) for layer in (lambda: nn.Linear(WIDTH, WIDTH), nn.ReLU)]
    return nn.Sequential(*layers, nn.Linear(WIDTH, 10))


def dead_units() -> nn.Module:
    model = mlp(3, std=HE)
    nn.init.constant_(model[2].bias, -4.0)
    return model


def saturated() -> nn.Module:
    return mlp(3, std=1.0, activation=nn.Tanh)


class Unused(nn.Module):
    """A branch that forward forgot."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.used = nn.Linear(WIDTH, 10)
        self.forgotten = nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x)


class Rounded(nn.Module):
    """A straight-through estimator without its straight way."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.code = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.round(self.code(x)))


class RoundedBesideZero(Rounded):
    """The same, with a branch of zeros that has nothing to do with it."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Linear(WIDTH, 10, bias=False)
        nn.init.zeros_(self.branch.weight)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.branch(torch.round(self.code(x)))


class Maxout(nn.Module):
    """Units of 16 pieces each, of which a bias lets the first win for every input."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.pieces = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH // 16, 10)
        with torch.no_grad():
            self.pieces.bias.zero_().view(-1, 16)[:, 0] = 9.0

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pieces(x).unflatten(1, (-1, 16)).amax(2))


def confident_head() -> nn.Module:
    model = mlp(2, std=HE)
    nn.init.normal_(model[-1].weight, std=1.0)
    return model


def deaf() -> nn.Module:
    """A bias beside which the weights do not count."""
    model = mlp(2, std=HE)
    nn.init.normal_(model[-1].weight, std=1e-12)
    nn.init.uniform_(model[-1].bias, 1.0, 2.0)
    return model


class Divides(nn.Module):
    """A normalisation without epsilon, of something that is zero."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(WIDTH, WIDTH, bias=False)
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x * 0)
        return self.head(torch.tanh(y / y.std()))


def _fault(code: str, name: str, build: Callable[[], nn.Module], **more: Any) -> Fault:
    return Fault(code, name, build, inputs=batch, **more)


SIGNAL_FAULTS = (
    _fault("FAN401", "randn", explodes, where="0"),
    _fault("FAN402", "randn_small", vanishes, where="0"),
    _fault("FAN402", "torch_default", torch_default),
    _fault("FAN403", "negative_bias", dead_units, where="2"),
    _fault("FAN404", "tanh", saturated, where="0"),
    _fault("FAN405", "unused", Unused, where="forgotten.weight"),
    _fault("FAN405", "rounded", Rounded, where="code.weight"),
    _fault("FAN405", "rounded_beside_zero", RoundedBesideZero, where="code.weight"),
    _fault("FAN406", "maxout", Maxout, where="pieces.weight"),
    _fault("FAN407", "confident_head", confident_head, where="4", loss=cross_entropy),
    _fault("FAN408", "deaf", deaf),
    _fault("FAN408", "torch_default_outputs", torch_default),
    _fault("FAN409", "division", Divides),
)
