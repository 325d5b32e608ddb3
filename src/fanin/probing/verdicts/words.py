"""Rows of a probe in words: which they are, what they hold, where a trend begins and ends."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fanin.probing.rows import SignalRow, Statistics
from fanin.probing.verdicts.growth import Growth, layer_of
from fanin.report import number_text

__all__ = ["counts", "limit_text", "made", "place", "span_text"]


def limit_text(growth: Growth, rows: Sequence[SignalRow]) -> str:
    """Where the dtype ends by the factor, and where it did, in a subordinate clause."""
    verb = "overflow" if growth.factor > 1 else "underflow"
    limit, happened = growth.limit, growth.happened
    if happened is not None:
        also = "" if limit in (None, happened) else f" (by the factor alone at {limit})"
        return f", {growth.dtype} {verb}s at layer {happened}{also}"
    if limit is None:
        return ""
    last = max(layer_of(row) for row in rows)
    if limit > last:
        return f", {growth.dtype} would {verb} at layer {limit}"
    return f", {growth.dtype} would {verb} at layer {limit} by the factor alone, and does not"


def span_text(what: str, growth: Growth, rows: Sequence[SignalRow]) -> str:
    """Where a trend begins and ends, in the direction of its walk."""
    names = {layer_of(row): row for row in rows if row.is_layer}
    ends = (growth.first, growth.last)
    first, last = ends if what == "outputs" else ends[::-1]
    return (
        f"{what}: rms {number_text(growth.start)} at {place(names[first])}, "
        f"{number_text(growth.end)} at {place(names[last])}; layers count from 0"
    )


def made(row: SignalRow) -> str:
    """``layer 3 ('conv3') gives 7 NaN among 512``, and from what input."""
    got = row.input
    if got is None:
        origin = ""
    elif got.is_finite:
        size = f"rms {number_text(got.rms)}, max {number_text(got.abs_max)}"
        origin = f" from finite input ({size}, {got.dtype})"
    else:
        origin = f" from input with {counts(got)}"
    return f"{place(row)} gives {counts(row.output)}{origin}"


def counts(found: Statistics | None) -> str:
    """``7 NaN and 2 Inf among 512``."""
    if found is None:
        return ""
    counts = [f"{n} {what}" for n, what in ((found.nans, "NaN"), (found.infs, "Inf")) if n]
    return f"{' and '.join(counts)} among {math.prod(found.shape)}"


def place(row: SignalRow) -> str:
    """``layer 3 ('conv3')``, ``'head/softmax' after layer 3``."""
    if row.is_layer:
        return f"layer {layer_of(row)} ({row.name!r})" if row.name else f"layer {layer_of(row)}"
    name = row.name or row.kind
    return f"{name!r} after layer {layer_of(row)}" if row.depth else f"{name!r}"
