"""By what factor a layer changes the scale of what passes through it, and where a dtype ends."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from statistics import median

import numpy as np
import torch

from fanin.probing.rows import SignalRow, Statistics

__all__ = [
    "FEWEST_LAYERS",
    "LEVEL",
    "Growth",
    "Jump",
    "backward_growth",
    "forward_growth",
    "layer_of",
]

FEWEST_LAYERS = 4
"""Two in the middle: the first and the last often have fans, and so factors, of their own."""

LEVEL = 1.01
"""A factor nearer to 1 is no trend: finite width alone makes healthy layers drift that much."""

_JUMP = 100.0
"""A factor of one layer, and from all before it to all behind it, that is none of the trend's."""

_MOST_POINTS = 500  # 125,000 pairs: milliseconds


@dataclass(frozen=True, slots=True)
class Jump:
    """One layer that changes the scale for all behind it.

    Args:
        layer: whose weight it is that a signal, or a gradient, goes through there.
        factor: on the rms.
        before: points of the walk before it.
        behind: points behind it.
    """

    layer: int
    factor: float
    before: int
    behind: int


@dataclass(frozen=True, slots=True)
class Growth:
    """The rms of outputs or gradients along a walk through the layers with weights.

    Layers are counted from 0 in the order of execution. Forward the walk begins at the first one,
    backward at the last.

    Args:
        factor: on the rms, a layer further along the walk, without the jump.
        first: lowest layer of the fit.
        last: highest layer of the fit.
        start: rms where the walk begins.
        end: rms where the fit ends.
        dtype: of most layers, without ``torch.``.
        limit: layer at which the dtype overflows, or leaves only zeros, by this factor; it may lie
            beyond the last one there is. None without a trend, or where the walk back ends before.
        happened: layer at which it did, if at a place where the factor explains it.
        jump: of one layer that makes most of the change.
    """

    factor: float
    first: int
    last: int
    start: float
    end: float
    dtype: str
    limit: int | None = None
    happened: int | None = None
    jump: Jump | None = None

    @property
    def total(self) -> float:
        """The factor over all layers of the fit."""
        exponent = math.log(self.factor) * (self.last - self.first)
        return math.exp(exponent) if exponent < math.log(1e308) else math.inf


def forward_growth(rows: Sequence[SignalRow]) -> Growth | None:
    """Of the rms of outputs; None where the layers are too few to tell."""
    walk = [(layer_of(row), row.output) for row in rows if row.is_layer]
    broken = [layer_of(row) for row in rows if not row.output.is_finite]
    return _growth(walk, broken_at=min(broken, default=None), direction=1)


def backward_growth(rows: Sequence[SignalRow]) -> Growth | None:
    """Of the rms of gradients, from the last layer to the first; None where they are too few."""
    walk = [(layer_of(row), row.gradient) for row in rows if row.is_layer and row.gradient]
    broken = [layer_of(row) for row in rows if row.gradient and not row.gradient.is_finite]
    return _growth(walk[::-1], broken_at=max(broken, default=None), direction=-1)


def layer_of(row: SignalRow) -> int:
    """The number of a row's layer, from 0; of the last one before it where it is none itself."""
    return max(row.depth - 1, 0)


def _growth(
    walk: Sequence[tuple[int, Statistics]], *, broken_at: int | None, direction: int
) -> Growth | None:
    """Over the layers before the first that is not finite; those of only zeros tell no factor."""
    finite = takewhile(lambda point: point[1].is_finite, walk)
    points = [(layer, each) for layer, each in finite if 0 < each.rms < math.inf]
    # A layer that overflowed is evidence of the trend too.
    if len(points) < 2 or len(points) + (broken_at is not None) < FEWEST_LAYERS:
        return None
    layers, found = zip(*points, strict=True)
    steps = np.array(layers, dtype=np.float64) * direction
    logs = np.log([each.rms for each in found])
    jump, logs = _without_jump(layers, logs, direction)
    slope = _theil_sen(steps, logs)
    dtype = Counter(each.dtype for each in found).most_common(1)[0][0]
    limit = _limit(slope, steps, logs, found, dtype)
    happened = broken_at if slope > 0 else _zeros_from(walk)
    if limit is not None:
        limit *= direction
    if limit is None or happened is None or not _explains(limit, happened, start=layers[0]):
        happened = None
    return Growth(
        factor=math.exp(slope),
        first=min(layers),
        last=max(layers),
        start=found[0].rms,
        end=found[-1].rms,
        dtype=dtype,
        limit=limit if limit is not None and limit >= 0 else None,
        happened=happened,
        jump=jump,
    )


