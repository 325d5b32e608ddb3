"""float32 to a narrower float for a kernel: the steps of `fanin.stream.narrow`, on uint32."""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["narrow"]


@triton.jit
def narrow(
    value,
    MANTISSA: tl.constexpr,
    BIAS: tl.constexpr,
    LARGEST: tl.constexpr,
    WIDTH: tl.constexpr,
    SIGNED_ZERO: tl.constexpr,
):
    """The code of each finite float32, rounded once; uint32. The arguments are a `Format`."""
    raw = value.to(tl.uint32, bitcast=True)
    magnitude = raw & 0x7FFFFFFF
    shift: tl.constexpr = 23 - MANTISSA
    half: tl.constexpr = (1 << (shift - 1)) - 1
    rebias: tl.constexpr = (127 - BIAS) << 23
    smallest_normal: tl.constexpr = (128 - BIAS) << 23
    code = (magnitude + half + ((magnitude >> shift) & 1) - rebias) >> shift
    if BIAS != 127:
        # Below the smallest normal the quantum is fixed: shift the explicit significand further.
        # (float32's own subnormals round to zero here, whatever their significand.)
        significand = (magnitude & 0x7FFFFF) | 0x800000
        above = (magnitude >> 23).to(tl.int32)
        further = shift + 128 - BIAS - above
        further = tl.where(further < 1, 1, further)  # of a normal number: not used
        further = tl.where(further > 31, 31, further).to(tl.uint32)
        one = (further ^ further) + 1
        round_up = (one << (further - 1)) - 1 + ((significand >> further) & 1)
        code = tl.where(magnitude >= smallest_normal, code, (significand + round_up) >> further)
    code = tl.where(code > LARGEST, LARGEST, code)
    sign = (raw >> 31) << (WIDTH - 1)
    if not SIGNED_ZERO:
        sign = tl.where(code == 0, 0, sign)
    return (code | sign).to(tl.uint32)
