"""Arithmetic of integers, modulo 2ⁿ, and their bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ptx.family import DTYPES, Array, Family, Operation
from ptx.parsing import BITS, PtxError

__all__ = ["integers"]

integers = Family()
_LOGIC: dict[str, Callable[..., Array]] = {
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}


@integers(r"(add|sub)\.([us](?:16|32|64))")
def _sum(name: str, kind: str) -> Operation:
    return Operation(np.add if name == "add" else np.subtract, (kind, kind), kind)


@integers(r"(mul|mad)\.(lo|wide)\.([us])(16|32|64)")
def _product(name: str, part: str, sign: str, bits: str) -> Operation:
    kind = f"{sign}{bits}"
    result = f"{sign}{2 * int(bits)}" if part == "wide" else kind
    if result not in BITS:
        raise PtxError(f"instruction not known: {name}.{part}.{kind}")

    def product(a: Array, b: Array) -> Any:
        return np.multiply(a.astype(DTYPES[result]), b.astype(DTYPES[result]))

    if name == "mul":
        return Operation(product, (kind, kind), result)
    return Operation(lambda a, b, c: product(a, b) + c, (kind, kind, result), result)


@integers(r"(div|rem)\.([us](?:16|32|64))")
def _quotient(name: str, kind: str) -> Operation:
    """Towards zero; PTX leaves open what a division by zero is."""

    def quotient(a: Array, b: Array) -> Array:
        b = np.where(b == 0, np.array(1, b.dtype), b)
        rest = np.fmod(a, b)
        return rest if name == "rem" else (a - rest) // b

    return Operation(quotient, (kind, kind), kind)


@integers(r"(min|max)\.([us](?:16|32|64))")
def _extreme(name: str, kind: str) -> Operation:
    return Operation({"min": np.minimum, "max": np.maximum}[name], (kind, kind), kind)


@integers(r"(neg|abs)\.(s(?:16|32|64))")
def _sign(name: str, kind: str) -> Operation:
    return Operation({"neg": np.negative, "abs": np.abs}[name], (kind,), kind)


@integers(r"(and|or|xor)\.(pred|b(?:16|32|64))")
def _logic(name: str, kind: str) -> Operation:
    return Operation(_LOGIC[name], (kind, kind), kind)


@integers(r"not\.(pred|b(?:16|32|64))")
def _complement(kind: str) -> Operation:
    return Operation(np.invert, (kind,), kind)


@integers(r"(shl|shr)\.([bus](?:16|32|64))")
def _shift(name: str, kind: str) -> Operation:
    return Operation(_shl if name == "shl" else _shr, (kind, "u32"), kind)


@integers(r"bfe\.(u(?:32|64))")
def _field(kind: str) -> Operation:
    def field(a: Array, start: Array, length: Array) -> Array:
        ones = _shl(np.ones_like(length, a.dtype), length & 255) - a.dtype.type(1)
        return _shr(a, start & 255) & ones

    return Operation(field, (kind, "u32", "u32"), kind)


def _shl(a: Array, by: Array) -> Array:
    bits = 8 * a.itemsize
    return np.where(by < bits, a << np.minimum(by, bits - 1).astype(a.dtype), 0).astype(a.dtype)


def _shr(a: Array, by: Array) -> Array:
    """What moves in is the sign of a signed integer, and zeros otherwise."""
    bits = 8 * a.itemsize
    moved: Array = a >> np.minimum(by, bits - 1).astype(a.dtype)
    if a.dtype.kind == "u":
        moved = np.where(by < bits, moved, 0).astype(a.dtype)
    return moved
