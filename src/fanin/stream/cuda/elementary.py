"""Logarithm, cosine, sine and normal quantile for a kernel: the operations of the reference.

`fanin.stream.elementary` is the specification, and its tables are the ones used here. ``WIDE`` is
float64, otherwise float32. Coefficients enter as the bits of a float: Triton would take a Python
float for a float32. Division and square root of float32 are asked for by name, since the plain
ones are approximations; those of float64 are IEEE, and have no other name.
"""

from __future__ import annotations

import numpy as np
import triton
import triton.language as tl

from fanin.stream.elementary import _FLOAT32, _FLOAT64, CENTRAL

__all__ = ["as_float", "cosine_sine", "log_unit", "quantile", "sqrt_ieee"]

_CENTRAL = tl.constexpr(CENTRAL)  # eight bits: exact in float32


def _bits32(*numbers: float) -> tl.constexpr:
    """How many float32 numbers, and the bits of each."""
    return tl.constexpr((len(numbers), *np.array(numbers, np.float32).view(np.int32).tolist()))


def _bits64(*numbers: float) -> tl.constexpr:
    """How many float64 numbers, and the bits of each."""
    return tl.constexpr((len(numbers), *np.array(numbers, np.float64).view(np.int64).tolist()))


_ROOT_HALF_32, _ROOT_HALF_64 = tl.constexpr(_FLOAT32.root_half), tl.constexpr(_FLOAT64.root_half)
_LN2_32, _LN2_64 = _bits32(_FLOAT32.ln2), _bits64(_FLOAT64.ln2)
_LOG_32, _LOG_64 = _bits32(*_FLOAT32.log), _bits64(*_FLOAT64.log)
_SIN_32, _SIN_64 = _bits32(*_FLOAT32.sin), _bits64(*_FLOAT64.sin)
_COS_32, _COS_64 = _bits32(*_FLOAT32.cos), _bits64(*_FLOAT64.cos)
_CENTRAL_N_32 = _bits32(*_FLOAT32.central_numerator)
_CENTRAL_N_64 = _bits64(*_FLOAT64.central_numerator)
_CENTRAL_D_32 = _bits32(*_FLOAT32.central_denominator)
_CENTRAL_D_64 = _bits64(*_FLOAT64.central_denominator)
_TAIL_N_32, _TAIL_N_64 = _bits32(*_FLOAT32.tail_numerator), _bits64(*_FLOAT64.tail_numerator)
_TAIL_D_32, _TAIL_D_64 = _bits32(*_FLOAT32.tail_denominator), _bits64(*_FLOAT64.tail_denominator)


@triton.jit
def log_unit(u, WIDE: tl.constexpr):
    """Natural logarithm of positive normal floats; ``ln 1 = +0``."""
    return _log(u, 0, WIDE)


@triton.jit
def cosine_sine(high, low, WIDE: tl.constexpr):
    """Cosine and sine of ``2π`` times the fraction of a turn in 32 bits, or in 64 if ``WIDE``."""
    if WIDE:
        moved = ((high.to(tl.uint64) << 32) | low.to(tl.uint64)) + (1 << 61)
        quarter = (moved >> 62).to(tl.int32)
        rest = (moved & ((1 << 62) - 1)).to(tl.int64) - (1 << 61)
        x = rest.to(tl.float64) * 2.0**-62  # in quarter turns
        square = x * x
        sine = x + x * _horner(_SIN_64, square, False, WIDE)
        cosine = 1.0 + square * _horner(_COS_64, square, False, WIDE)
    else:
        moved = high + (1 << 29)
        quarter = (moved >> 30).to(tl.int32)
        rest = (moved & ((1 << 30) - 1)).to(tl.int32) - (1 << 29)
        x = rest.to(tl.float32) * 2.0**-30
        square = x * x
        sine = x + x * _horner(_SIN_32, square, False, WIDE)
        cosine = 1.0 + square * _horner(_COS_32, square, False, WIDE)
    odd = (quarter & 1) == 1
    turned_cosine = tl.where(odd, sine, cosine)
    turned_sine = tl.where(odd, cosine, sine)
    return (
        tl.where((quarter == 1) | (quarter == 2), -turned_cosine, turned_cosine),
        tl.where(quarter >= 2, -turned_sine, turned_sine),
    )


