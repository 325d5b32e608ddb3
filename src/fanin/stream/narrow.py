"""float32 to a narrower float: one rounding to nearest even, saturating, in integer arithmetic.

Hardware and library casts differ in how they round, overflow and treat the fnuz formats, so every
engine does it on the bits, in the steps written here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fanin.errors import DtypeError

__all__ = ["FORMATS", "Format", "float_format", "narrow"]


@dataclass(frozen=True, slots=True)
class Format:
    """A binary floating-point format narrower than float32."""

    mantissa: int  # stored bits
    bias: int
    largest: int  # code of the largest finite value
    bits: int
    signed_zero: bool = True


FORMATS: dict[torch.dtype, Format] = {
    torch.float16: Format(10, 15, 0x7BFF, 16),
    torch.bfloat16: Format(7, 127, 0x7F7F, 16),
    torch.float8_e4m3fn: Format(3, 7, 0x7E, 8),
    torch.float8_e5m2: Format(2, 15, 0x7B, 8),
    torch.float8_e4m3fnuz: Format(3, 8, 0x7F, 8, signed_zero=False),
    torch.float8_e5m2fnuz: Format(2, 16, 0x7F, 8, signed_zero=False),
}


def float_format(dtype: torch.dtype) -> Format:
    """The format of a narrow dtype.

    Raises:
        DtypeError: for a dtype that holds no such floats.
    """
    try:
        return FORMATS[dtype]
    except KeyError:
        known = ", ".join(str(d).removeprefix("torch.") for d in FORMATS)
        raise DtypeError(
            f"dtype: random values are float32, float64, complex, or one of {known}. "
            f"Got {str(dtype).removeprefix('torch.')}. Initialise in one of these, then convert."
        ) from None


def narrow(value: Tensor, dtype: torch.dtype) -> Tensor:
    """A finite float32 tensor in a narrow dtype, rounded once."""
    target = float_format(dtype)
    raw = value.view(torch.int32).long()
    sign, magnitude = (raw >> 31) & 1, raw & 0x7FFFFFFF
    shift = 23 - target.mantissa
    rebias = (127 - target.bias) << 23

    half = (1 << (shift - 1)) - 1
    normal = (magnitude + half + ((magnitude >> shift) & 1) - rebias) >> shift

    # Below the smallest normal the quantum is fixed: shift the explicit significand further.
    exponent = (magnitude >> 23).clamp(min=1)
    significand = (magnitude & 0x7FFFFF) | torch.where(magnitude >> 23 > 0, 1 << 23, 0)
    further = (shift + (128 - target.bias) - exponent).clamp(1, 31)
    one = torch.ones_like(further)
    subnormal = (
        significand + (one << (further - 1)) - 1 + ((significand >> further) & 1)
    ) >> further

    smallest_normal = (128 - target.bias) << 23
    code = torch.where(magnitude >= smallest_normal, normal, subnormal).clamp(max=target.largest)
    if not target.signed_zero:
        sign = torch.where(code == 0, 0, sign)
    code = code | (sign << (target.bits - 1))
    signed = code - ((code >> (target.bits - 1)) << target.bits)
    return signed.to(torch.int16 if target.bits == 16 else torch.int8).view(dtype)
