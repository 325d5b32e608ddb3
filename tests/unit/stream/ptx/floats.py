"""Arithmetic of floats: each operation rounded once, subnormals kept."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ptx.family import Array, Family, Operation

__all__ = ["floats"]

floats = Family()
_ARITHMETIC: dict[str, Callable[..., Array]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
}


@floats(r"(add|sub|mul|div)\.rn\.(f32|f64)")
def _arithmetic(name: str, kind: str) -> Operation:
    return Operation(_ARITHMETIC[name], (kind, kind), kind)


@floats(r"(add|sub|mul)\.rn\.f32x2")
def _arithmetic_of_pairs(name: str) -> Operation:
    return Operation(_by_halves(_ARITHMETIC[name]), ("f32x2", "f32x2"), "f32x2")


@floats(r"fma\.rn\.f32")
def _fused() -> Operation:
    return Operation(_fma, ("f32",) * 3, "f32")


@floats(r"sqrt\.rn\.(f32|f64)")
def _root(kind: str) -> Operation:
    return Operation(np.sqrt, (kind,), kind)


@floats(r"(neg|abs)\.(f32|f64)")
def _sign_of_float(name: str, kind: str) -> Operation:
    return Operation({"neg": np.negative, "abs": np.abs}[name], (kind,), kind)


@floats(r"(min|max)\.(f32|f64)")
def _extreme_of_floats(name: str, kind: str) -> Operation:
    """The other of a NaN and a number; −0 is less than +0."""

    def least(a: Array, b: Array) -> Array:
        first = (a < b) | ((a == b) & np.signbit(a)) | np.isnan(b)
        return np.where(first, a, b)

    return Operation(least if name == "min" else lambda a, b: -least(-a, -b), (kind, kind), kind)


def _fma(a: Array, b: Array, c: Array) -> Array:
    """``a·b + c`` of float32, rounded once: float64 holds the product, and a sum rounded to odd."""
    product, c = a.astype(np.float64) * b, c.astype(np.float64)
    total = product + c
    part = total - product
    missed = (product - (total - part)) + (c - part)
    even = total.view(np.uint64) & 1 == 0
    towards = np.nextafter(total, np.copysign(np.inf, missed))
    inexact = np.isfinite(total) & (missed != 0)
    return np.where(inexact & even, towards, total).astype(np.float32)


def _by_halves(compute: Callable[..., Array]) -> Callable[..., Array]:
    """The same on each of two float32 in 64 bits."""

    def both(*pairs: Array) -> Array:
        low, high = (
            compute(*((pair >> shift).astype(np.uint32).view(np.float32) for pair in pairs))
            for shift in (0, 32)
        )
        return high.view(np.uint32).astype(np.uint64) << 32 | low.view(np.uint32)

    return both