@triton.jit
def quantile(p, TAIL: tl.constexpr, WIDE: tl.constexpr):
    """The z that a standard normal exceeds with probability ``p`` in (0, ½].

    Without ``TAIL`` no ``p`` is below `CENTRAL`, and half of the work is left out.
    """
    central = _central_quantile(p, WIDE)
    if TAIL:
        central = tl.where(p >= _CENTRAL, central, _tail_quantile(p, WIDE))
    return central


@triton.jit
def sqrt_ieee(x, WIDE: tl.constexpr):
    """Correctly rounded square root."""
    if WIDE:
        return tl.sqrt(x)
    else:
        return tl.sqrt_rn(x)


@triton.jit
def as_float(BITS, WIDE: tl.constexpr):
    """The float with these bits."""
    if WIDE:
        return tl.cast(BITS, tl.int64).to(tl.float64, bitcast=True)
    else:
        return tl.cast(BITS, tl.int32).to(tl.float32, bitcast=True)


@triton.jit
def _divide(a, b, WIDE: tl.constexpr):
    if WIDE:
        return a / b
    else:
        return tl.div_rn(a, b)


@triton.jit
def _log(x, SCALE: tl.constexpr, WIDE: tl.constexpr):
    """ln(x·2**−SCALE)."""
    if WIDE:
        bits = x.to(tl.int64, bitcast=True) - (_ROOT_HALF_64 + (SCALE << 52))
        k = (bits >> 52).to(tl.float64)
        m = ((bits & ((1 << 52) - 1)) + _ROOT_HALF_64).to(tl.float64, bitcast=True)
        f = m - 1.0
        power = k * as_float(_LN2_64[1], WIDE)
        polynomial = _horner(_LOG_64, f, False, WIDE)
    else:
        bits = x.to(tl.int32, bitcast=True) - (_ROOT_HALF_32 + (SCALE << 23))
        k = (bits >> 23).to(tl.float32)
        m = ((bits & ((1 << 23) - 1)) + _ROOT_HALF_32).to(tl.float32, bitcast=True)
        f = m - 1.0
        power = k * as_float(_LN2_32[1], WIDE)
        polynomial = _horner(_LOG_32, f, False, WIDE)
    return power + (f + (f * f) * polynomial)


@triton.jit
def _central_quantile(p, WIDE: tl.constexpr):
    """q·(2.5 + N(r)/D(r)) with q = ½ − p and r = p·(1 − p)."""
    r = p * (1.0 - p)
    if WIDE:
        numerator = _horner(_CENTRAL_N_64, r, False, WIDE)
        denominator = _horner(_CENTRAL_D_64, r, True, WIDE)
    else:
        numerator = _horner(_CENTRAL_N_32, r, False, WIDE)
        denominator = _horner(_CENTRAL_D_32, r, True, WIDE)
    return (0.5 - p) * (2.5 + _divide(numerator, denominator, WIDE))


@triton.jit
def _tail_quantile(p, WIDE: tl.constexpr):
    """s − N(s)/D(s) with s = √(−2 ln p)."""
    s = sqrt_ieee(_log(p * 16777216.0, 24, WIDE) * -2.0, WIDE)
    if WIDE:
        numerator = _horner(_TAIL_N_64, s, False, WIDE)
        denominator = _horner(_TAIL_D_64, s, True, WIDE)
    else:
        numerator = _horner(_TAIL_N_32, s, False, WIDE)
        denominator = _horner(_TAIL_D_32, s, True, WIDE)
    return s - _divide(numerator, denominator, WIDE)


@triton.jit
def _horner(TABLE: tl.constexpr, x, MONIC: tl.constexpr, WIDE: tl.constexpr):
    """c₁ + x·(c₂ + x·(c₃ + …)), ``TABLE`` being how many there are and each one's bits.

    ``MONIC``: a highest coefficient of 1 follows those in the table.
    """
    if MONIC:
        total = x + as_float(TABLE[TABLE[0]], WIDE)
        for i in tl.static_range(TABLE[0] - 1, 0, -1):
            total = total * x + as_float(TABLE[i], WIDE)
    else:
        total = x * as_float(TABLE[TABLE[0]], WIDE) + as_float(TABLE[TABLE[0] - 1], WIDE)
        for i in tl.static_range(TABLE[0] - 2, 0, -1):
            total = total * x + as_float(TABLE[i], WIDE)
    return total
