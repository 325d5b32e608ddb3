"""Fills that users' own functions make, and where these functions come from."""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from fanin.errors import ArgumentError
from fanin.fills.elementwise import Constant, Normal, TruncNormal, Uniform
from fanin.fills.fill import Fill

__all__ = ["FromFunction", "Mapped", "call", "origin_of"]

# Midpoint quantiles that a mapped distribution's moments are taken over; a function with a jump is
# then off by one part in 2¹⁵ of the mass.
_QUANTILES = 1 << 14
_SAMPLE = 64  # quantiles on which a mapped function is tried


@dataclass(frozen=True, slots=True)
class Mapped(Fill):
    """``function`` applied to every entry of ``base``."""

    base: Fill
    function: Callable[[Tensor], Tensor]
    name: ClassVar[str] = "mapped"

    def __post_init__(self) -> None:
        _check_elementwise(self)

    def apply(self, values: Tensor) -> Tensor:
        """The function of values of the base.

        Raises:
            ArgumentError: when it raises, or returns anything but a tensor of their shape.
        """
        return call(self, values.shape, values)

    def moments(self, shape: tuple[int, ...]) -> tuple[float, float]:
        """Of the function over the base's quantiles; nan for a base that is no distribution."""
        quantiles = _quantiles(self.base, _QUANTILES)
        if quantiles is None:
            return math.nan, math.nan
        values = self.apply(quantiles.float()).double()
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


def call(fill: Mapped | FromFunction, shape: Sequence[int], *args: Any, **named: Any) -> Tensor:
    """The fill's function of these arguments, which is to be a tensor of this shape.

    None stands for the first argument, which the function has written into.
    """
    origin = origin_of(fill.function)
    try:
        value = fill.function(*args, **named)
    except Exception as error:
        raise ArgumentError(
            f"{fill.name}: the function returns a tensor. Got {type(error).__name__}: {error} from "
            f"{origin} for a tensor of shape {tuple(shape)}."
        ) from error
    if value is None and isinstance(fill, FromFunction):
        value = args[0]
    if isinstance(value, Tensor) and value.shape == torch.Size(shape):
        return value
    got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
    raise ArgumentError(
        f"{fill.name}: the function returns a tensor of the shape it got. Got {got} from {origin} "
        f"for {tuple(shape)}. A function of the whole tensor goes into from_function."
    )


def _check_elementwise(fill: Mapped) -> None:
    """Refuse a function whose value for an entry depends on what other entries there are."""
    sample = _quantiles(fill.base, _SAMPLE)
    values = torch.linspace(-2, 2, _SAMPLE) if sample is None else sample.float()
    values = values.reshape(8, -1).T.reshape(-1)  # in no order that a sort would keep
    with torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        together = fill.apply(values.clone())
        is_random = not torch.equal(torch.get_rng_state(), before)
        apart = torch.cat([fill.apply(piece.clone()) for piece in torch.split(values, 16)])
    # Other lengths may round otherwise in the last digit.
    if is_random or not torch.allclose(together, apart, rtol=1e-4, equal_nan=True):
        raise ArgumentError(
            f"mapped: a function is applied entry by entry. Got {origin_of(fill.function)}, whose "
            "value for an entry depends on the others, or on chance. Use from_function."
        )
    if together.isnan().any():
        at = float(values[together.isnan()][0])
        raise ArgumentError(
            f"mapped: the function has a value everywhere. Got NaN from "
            f"{origin_of(fill.function)} at {at:.4g}. Clamp its argument."
        )


def _quantiles(base: Fill, count: int) -> Tensor | None:
    """Values at evenly spread probabilities, in float64; None for what is no distribution."""
    p = (torch.arange(count, dtype=torch.float64, device="cpu") + 0.5) / count
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
            inner = _quantiles(base.base, count)
            return None if inner is None else base.apply(inner.float()).double()
    return None


def _truncated_quantiles(p: Tensor, mean: float, std: float, low: float, high: float) -> Tensor:
    """From the lower tail of the mirrored normal where the interval is above the mean."""
    if low > mean:
        return 2 * mean - _truncated_quantiles(p, mean, std, 2 * mean - high, 2 * mean - low)
    bounds = torch.tensor([(low - mean) / std, (high - mean) / std], dtype=p.dtype, device="cpu")
    below, above = torch.special.ndtr(bounds)
    standard: Tensor = torch.special.ndtri(below + (above - below) * p)
    return mean + std * standard
