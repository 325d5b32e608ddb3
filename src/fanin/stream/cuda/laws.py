"""The three laws for a kernel: words to numbers, as `fanin.stream.reference` states them.

``WIDE`` is float64, otherwise float32. The numbers of a law are int64, and hold the bits of floats
(`fanin.stream.cuda.numbers`).
"""

from __future__ import annotations

import triton
import triton.language as tl

from fanin.stream.cuda.elementary import as_float, cosine_sine, log_unit, quantile, sqrt_ieee
from fanin.stream.laws import UNIFORM

__all__ = ["normal_pair", "place", "truncated", "uniform"]

_UNIFORM = tl.constexpr(UNIFORM)


@triton.jit
def uniform(high, low, WIDE: tl.constexpr):
    """``u`` in [0, 1): 24 bits of the word, or 53 of two."""
    if WIDE:
        fraction = (high.to(tl.int64) << 21) | (low >> 11).to(tl.int64)
        return fraction.to(tl.float64) * 2.0**-53
    else:
        return (high >> 8).to(tl.int32).to(tl.float32) * 2.0**-24


@triton.jit
def normal_pair(first, second, first_low, second_low, WIDE: tl.constexpr):
    """``z`` of both members of a pair: ``r·cos θ`` and ``r·sin θ``."""
    if WIDE:
        u = (_double(first, first_low) + 0.5) * 2.0**-64
    else:
        u = (first.to(tl.float32) + 0.5) * 2.0**-32
    radius = sqrt_ieee(log_unit(u, WIDE) * -2.0, WIDE)
    cosine, sine = cosine_sine(second, second_low, WIDE)
    return radius * cosine, radius * sine


@triton.jit
def truncated(
    high, low, last, some, lower, upper, mass, TAIL: tl.constexpr, WIDE: tl.constexpr
):  # fmt: skip
    """``z`` between the bounds; draws up to ``last`` count from the lower end, if ``some`` do."""
    if WIDE:
        draw = (high.to(tl.uint64) << 32) | low.to(tl.uint64)
        below = (draw <= last.to(tl.uint64)) & (some != 0)
        steps = _double(
            tl.where(below, high, high ^ 0xFFFFFFFF), tl.where(below, low, low ^ 0xFFFFFFFF)
        )
        share = (steps + 0.5) * 2.0**-64
    else:
        below = (high <= last.to(tl.uint32)) & (some != 0)
        share = (tl.where(below, high, high ^ 0xFFFFFFFF).to(tl.float32) + 0.5) * 2.0**-32
    outside = tl.where(below, as_float(lower, WIDE), as_float(upper, WIDE))
    z = quantile(outside + share * as_float(mass, WIDE), TAIL, WIDE)
    return tl.where(below, -z, z)


@triton.jit
def place(
    standard, shift, scale, lowest, highest,
    KIND: tl.constexpr, CLAMPED: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """``shift + scale·standard``, held between two values if ``CLAMPED``."""
    value = as_float(shift, WIDE) + as_float(scale, WIDE) * standard
    if CLAMPED:
        low, high = as_float(lowest, WIDE), as_float(highest, WIDE)
        if KIND == _UNIFORM and not WIDE:
            # One instruction each. They tell −0 from +0, which the comparisons below do not: here
            # nothing is −0, for u >= 0, scale >= 0 and a law's limits are multiples of a quantum.
            value = tl.minimum(tl.maximum(value, low), high)
        else:
            value = tl.where(value < low, low, value)
            value = tl.where(value > high, high, value)
    return value


@triton.jit
def _double(high, low):
    return high.to(tl.float64) * 4294967296.0 + low.to(tl.float64)
