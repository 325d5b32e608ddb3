"""Square root, logarithm, cosine, sine and normal quantile as exact sequences of IEEE operations.

Each line below is the specification: other engines do the same operations in the same order, every
one rounded on its own (no fused multiply-add). Besides ``+ − × / √`` there are only comparisons,
selections and integer operations on bits, so all machines agree. Polynomials are evaluated by
Horner's rule from the highest power. ``tools/polynomials.py`` derives every coefficient; the tests
measure the errors: logarithm, cosine and sine 2 units in the last place, quantile 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["CENTRAL", "cosine_sine", "log_unit", "quantile", "sqrt_ieee"]

CENTRAL = 23 / 1024  # from here to ½ the quantile needs its central branch only; Φ(−2) = 0.02275


def log_unit(u: Tensor) -> Tensor:
    """Natural logarithm of positive normal floats; ``ln 1 = +0``.

    ``u = m·2**k`` with m in [√½, √2), so that the relative error stays small next to 1.
    """
    return _log(u, 0, _TABLES[u.dtype])


def cosine_sine(high: Tensor, low: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Cosine and sine of an angle that is a fraction of a turn.

    The turn is cut into quarters centred on the zeros of sine and cosine: what is left is an exact
    integer, so the relative error is small next to the zeros too.

    Args:
        high: int64 tensor of 32-bit words. Alone: the angle is ``2π·high/2**32``, result float32.
        low: int64 tensor of 32-bit words. The angle is ``2π·(high·2**32 + low)/2**64``, float64.
    """
    dtype, word, bits = torch.float32, high, 32
    if low is not None:
        dtype, word, bits = torch.float64, (high << 32) | low, 64
    table = _TABLES[dtype]
    moved = word + (1 << (bits - 3))  # in 64 bits it wraps around, and so does the angle
    quarter = (moved >> (bits - 2)) & 3
    rest = (moved & ((1 << (bits - 2)) - 1)) - (1 << (bits - 3))
    x = rest.to(dtype) * 2.0 ** (2 - bits)  # in quarter turns, |x| <= ½
    square = x * x
    sine = x + x * _horner(table.sin, square)
    cosine = 1.0 + square * _horner(table.cos, square)
    odd = (quarter & 1) == 1
    sine, cosine = torch.where(odd, cosine, sine), torch.where(odd, sine, cosine)
    return (
        torch.where((quarter == 1) | (quarter == 2), -cosine, cosine),
        torch.where(quarter >= 2, -sine, sine),
    )


def quantile(p: Tensor) -> Tensor:
    """The z that a standard normal exceeds with probability ``p`` in (0, ½]; ``Q(½) = +0``.

    A ``p`` above ½ by a rounding gives the small negative z it should. Subnormal ``p`` count.
    """
    table = _TABLES[p.dtype]
    return torch.where(p >= CENTRAL, _central_quantile(p, table), _tail_quantile(p, table))


def sqrt_ieee(x: Tensor) -> Tensor:
    """Correctly rounded square root, zero or normal floats; `torch.sqrt` may be one unit off."""
    if x.dtype == torch.float32:
        return x.double().sqrt().float()  # the square of a midpoint is too far from any float32
    guess = x.sqrt()
    above = (guess.view(torch.int64) + 1).view(torch.float64)
    below = (guess.view(torch.int64) - 1).view(torch.float64)
    rest = _minus_square(x, guess)
    # The midpoint of guess and above squared is guess² + guess·(above − guess) + less than one unit
    # of rest, which is an integer multiple of that unit; so comparing without it decides.
    root = torch.where(rest > guess * (above - guess), above, guess)
    return torch.where(rest <= guess * (below - guess), below, root)


def _minus_square(x: Tensor, root: Tensor) -> Tensor:
    """``x − root²`` without error: the square as a sum of two floats (Dekker 1971)."""
    wide = root * 134217729.0  # 2²⁷ + 1 cuts 53 bits into 26 and 26
    head = wide - (wide - root)
    tail = root - head
    square = root * root
    cross = head * tail
    error = ((head * head - square) + (cross + cross)) + tail * tail
    return (x - square) - error


