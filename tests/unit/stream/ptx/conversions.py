"""Comparisons, choices, copies and conversions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ptx.bitwise import LOGIC
from ptx.family import DTYPES, UNSIGNED, Array, Family, Operation
from ptx.parsing import BITS

__all__ = ["conversions"]

conversions = Family()
_COMPARED: dict[str, Callable[..., Array]] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
_ROUNDED: dict[str, Callable[..., Array]] = {
    "rn": np.rint,
    "rz": np.trunc,
    "rm": np.floor,
    "rp": np.ceil,
}


@conversions(r"setp\.(eq|ne|lt|le|gt|ge)(u?)(?:\.(and|or|xor))?\.([bus](?:16|32|64)|f32|f64)")
def _comparison(name: str, unordered: str, joined: str | None, kind: str) -> Operation:
    def compared(a: Array, b: Array) -> Array:
        if kind[0] != "f":
            return _COMPARED[name](a, b)
        nan = np.isnan(a) | np.isnan(b)
        return _COMPARED[name](a, b) | nan if unordered else _COMPARED[name](a, b) & ~nan

    if joined is None:
        return Operation(compared, (kind, kind), "pred")
    return Operation(lambda a, b, c: LOGIC[joined](compared(a, b), c), (kind, kind, "pred"), "pred")


@conversions(r"selp\.([bus](?:16|32|64)|f32|f64)")
def _choice(kind: str) -> Operation:
    return Operation(lambda a, b, p: np.where(p, a, b), (kind, kind, "pred"), kind)


@conversions(r"(?:mov|cvta(?:\.to)?\.global)\.([bus](?:16|32|64)|f32|f64|pred)")
def _copy(kind: str) -> Operation:
    return Operation(lambda a: a, (kind,), kind)


@conversions(r"cvt(\.sat)?\.([us]\d+)\.([us]\d+)")
def _integer_from_integer(saturated: str | None, to: str, source: str) -> Operation:
    def convert(a: Array) -> Array:
        if saturated:
            limits, own = np.iinfo(DTYPES[to]), np.iinfo(a.dtype)
            a = np.clip(a, max(limits.min, own.min), min(limits.max, own.max))
        return a.astype(DTYPES[to])

    return Operation(convert, (source,), to)


@conversions(r"cvt\.(rn|rz|rm|rp)i(?:\.sat)?\.([us](?:32|64))\.(f32|f64)")
def _integer_from_float(rounding: str, to: str, source: str) -> Operation:
    """Beyond the range is its nearest end; NaN is 0, or the highest bit where 64 bits take part."""
    limits, dtype = np.iinfo(DTYPES[to]), DTYPES[to]
    of_nan = 1 << (BITS[to] - 1) if 64 in (BITS[to], BITS[source]) else 0

    def convert(a: Array) -> Array:
        whole = _ROUNDED[rounding](a)
        low, high = whole <= float(limits.min), whole >= float(limits.max)
        inside = np.where(low | high | np.isnan(a), 0, whole).astype(dtype)
        ends = np.where(low, np.array(limits.min, dtype), np.array(limits.max, dtype))
        nan = np.array(of_nan, UNSIGNED[BITS[to]]).view(dtype)
        return np.where(np.isnan(a), nan, np.where(low | high, ends, inside))

    return Operation(convert, (source,), to)


@conversions(r"cvt\.(rn|rz|rm|rp)i\.(f32|f64)\.\2")
def _whole(rounding: str, kind: str) -> Operation:
    return Operation(_ROUNDED[rounding], (kind,), kind)


@conversions(r"cvt\.rn\.(f32|f64)\.([us]\d+)")
@conversions(r"cvt\.rn\.(f32)\.(f64)")
@conversions(r"cvt\.(f64|f32)\.(f32|f16)")
def _float(to: str, source: str) -> Operation:
    return Operation(lambda a: a.astype(DTYPES[to]), (source,), to)


@conversions(r"cvt\.f32\.bf16")
def _float_from_brain() -> Operation:
    return Operation(lambda a: (a.astype(np.uint32) << 16).view(np.float32), ("bf16",), "f32")


@conversions(r"cvt\.rn\.(bf16|f16)(x2)?\.f32")
def _narrow(kind: str, packed: str | None) -> Operation:
    """Of two, the first becomes the upper half."""
    convert = _brain if kind == "bf16" else lambda a: a.astype(np.float16).view(np.uint16)
    if not packed:
        return Operation(convert, ("f32",), "b16")
    return Operation(
        lambda a, b: convert(a).astype(np.uint32) << 16 | convert(b), ("f32", "f32"), "b32"
    )


def _brain(a: Array) -> Array:
    bits = a.view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1) >> 16).astype(np.uint16)
    return np.where(np.isnan(a), np.uint16(0x7FFF), rounded)