def _without_jump(
    layers: Sequence[int], logs: np.ndarray, direction: int
) -> tuple[Jump | None, np.ndarray]:
    """The jump that makes most of the change, if one does; the points behind it brought back."""
    steps = np.diff(logs)
    usual = float(np.median(steps))
    at = int(np.argmax(np.abs(steps - usual))) + 1
    size = float(steps[at - 1]) - usual
    ends = float(np.median(logs[at:]) - np.median(logs[:at]))
    is_lasting = size * ends > 0 and min(abs(size), abs(ends)) >= math.log(_JUMP)
    if not is_lasting or 2 * abs(size) <= abs(float(logs[-1] - logs[0])):
        return None, logs
    # Forward a layer changes its own output, backward the gradient of the layer before it.
    layer = layers[at] if direction > 0 else layers[at - 1]
    level = np.concatenate([logs[:at], logs[at:] - size])
    return Jump(layer, math.exp(min(size, 700.0)), at, len(logs) - at), level


def _explains(limit: int, happened: int, *, start: int) -> bool:
    """Whether the trend is why the range ended: squares leave it after half of the way."""
    return 2 * (abs(happened - start) + 1) >= abs(limit - start)


def _theil_sen(x: np.ndarray, y: np.ndarray) -> float:
    """Median slope of all pairs of points.

    It bears 29 % of wild points, so that layers of other widths (embeddings, heads, changes of
    resolution) do not count, and the periodic ups and downs of repeated blocks cancel in it.
    Least squares would follow either.

    Source: Theil 1950; Sen 1968.
    """
    if len(x) > _MOST_POINTS:
        chosen = np.linspace(0, len(x) - 1, _MOST_POINTS).round().astype(int)
        x, y = x[chosen], y[chosen]
    i, j = np.triu_indices(len(x), 1)
    return float(np.median((y[j] - y[i]) / (x[j] - x[i])))


def _limit(
    slope: float, steps: np.ndarray, logs: np.ndarray, points: Sequence[Statistics], dtype: str
) -> int | None:
    """The first step of the fitted line whose numbers the dtype cannot hold.

    Overflow begins with the largest entry, which is about as many times the rms as in the layers
    that were measured; underflow is complete when the rms rounds to zero.
    """
    held = _range(dtype)
    if held is None or abs(slope) <= math.log(LEVEL):
        return None
    least, largest = held
    origin = float(np.median(logs - slope * steps))
    if slope > 0:
        crest = median(math.log(each.abs_max / each.rms) for each in points)
        return math.ceil((math.log(largest) - crest - origin) / slope)
    return math.ceil((math.log(least) - math.log(2) - origin) / slope)


def _range(dtype: str) -> tuple[float, float] | None:
    """Least (subnormal) and largest positive number; None for what is not floating point."""
    found = getattr(torch, dtype, None)
    if not isinstance(found, torch.dtype) or not (found.is_floating_point or found.is_complex):
        return None
    info = torch.finfo(found)
    return info.smallest_normal * info.eps, info.max


def _zeros_from(walk: Sequence[tuple[int, Statistics]]) -> int | None:
    """The layer of a walk from which on there are only zeros."""
    zeros = list(takewhile(lambda point: point[1].rms == 0, reversed(walk)))
    return zeros[-1][0] if zeros else None
