"""Logic, shifts and fields of bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ptx.family import Array, Family, Operation, pair
from ptx.parsing import BITS

__all__ = ["LOGIC", "bitwise"]

bitwise = Family()
LOGIC: dict[str, Callable[..., Array]] = {
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}


@bitwise(r"(and|or|xor)\.(pred|b(?:16|32|64))")
def _logic(name: str, kind: str) -> Operation:
    return Operation(LOGIC[name], (kind, kind), kind)


@bitwise(r"not\.(pred|b(?:16|32|64))")
def _complement(kind: str) -> Operation:
    return Operation(np.invert, (kind,), kind)


@bitwise(r"(shl|shr)\.([bus](?:16|32|64))")
def _shift(name: str, kind: str) -> Operation:
    return Operation(_shl if name == "shl" else _shr, (kind, "u32"), kind)


@bitwise(r"shf\.([lr])\.(wrap|clamp)\.b32")
def _funnel(side: str, beyond: str) -> Operation:
    def shift(a: Array, b: Array, by: Array) -> Array:
        by = by & 31 if beyond == "wrap" else np.minimum(by, 32)
        both = pair(b, a)
        moved = both << by >> 32 if side == "l" else both >> by
        return moved.astype(np.uint32)

    return Operation(shift, ("b32", "b32", "u32"), "b32")


@bitwise(r"bfe\.([us](?:32|64))")
def _field(kind: str) -> Operation:
    def field(a: Array, start: Array, length: Array) -> Any:
        start, length = start & 255, length & 255
        if kind[0] == "u":
            return _shr(a, start) & _ones(length, a.dtype)
        left = BITS[kind] - np.minimum(start + length, BITS[kind])
        return np.where(length == 0, 0, _shr(_shl(a, left), left + start)).astype(a.dtype)

    return Operation(field, (kind, "u32", "u32"), kind)


@bitwise(r"bfi\.(b(?:32|64))")
def _inserted(kind: str) -> Operation:
    def inserted(a: Array, b: Array, start: Array, length: Array) -> Array:
        start, length = start & 255, length & 255
        field = _shl(_ones(length, a.dtype), start)
        return (b & ~field) | (_shl(a, start) & field)

    return Operation(inserted, (kind, kind, "u32", "u32"), kind)


@bitwise(r"lop3\.b32")
def _logic_of_three() -> Operation:
    def logic(a: Array, b: Array, c: Array, table: Array) -> Array:
        result = np.zeros_like(a)
        for row in range(8):
            term = (a if row & 4 else ~a) & (b if row & 2 else ~b) & (c if row & 1 else ~c)
            result = result | np.where(table >> row & 1, term, 0)
        return result

    return Operation(logic, ("b32",) * 4, "b32")


@bitwise(r"prmt\.b32")
def _permuted() -> Operation:
    """Each nibble of ``c`` picks one of eight bytes; its highest bit asks for that byte's sign."""

    def permuted(a: Array, b: Array, c: Array) -> Array:
        both, result = pair(b, a), np.zeros_like(a)
        for place in range(4):
            nibble = c >> (4 * place) & 15
            byte = (both >> (8 * (nibble & 7)) & 255).astype(np.uint32)
            byte = np.where(nibble & 8, np.where(byte & 128, 255, 0), byte)
            result = result | byte.astype(np.uint32) << (8 * place)
        return result

    return Operation(permuted, ("b32",) * 3, "b32")


@bitwise(r"(popc|clz|brev)\.(b(?:32|64))")
def _counted(name: str, kind: str) -> Operation:
    def digits(a: Array) -> Any:
        """Highest first, along a new last dim."""
        return np.bitwise_and(a[..., None] >> np.arange(BITS[kind])[::-1].astype(a.dtype), 1)

    counts: dict[str, Callable[[Array], Array]] = {
        "popc": lambda a: digits(a).sum(-1, dtype=np.uint32),
        "clz": lambda a: (np.maximum.accumulate(digits(a), -1) == 0).sum(-1, dtype=np.uint32),
        "brev": lambda a: (digits(a) << np.arange(BITS[kind]).astype(a.dtype)).sum(-1, a.dtype),
    }
    return Operation(counts[name], (kind,), kind if name == "brev" else "u32")


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


def _ones(count: Array, dtype: np.dtype[Any]) -> Any:
    return np.subtract(_shl(np.ones_like(count, dtype), count), np.array(1, dtype))
