"""Functions that act as activations: every spelling that torch has for them, and their ranges."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["activation_name", "range_of"]


def activation_name(function: Callable[..., Any]) -> str | None:
    """``"relu"`` for `F.relu`, `torch.relu`, `torch.relu_`, ``Tensor.relu``; None for others."""
    return _NAMES.get(function)


def range_of(
    name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[float, float] | None:
    """Bounds of an activation that flattens towards both of them; None where it has none.

    The softmax has bounds too, and is at 0 for most of many classes by design: no saturation.
    """
    if name != "hardtanh":
        return _RANGES.get(name)
    given = {"min_val": -1.0, "max_val": 1.0}
    given |= dict(zip(given, args[1:3], strict=False)) | dict(kwargs)
    return float(given["min_val"]), float(given["max_val"])


_RANGES = {
    "tanh": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
    "sigmoid": (0.0, 1.0),
    "expit": (0.0, 1.0),
    "hardsigmoid": (0.0, 1.0),
    "relu6": (0.0, 6.0),
}

_ACTIVATIONS = (
    *("relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "celu", "selu", "threshold"),
    *("gelu", "silu", "mish", "hardswish", "glu", "softplus", "sin"),
    *("sigmoid", "expit", "hardsigmoid", "logsigmoid", "tanh", "hardtanh", "softsign"),
    *("tanhshrink", "softshrink", "hardshrink"),
    *("softmax", "softmin", "log_softmax", "gumbel_softmax"),
)


def _spellings() -> dict[Callable[..., Any], str]:
    """Function to name; those in place have the name of the others."""
    owners: tuple[Any, ...] = (torch, F, Tensor, torch.special)
    return {
        function: name
        for name in _ACTIVATIONS
        for spelling in (name, f"{name}_")
        for owner in owners
        if (function := getattr(owner, spelling, None)) is not None
    }


_NAMES = _spellings()
