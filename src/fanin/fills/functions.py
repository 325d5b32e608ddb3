"""Fills that users' own functions make, and where these functions come from."""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from fanin.fills.elementwise import Constant, Normal, TruncNormal, Uniform
from fanin.fills.fill import Fill

__all__ = ["FromFunction", "Mapped", "origin_of"]

# Midpoint quantiles that a mapped distribution's moments are taken over; a function with a jump is
# then off by one part in 2¹⁵ of the mass.
_QUANTILES = 1 << 14


@dataclass(frozen=True, slots=True)
class Mapped(Fill):
    """``function`` applied to every entry of ``base``."""

    base: Fill
    function: Callable[[Tensor], Tensor]
    name: ClassVar[str] = "mapped"

    def moments(self, shape: tuple[int, ...]) -> tuple[float, float]:
        """Of the function over the base's quantiles; nan for a base that is no distribution."""
        quantiles = _quantiles(self.base)
        if quantiles is None:
            return math.nan, math.nan
        values = self.function(quantiles.float()).double()
        return float(values.mean()), float(values.std(correction=0))

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "base": self.base.to_json(),
            "function": origin_of(self.function),
        }


@dataclass(frozen=True, slots=True)
class FromFunction(Fill):
    """Whatever ``function(tensor, generator=generator)`` writes into the whole tensor."""

    function: Callable[..., Any]
    name: ClassVar[str] = "from_function"

    def moments(self, shape: tuple[int, ...]) -> tuple[float, float]:
        return math.nan, math.nan

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "function": origin_of(self.function)}


def origin_of(function: Callable[..., Any]) -> str:
    """``module:name@digest``: where a function is from, and a digest of its source.

    Two functions of one name and another text differ in their digest; values that a function
    closes over are not part of it.

    Example:
        >>> origin_of(math.sqrt)
        'math:sqrt'
    """
    if isinstance(function, partial):
        arguments = [
            *map(repr, function.args),
            *(f"{k}={v!r}" for k, v in function.keywords.items()),
        ]
        return f"{origin_of(function.func)}({', '.join(arguments)})"
    named = function if hasattr(function, "__qualname__") else type(function)
    place = f"{named.__module__}:{named.__qualname__}"
    try:
        source = inspect.getsource(named)
    except (OSError, TypeError):  # builtin, or typed into an interpreter that keeps no source
        code = getattr(named, "__code__", None)
        if code is None:
            return place
        source = f"{code.co_code!r}{code.co_consts!r}{code.co_names!r}"
    return f"{place}@{hashlib.blake2b(source.encode(), digest_size=4).hexdigest()}"


def _quantiles(base: Fill) -> Tensor | None:
    """Values at evenly spread probabilities, in float64; None for what is no distribution."""
    p = (torch.arange(_QUANTILES, dtype=torch.float64, device="cpu") + 0.5) / _QUANTILES
    match base:
        case Constant(value):
            return torch.full_like(p, value)
        case Uniform(low, high):
            return low + (high - low) * p
        case Normal(mean, std):
            standard: Tensor = torch.special.ndtri(p)
            return mean + std * standard
        case TruncNormal(mean, std, low, high):
            return (
                _truncated_quantiles(p, mean, std, low, high) if std else torch.full_like(p, mean)
            )
        case Mapped():
            inner = _quantiles(base.base)
            return None if inner is None else base.function(inner.float()).double()
    return None


def _truncated_quantiles(p: Tensor, mean: float, std: float, low: float, high: float) -> Tensor:
    """From the lower tail of the mirrored normal where the interval is above the mean."""
    if low > mean:
        return 2 * mean - _truncated_quantiles(p, mean, std, 2 * mean - high, 2 * mean - low)
    bounds = torch.tensor([(low - mean) / std, (high - mean) / std], dtype=p.dtype, device="cpu")
    below, above = torch.special.ndtr(bounds)
    standard: Tensor = torch.special.ndtri(below + (above - below) * p)
    return mean + std * standard
