"""`critical` and `edge_of_chaos`: the sigmas at which gradients keep their size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from fanin.errors import ArgumentError
from fanin.flow.meanfield.field import LARGEST, checked_number
from fanin.flow.meanfield.lengths import NEUTRAL, bisect
from fanin.flow.meanfield.moments import Moments, Nonlinearity, Param, moments_of, worked_out
from fanin.gains.quadrature import Array

__all__ = ["Critical", "attracts", "critical", "edge_curve", "edge_of_chaos"]

_FLAT = 1e-12  # of the mean square slope at length 1: no sigma_w makes up for less
_DEFAULT = tuple(10.0 ** (i / 12) for i in range(-48, 49))  # 1e-4 … 1e4


class Critical(NamedTuple):
    """A point of the edge of chaos.

    Args:
        sigma_w: of the weights, times √fan_in.
        sigma_b: of the biases.
        q: the fixed mean square of a layer's outputs; NaN where every length is kept.
    """

    sigma_w: float
    sigma_b: float
    q: float


def critical(nonlinearity: Nonlinearity, *, sigma_b: float = 0.0, param: Param = None) -> Critical:
    """The weight scale at which gradients neither vanish nor explode in a wide random network.

    ``σ_w² E f'(√q z)² = 1`` at the fixed point ``q = σ_w² E f(√q z)² + σ_b²`` of lengths. Where
    there are several for one ``sigma_b``, a fixed point that attracts lengths is preferred, then
    the shortest. gelu, silu and their kin have none that attracts for small ``sigma_b``; what is
    returned is then left by lengths, slowly: ``mean_field(f, sigma_w=..., sigma_b=...,
    start=q).length_slope`` is above 1.

    Args:
        nonlinearity: a name, an elementwise function or a module, as `fanin.gain` takes it.
        sigma_b: of the biases.
        param: of the named function.

    Returns:
        ``(sigma_w, sigma_b, q)``. q is NaN for relu, which keeps every length, and 0 for others
        without biases: lengths of tanh shrink to it like 1 / depth, but those of gelu, silu and
        mish grow away from it without bound. Give these a ``sigma_b``.

    Raises:
        ArgumentError: when the edge of chaos has no point with this ``sigma_b``, as for relu with
            any but 0; and as for `mean_field`.

    Example:
        >>> sigma_w, sigma_b, q = critical("tanh", sigma_b=0.05**0.5)
        >>> round(sigma_w**2, 2), round(q, 2)
        (1.76, 0.57)
        >>> round(critical("relu").sigma_w ** 2, 12)
        2.0

    Source: Poole et al. 2016, arXiv:1606.05340; Schoenholz et al. 2017, arXiv:1611.01232; Hayou
        et al. 2019, arXiv:1902.06853.
    """
    sigma_b = checked_number("critical", "sigma_b", sigma_b, lowest=0.0, highest=LARGEST)
    moments = moments_of(nonlinearity, param)
    return worked_out(lambda: _solved(moments, sigma_b))


def edge_of_chaos(
    nonlinearity: Nonlinearity, *, lengths: Sequence[float] = _DEFAULT, param: Param = None
) -> tuple[Critical, ...]:
    """The curve of all `critical` points, by the fixed length q that each has.

    ``σ_w² = 1 / E f'(√q z)²`` and ``σ_b² = q - σ_w² E f(√q z)²``: no equation is left to solve.

    Args:
        nonlinearity: as for `critical`.
        lengths: values of q.
        param: of the named function.

    Returns:
        A point for each length that has one, that is where σ_b² is not negative.

    Raises:
        ArgumentError: for a length that is no positive number; and as for `critical`.

    Example:
        >>> edge = edge_of_chaos("tanh", lengths=[1 / 64])
        >>> [(round(p.sigma_w**2, 2), round(p.sigma_b**2, 7)) for p in edge]
        [(1.03, 4.7e-06)]

    Source: Hayou et al. 2019, arXiv:1902.06853.
    """
    if not isinstance(lengths, Iterable):
        raise ArgumentError(
            f"edge_of_chaos: lengths are several numbers. Got {lengths!r} for lengths. "
            "Write them as a list, also one alone: lengths=[0.5]."
        )
    checked = [
        checked_number("edge_of_chaos", "a length", q, lowest=0.0, may_be_lowest=False)
        for q in lengths
    ]
    moments = moments_of(nonlinearity, param)
    return worked_out(lambda: edge_curve(moments, checked))


def edge_curve(moments: Moments, lengths: Sequence[float]) -> tuple[Critical, ...]:
    """The points of the edge with these lengths, where there are such."""
    found = []
    for q in lengths:
        slope = moments.slope_square(q)
        share = _bias_share(moments, moments.square(q) / q, slope)
        if share >= 0:
            found.append(Critical(1 / math.sqrt(slope), math.sqrt(share * q), q))
    return tuple(found)


def attracts(moments: Moments, q: float) -> bool:
    """Whether lengths come closer to this one at the point of the edge that has it."""
    return abs(moments.growth(q)) < moments.slope_square(q)


def _solved(moments: Moments, sigma_b: float) -> Critical:
    table = moments.table
    pairs = zip(table.ratio, table.slope, strict=True)
    share = np.array([_bias_share(moments, ratio, slope) for ratio, slope in pairs])
    if not share.any():  # f is homogeneous: every length is kept
        sigma_w = 1 / math.sqrt(float(table.slope[-1]))
        if sigma_b > 0:
            raise ArgumentError(
                "critical: a function with f(a x) = a f(x) for a > 0 is critical without biases "
                f"alone. Got sigma_b={sigma_b:g} for {moments.f.label}. Leave sigma_b out: "
                f"sigma_w is {sigma_w:.6g}."
            )
        return Critical(sigma_w, 0.0, math.nan)
    lengths = _roots(moments, table.q, share, sigma_b)
    if not lengths:
        raise _nowhere(moments, np.sqrt(np.maximum(share, 0) * table.q), sigma_b)
    q = next((q for q in lengths if attracts(moments, q)), lengths[0])
    return Critical(1 / math.sqrt(moments.slope_square(q)), sigma_b, q)


def _roots(moments: Moments, q: Array, share: Array, sigma_b: float) -> list[float]:
    """The lengths at which the edge has this sigma_b, the shortest first."""

    def missing(length: float) -> float:
        ratio, slope = moments.square(length) / length, moments.slope_square(length)
        return _bias_share(moments, ratio, slope) - sigma_b**2 / length

    found: list[float] = []
    at_zero = moments.slope_square(0.0)
    if sigma_b == 0 and moments.square(0.0) == 0 and _bias_share(moments, at_zero, at_zero) == 0:
        found.append(0.0)
    left = share - sigma_b**2 / q
    for i in range(1, len(q)):
        before, here = left[i - 1 : i + 1]
        if math.isfinite(before) and (before < 0 < here or here < 0 < before):
            found.append(bisect(missing, float(q[i - 1]), float(q[i])))
    return found


def _nowhere(moments: Moments, sigma_b: Array, asked: float) -> ArgumentError:
    """For a sigma_b that no point of the edge has; ``sigma_b`` are those that some have."""
    rule = "critical: for some sigma_w the fixed point of lengths has χ₁ = 1"
    got = f"Got sigma_b={asked:g} for {moments.f.label}"
    if not sigma_b.any():
        return ArgumentError(
            f"{rule}. {got}, whose lengths grow without bound wherever χ₁ is 1: its mean is too "
            "far from 0. Choose another nonlinearity, or subtract its mean."
        )
    low, high = sigma_b[sigma_b > 0].min(), sigma_b.max()
    return ArgumentError(
        f"{rule}. {got}, whose edge of chaos has sigma_b from {low:.3g} to {high:.3g}. "
        "Choose one of those."
    )


def _bias_share(moments: Moments, ratio: float, slope: float) -> float:
    """σ_b² / q on the edge; exactly 0 where f is homogeneous up to rounding, -∞ where f is flat."""
    if slope <= _FLAT * moments.typical_slope_square:
        return -math.inf
    share = 1 - ratio / slope
    return 0.0 if abs(share) < NEUTRAL else share