def _log(x: Tensor, scale: int, table: _Table) -> Tensor:
    """ln(x·2**−scale)."""
    bits = x.view(table.integer) - (table.root_half + (scale << table.digits))
    k = (bits >> table.digits).to(x.dtype)
    m = ((bits & ((1 << table.digits) - 1)) + table.root_half).view(x.dtype)
    f = m - 1.0
    return k * table.ln2 + (f + (f * f) * _horner(table.log, f))


def _central_quantile(p: Tensor, table: _Table) -> Tensor:
    """Q = q·(2.5 + N(r)/D(r)) with q = ½ − p and r = p·(1 − p); Q/q starts at √(2π)."""
    r = p * (1.0 - p)
    slope = _horner(table.central_numerator, r) / _horner((*table.central_denominator, 1.0), r)
    return (0.5 - p) * (2.5 + slope)


def _tail_quantile(p: Tensor, table: _Table) -> Tensor:
    """Q = s − N(s)/D(s) with s = √(−2 ln p)."""
    s = sqrt_ieee(_log(p * 2.0**24, 24, table) * -2.0)  # scaled, so that subnormal p become normal
    return s - _horner(table.tail_numerator, s) / _horner((*table.tail_denominator, 1.0), s)


def _horner(coefficients: Sequence[float], x: Tensor) -> Tensor:
    """c₀ + x·(c₁ + x·(c₂ + …)); a highest coefficient of 1 costs no multiplication."""
    *rest, following, highest = coefficients
    total = (x if highest == 1.0 else x * highest) + following
    for coefficient in reversed(rest):
        total = total * x + coefficient
    return total


@dataclass(frozen=True)
class _Table:
    """The constants of one dtype; coefficients from the lowest power, a final 1 left out."""

    integer: torch.dtype
    digits: int  # bits of the fraction
    root_half: int  # the bits of √½
    ln2: float
    log: tuple[float, ...]  # ln(1 + f) = f + f²·log(f)
    sin: tuple[float, ...]  # sin(x·π/2) = x + x·sin(x²)
    cos: tuple[float, ...]  # cos(x·π/2) = 1 + x²·cos(x²)
    central_numerator: tuple[float, ...]
    central_denominator: tuple[float, ...]
    tail_numerator: tuple[float, ...]
    tail_denominator: tuple[float, ...]


def _hex(text: str) -> tuple[float, ...]:
    return tuple(map(float.fromhex, text.split()))


_FLOAT32 = _Table(
    integer=torch.int32,
    digits=23,
    root_half=0x3F3504F3,
    ln2=float.fromhex("0x1.62e43p-1"),
    log=_hex(
        """
        -0x1.fffffap-2 0x1.5556f4p-2 -0x1.0004bp-2 0x1.98d29ap-3 -0x1.535a7p-3
        0x1.31854ep-3 -0x1.2512bap-3 0x1.65ddp-4
        """
    ),
    sin=_hex("0x1.243f6ap-1 -0x1.4abbaep-1 0x1.465bdap-4 -0x1.2d2fc2p-8"),
    cos=_hex("-0x1.3bd39cp+0 0x1.03b066p-2 -0x1.4e7d56p-6"),
    central_numerator=_hex(
        """
        0x1.6bee64p-16 0x1.dff00ap-9 0x1.2e7356p-4 -0x1.10c02cp-6 -0x1.47a0f2p+0
        -0x1.6b0faep-3
        """
    ),
    central_denominator=_hex("0x1.7b9c2cp-18 0x1.a9b314p-10 0x1.1667d6p-4 0x1.36f2dep-1"),
    tail_numerator=_hex("0x1.28638cp+6 0x1.db60a2p+5 0x1.494aeap+2 0x1.9aae6ap-7"),
    tail_denominator=_hex("0x1.bf07dp+4 0x1.df8272p+5 0x1.47cd54p+4"),
)

