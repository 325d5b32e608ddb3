"""Arithmetic of integers: modulo 2ⁿ."""

from __future__ import annotations

from typing import Any

import numpy as np

from ptx.family import DTYPES, Array, Family, Operation
from ptx.parsing import BITS, PtxError

__all__ = ["integers"]

integers = Family()


@integers(r"(add|sub)\.([us](?:16|32|64))")
def _sum(name: str, kind: str) -> Operation:
    return Operation(np.add if name == "add" else np.subtract, (kind, kind), kind)


@integers(r"(mul|mad)\.(lo|hi|wide)\.([us])(16|32|64)")
def _product(name: str, part: str, sign: str, bits: str) -> Operation:
    kind = f"{sign}{bits}"
    result = f"{sign}{2 * int(bits)}" if part == "wide" else kind
    if result not in BITS:
        raise PtxError(f"instruction not known: {name}.{part}.{kind}")

    def product(a: Array, b: Array) -> Any:
        if part == "hi":
            return _high(a, b)
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


def _high(a: Array, b: Array) -> Array:
    """The upper half of the product of two integers."""
    bits = 8 * a.itemsize
    if bits < 64:
        wide = np.int64 if a.dtype.kind == "i" else np.uint64
        return (a.astype(wide) * b.astype(wide) >> bits).astype(a.dtype)
    x, y = a.view(np.uint64), b.view(np.uint64)
    x1, x0, y1, y0 = x >> 32, x & 0xFFFFFFFF, y >> 32, y & 0xFFFFFFFF
    middle = (x0 * y0 >> 32) + (x1 * y0 & 0xFFFFFFFF) + x0 * y1
    high: Array = x1 * y1 + (x1 * y0 >> 32) + (middle >> 32)
    if a.dtype.kind == "i":
        high = high - np.where(a < 0, y, 0) - np.where(b < 0, x, 0)
    return high.view(a.dtype)
