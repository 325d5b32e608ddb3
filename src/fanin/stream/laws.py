"""Laws: a distribution with every number an engine needs, for one real dtype.

What is derived from a user's numbers (tail masses, the range a dtype can represent) is formed here
once, in float64, and rounded to 32 significant bits, so engines only add, multiply and compare.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch

from fanin.errors import ArgumentError
from fanin.stream.narrow import float_format

__all__ = [
    "NORMAL",
    "TRUNCATED",
    "UNIFORM",
    "Law",
    "derived",
    "normal_law",
    "require_finite",
    "truncated_law",
    "uniform_law",
]

UNIFORM, NORMAL, TRUNCATED = range(3)

FARTHEST_BOUND = 12.0  # σ; beyond it the mass between the bounds leaves float32's range


@dataclass(slots=True, eq=False)
class Law:
    """One distribution of one real dtype, as numbers.

    uniform: ``shift + scale·u``; normal and truncated normal: ``shift + scale·z``; all clamped to
    ``[lowest, highest]``. ``lower`` and ``upper`` are the masses outside the two bounds, ``mass``
    the mass between, ``switch`` the number of integer draws counted from the lower end.
    """

    kind: int
    dtype: torch.dtype
    shift: float
    scale: float
    lowest: float = -math.inf
    highest: float = math.inf
    lower: float = 0.0
    upper: float = 0.0
    mass: float = 1.0
    switch: int = 0
    native: Any = field(default=None, repr=False)  # the native engine's copy, made on first use


def derived(x: float) -> float:
    """``x`` rounded to 32 significant bits: what two correct math libraries agree on."""
    if math.isinf(x):
        return x
    mantissa, exponent = math.frexp(x)
    return math.ldexp(round(math.ldexp(mantissa, 32)), exponent - 32)


@lru_cache(maxsize=1024)
def uniform_law(low: float, high: float, dtype: torch.dtype) -> Law:
    """``low + (high − low)·u``, clamped to the values of ``dtype`` in ``[low, high)``."""
    largest = _grid(dtype)[2]
    span = high - low
    if not (-largest <= low <= high <= largest and span <= largest):
        raise ArgumentError(
            f"uniform: low <= high, and low, high and high - low must be finite in the tensor's "
            f"dtype. Got low={low}, high={high} for {_name(dtype)}."
        )
    if span == 0:
        return Law(UNIFORM, dtype, low + 0.0, 0.0)  # + 0.0: never −0, which the cache takes for 0
    lowest = _smallest_at_least(low, dtype)
    highest = _largest_at_most(math.nextafter(high, -math.inf), dtype)
    _require_a_value("uniform", f"[{low}, {high})", lowest, highest, dtype)
    return Law(UNIFORM, dtype, low + 0.0, span, lowest, highest)


@lru_cache(maxsize=1024)
def normal_law(mean: float, std: float, dtype: torch.dtype) -> Law:
    """``mean + std·z``."""
    _grid(dtype)
    require_finite("normal", dtype, mean=mean, std=std)
    return Law(NORMAL, dtype, mean + 0.0, std)


@lru_cache(maxsize=1024)
def truncated_law(mean: float, std: float, low: float, high: float, dtype: torch.dtype) -> Law:
    """``mean + std·z`` with z a normal conditioned on the bounds, which are absolute."""
    if not low <= high:
        raise ArgumentError(f"trunc_normal: low <= high. Got [{low}, {high}].")
    if low == high:
        require_finite("trunc_normal", dtype, low=low)
        return Law(NORMAL, dtype, low + 0.0, 0.0)
    lowest, highest = _smallest_at_least(low, dtype), _largest_at_most(high, dtype)
    _require_a_value("trunc_normal", f"[{low}, {high}]", lowest, highest, dtype)
    if std == 0:
        require_finite("trunc_normal", dtype, mean=mean)
        return Law(NORMAL, dtype, min(max(mean, low), high) + 0.0, 0.0, lowest, highest)
    alpha, beta = (low - mean) / std, (high - mean) / std
    if max(alpha, -beta) > FARTHEST_BOUND:
        raise ArgumentError(
            f"trunc_normal: the nearer bound must be within {FARTHEST_BOUND:g} std of the mean. "
            f"Got [{low}, {high}] for mean={mean}, std={std}. Move the mean or widen the bounds."
        )
    if beta - alpha < _narrowest(dtype):
        require_finite("trunc_normal", dtype, low=low, **{"high - low": high - low})
        return Law(UNIFORM, dtype, low + 0.0, high - low, lowest, highest)
    require_finite("trunc_normal", dtype, mean=mean, std=std)
    lower, upper = derived(_tail(-alpha)), derived(_tail(beta))
    mass = derived(_mass_between(alpha, beta))
    steps = 2**64 if dtype == torch.float64 else 2**32
    switch = min(max(math.floor((0.5 - lower) / mass * steps), 0), steps)
    return Law(TRUNCATED, dtype, mean + 0.0, std, lowest, highest, lower, upper, mass, switch)


def _narrowest(dtype: torch.dtype) -> float:
    """σ between two bounds, below which the part of the normal between them is drawn as uniform.

    Around the mean, probabilities are multiples of 2⁻²⁵ (2⁻⁵⁴ in float64) and the density is 0.4:
    at this width the quantile has some 200 distinct values left. The density changes by less than
    12·2⁻¹⁶ between the bounds, so a uniform's distribution function is off by at most 2.3e-5, and
    by 2e-11 for bounds around the mean.
    """
    return 2.0**-45 if dtype == torch.float64 else 2.0**-16


def require_finite(what: str, dtype: torch.dtype, **numbers: float) -> None:
    """Refuse a number that the arithmetic would take for infinity: ``inf·0`` is NaN.

    Raises:
        ArgumentError: for it.
    """
    largest = torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32).max
    for name, value in numbers.items():
        if not abs(value) <= largest:
            raise ArgumentError(
                f"{what}: {name} must be finite in the arithmetic of the tensor's dtype. Got "
                f"{name}={value} for {_name(dtype)}. Use a smaller number or a wider dtype."
            )


def _tail(x: float) -> float:
    """Mass of the standard normal above ``x``."""
    return 0.5 * math.erfc(x / math.sqrt(2))


def _mass_between(alpha: float, beta: float) -> float:
    """Mass of the standard normal on ``[alpha, beta]``, without cancellation."""
    if beta - alpha < 0.25:  # the difference would cancel: integrate the density instead
        half = (beta - alpha) / 2
        middle = alpha + half
        density = [
            weight
            * (
                math.exp(-0.5 * (middle + half * x) ** 2)
                + math.exp(-0.5 * (middle - half * x) ** 2)
            )
            for x, weight in _GAUSS_LEGENDRE_8
        ]
        return half * math.fsum(density) / math.sqrt(2 * math.pi)
    if alpha > 0:
        return _tail(alpha) - _tail(beta)
    if beta < 0:
        return _tail(-beta) - _tail(-alpha)
    return 1 - _tail(-alpha) - _tail(beta)


# Positive nodes and weights of the 8-point rule; its error here is below 1e-16 of the mass.
_GAUSS_LEGENDRE_8 = (
    (0.18343464249564980, 0.36268378337836198),
    (0.52553240991632899, 0.31370664587788729),
    (0.79666647741362674, 0.22238103445337447),
    (0.96028985649753623, 0.10122853629037626),
)


def _grid(dtype: torch.dtype) -> tuple[int, int, float]:
    """Bits of the significand, exponent of the smallest normal, largest value."""
    if dtype not in (torch.float32, torch.float64):
        target = float_format(dtype)  # torch.finfo halves the eps of float8_e5m2fnuz
        return target.mantissa + 1, 1 - target.bias, torch.finfo(dtype).max
    info = torch.finfo(dtype)
    return 1 - round(math.log2(info.eps)), round(math.log2(info.smallest_normal)), info.max


def _quantum(x: float, dtype: torch.dtype) -> float:
    """Distance of neighbouring values of ``dtype`` around ``x``."""
    digits, smallest, _ = _grid(dtype)
    exponent = math.frexp(x)[1] - 1 if x else smallest
    return math.ldexp(1.0, max(exponent, smallest) - digits + 1)


def _smallest_at_least(x: float, dtype: torch.dtype) -> float:
    return 0.0 - _largest_at_most(-x, dtype)  # never −0, which a clamp would hand on


def _largest_at_most(x: float, dtype: torch.dtype) -> float:
    largest = _grid(dtype)[2]
    if x >= largest:
        return largest if math.isfinite(x) else x
    if x < -largest:
        return -math.inf
    quantum = _quantum(x, dtype)
    return math.floor(x / quantum) * quantum


def _require_a_value(
    what: str, interval: str, lowest: float, highest: float, dtype: torch.dtype
) -> None:
    if not lowest <= highest or lowest == math.inf or highest == -math.inf:
        raise ArgumentError(
            f"{what}: the interval must hold a value of the tensor's dtype. Got {interval} for "
            f"{_name(dtype)}. Widen the interval or use a wider dtype."
        )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