_FLOAT64 = _Table(
    integer=torch.int64,
    digits=52,
    root_half=0x3FE6A09E667F3BCD,
    ln2=float.fromhex("0x1.62e42fefa39efp-1"),
    log=_hex(
        """
        -0x1.0000000000003p-1 0x1.555555555551ep-2 -0x1.fffffffffdca2p-3
        0x1.99999999a11c3p-3 -0x1.55555556f2791p-3 0x1.24924922797c8p-3
        -0x1.fffffeefd5051p-4 0x1.c71c71be8246ep-4 -0x1.9999c9cee7e78p-4
        0x1.745d48a6354f8p-4 -0x1.555068a86b497p-4 0x1.3b0a823809c7fp-4
        -0x1.24dc91471a168p-4 0x1.11db4c6b5ddc3p-4 -0x1.fb711a39f37fap-5
        0x1.cf928adf8ce04p-5 -0x1.d123e0b699f48p-5 0x1.0b7634ea0606bp-4
        -0x1.ec14095014e79p-5 0x1.ace769d44cae3p-6
        """
    ),
    sin=_hex(
        """
        0x1.243f6a8885a31p-1 -0x1.4abbce625be66p-1 0x1.466bc6775a59ap-4
        -0x1.32d2cce450b5p-8 0x1.507830f3d7f58p-13 -0x1.e301487329289p-19
        0x1.e4335287fdbb9p-25
        """
    ),
    cos=_hex(
        """
        -0x1.3bd3cc9be45dep+0 0x1.03c1f081b5aaep-2 -0x1.55d3c7e3c927ep-6
        0x1.e1f5068367848p-11 -0x1.a6d1ec7de4cbap-16 0x1.f9cc408ccc5fdp-22
        -0x1.b263b92b64c46p-28
        """
    ),
    central_numerator=_hex(
        """
        0x1.fee8d46359fefp-37 0x1.0ee5ca3665b6bp-26 0x1.e83382db7be07p-19
        0x1.29c7b1cd787b7p-12 0x1.1eaad92ffe443p-7 0x1.b381da99d9907p-4
        0x1.785d55cd2bef9p-2 -0x1.322633d4cb6e7p+0 -0x1.ea17813a47df8p+2
        -0x1.2117ce0df5033p+3 -0x1.0818140c81a5ep+1
        """
    ),
    central_denominator=_hex(
        """
        0x1.b78ccdd43e0f8p-39 0x1.3eafbeda1b97p-28 0x1.763f88c88867dp-20
        0x1.2ea9ca76008d1p-13 0x1.9bb11a1710c62p-8 0x1.0107f369fe074p-3
        0x1.2ee0212b3804p+0 0x1.4a3721b316938p+2 0x1.34b0a94266d4ep+3
        0x1.9f17ea34b004bp+2
        """
    ),
    tail_numerator=_hex(
        """
        0x1.2e3538b61a40cp+18 0x1.7cad209dbdac9p+20 0x1.b72ae56997a5cp+20
        0x1.f46e86580c312p+19 0x1.0803ea686dcf2p+18 0x1.a393c71fabeb6p+14
        0x1.b785c9c9aa941p+9 0x1.c32356f48e63bp+2 0x1.202c4c600990fp-9
        """
    ),
    tail_denominator=_hex(
        """
        0x1.66d0b8ac7af77p+16 0x1.793ecd1daebddp+19 0x1.56666c397042bp+20
        0x1.0d0388e64e1a2p+20 0x1.c5175daf827fcp+18 0x1.5bd1594849113p+16
        0x1.a0f25f583a3ecp+12 0x1.505c7aa307864p+7
        """
    ),
)

_TABLES = {torch.float32: _FLOAT32, torch.float64: _FLOAT64}
