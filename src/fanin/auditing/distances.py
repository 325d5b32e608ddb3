"""How far numbers are from a distribution, and how far chance may carry them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fanin.fills import Normal, TruncNormal, Uniform

__all__ = ["distance", "distance_limit", "is_spread", "two_sample_distance"]


def distance(sample: Tensor, fill: Uniform | Normal | TruncNormal, dtype: torch.dtype) -> float:
    """Kolmogorov's distance: the largest gap between the sample's distribution and the fill's.

    A value stands for all that rounds to it in ``dtype``: the gap counts where even the far end of
    that interval leaves one.

    Args:
        sample: one-dimensional, float64.
        fill: of a std, or width, above 0.
        dtype: to which the sample was rounded once.

    Example:
        >>> even = (torch.arange(100, dtype=torch.float64) + 0.5) / 100
        >>> round(distance(even, Uniform(0.0, 1.0), torch.float32), 4)
        0.005
        >>> round(distance(even, Uniform(0.0, 2.0), torch.float32), 4)
        0.5025
    """
    values = sample.sort().values
    info = torch.finfo(dtype)
    rounding = info.eps * (values.abs() + info.smallest_normal)
    ranks = torch.arange(len(values) + 1, dtype=torch.float64) / len(values)
    above = ranks[1:] - _below(fill, values + rounding)
    below = _below(fill, values - rounding) - ranks[:-1]
    return max(float(above.max()), float(below.max()), 0.0)


def two_sample_distance(sample: Tensor, other: Tensor) -> float:
    """The largest gap between the distributions of two samples."""
    places = torch.cat([sample, other]).sort().values
    shares = [
        torch.searchsorted(each.sort().values, places, right=True) / len(each)
        for each in (sample, other)
    ]
    return float((shares[0] - shares[1]).abs().max())


def distance_limit(count: int, chance: float) -> float:
    """The distance that so many independent draws exceed with at most this chance.

    ``2 exp(-2 n d²)``: it holds for every n (Dvoretzky, Kiefer and Wolfowitz, with Massart's
    constant), and in the far tail it is what Kolmogorov's series comes to.

    Example:
        >>> round(distance_limit(65536, 1e-7), 4)
        0.0113
    """
    return math.sqrt(math.log(2 / chance) / (2 * count))


def is_spread(fill: object) -> bool:
    """Whether a fill is a distribution that is not all in one point.

    Example:
        >>> is_spread(Normal(0.0, 0.02)), is_spread(Normal(0.0, 0.0))
        (True, False)
    """
    match fill:
        case Uniform():
            return fill.low < fill.high
        case Normal():
            return fill.std > 0
        case TruncNormal():
            return fill.parent_std > 0 and fill.low < fill.high
    return False


def _below(fill: Uniform | Normal | TruncNormal, x: Tensor) -> Tensor:
    """The fill's distribution function."""
    match fill:
        case Uniform():
            return _clamped((x - fill.low) / (fill.high - fill.low))
        case Normal():
            return _mass_below((x - fill.mean) / fill.std)
        case TruncNormal():
            ends = torch.tensor([fill.low, fill.high], dtype=torch.float64)
            ends, z = ((each - fill.mean) / fill.parent_std for each in (ends, x))
            if ends[0] > 0:  # small masses, exact from above only: 1 - p is as much from below
                (low, high), at = _mass_below(-ends), _mass_below(-z)
            else:
                (low, high), at = _mass_below(ends), _mass_below(z)
            return _clamped((at - low) / (high - low))


def _mass_below(z: Tensor) -> Tensor:
    """Of the standard normal."""
    mass: Tensor = torch.special.ndtr(z)
    return mass


def _clamped(mass: Tensor) -> Tensor:
    return mass.clamp(0, 1)
