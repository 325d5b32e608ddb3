"""Comparisons, choices, copies and conversions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ptx.family import DTYPES, Array, Family, Operation

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


@conversions(r"setp\.(eq|ne|lt|le|gt|ge)\.([bus](?:16|32|64)|f32|f64)")
def _comparison(name: str, kind: str) -> Operation:
    """Nothing holds of a NaN."""

    def compared(a: Array, b: Array) -> Array:
        return _COMPARED[name](a, b) & (a == a) & (b == b)

    return Operation(compared, (kind, kind), "pred")


@conversions(r"selp\.([bus](?:16|32|64)|f32|f64)")
def _choice(kind: str) -> Operation:
    return Operation(lambda a, b, p: np.where(p, a, b), (kind, kind, "pred"), kind)


@conversions(r"(?:mov|cvta(?:\.to)?\.global)\.([bus](?:16|32|64)|f32|f64|pred)")
def _copy(kind: str) -> Operation:
    return Operation(lambda a: a, (kind,), kind)


@conversions(r"cvt\.([us]\d+)\.([us]\d+)")
@conversions(r"cvt\.rn\.(f32|f64)\.([us]\d+)")
def _conversion(to: str, source: str) -> Operation:
    return Operation(lambda a: a.astype(DTYPES[to]), (source,), to)
