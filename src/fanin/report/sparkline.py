"""A curve in one line of text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

__all__ = ["sparkline"]

_BLOCKS = "▁▂▃▄▅▆▇"  # an odd number: the middle is a block, and noise about it stays in it
_MISSING = "×"


def sparkline(values: Sequence[float], *, width: int = 60, least_span: float = 0.0) -> str:
    """Blocks from low to high, one for each value; ``×`` for what is not finite.

    Args:
        values: from left to right. More than ``width`` are joined to medians of equal shares.
        width: characters at most.
        least_span: from the lowest to the highest block at least, so that noise looks level.

    Example:
        >>> sparkline([0, 1, 2, 3, float("nan")])
        '▁▃▅▇×'
        >>> sparkline([0.0, 0.1, 0.0], least_span=10)
        '▄▄▄'
    """
    shown = _joined(values, width)
    finite = [value for value in shown if math.isfinite(value)]
    if not finite:
        return _MISSING * len(shown)
    low, high = min(finite), max(finite)
    span = max(high - low, least_span)
    floor = (low + high - span) / 2
    return "".join(_block(value, floor, span) for value in shown)


def _block(value: float, floor: float, span: float) -> str:
    if not math.isfinite(value):
        return _MISSING
    share = (value - floor) / span if span else 0.5
    return _BLOCKS[round(share * (len(_BLOCKS) - 1))]


def _joined(values: Sequence[float], width: int) -> list[float]:
    """At most ``width`` values; a share that holds one not finite is not finite."""
    if len(values) <= width:
        return list(values)
    edges = [len(values) * i // width for i in range(width + 1)]
    shares = [values[start:end] for start, end in pairwise(edges)]
    return [median(s) if all(map(math.isfinite, s)) else math.nan for s in shares]
