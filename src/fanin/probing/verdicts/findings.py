"""What can be wrong with the start of a net: found in the rows of a probe, put into words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from fanin.probing.rows import SignalRow, Statistics, WeightRow
from fanin.probing.verdicts.growth import LEVEL, Growth, layer_of
from fanin.probing.verdicts.stretches import dead_units, saturation
from fanin.probing.verdicts.suggestion import constant_weights, suggestion

__all__ = ["Finding", "Kind", "findings", "number_text", "times_text"]

Kind: TypeAlias = Literal[
    "healthy", "explodes", "vanishes", "dead", "saturated", "symmetric", "not finite"
]

_OUTPUTS = 1e3
"""Change of the rms of outputs over all layers that is too much.

A healthy linear net of 100 layers drifts by 5 at width 256 and by 40 at width 64 (the mean and
three standard deviations of a random walk: a step of log rms has variance 1/2n and mean -1/2n).
AlexNet and VGG-16 with Xavier or Kaiming weights change by 90 at most. Ten linear layers and relu
with torch's defaults, without biases, change by 3000, four linear ones with N(0, 1) by 4096.
"""

_STEEP = 3.0
"""Factor a layer that is too much over five layers or more, whatever it comes to.

Pooling and rectifiers with torch's defaults change signals by 0.4 a layer in nets that train.
"""

_GRADIENTS = 1e5
"""Change of the rms of gradients over all layers that is too much.

Larger, since pooling and resolution move gradients too, in nets that people train: AlexNet with
torch's defaults changes by 1500, VGG-16 with Xavier weights by 2400, 100 layers of tanh with gain
5/3 by 11,000. VGG-16 with torch's defaults changes by 1e7.
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong: what, in words, and what to change."""

    kind: Kind
    lines: tuple[str, ...]
    suggestion: str


def findings(
    rows: Sequence[SignalRow],
    weights: Sequence[WeightRow],
    forward: Growth | None,
    backward: Growth | None,
) -> list[Finding]:
    """All that is wrong, causes before what follows from them."""
    outputs, gradients = _excess(forward, most=_OUTPUTS), _excess(backward, most=_GRADIENTS)
    found = [
        _constant(rows, weights),
        _not_finite(rows, weights, forward, backward),
        _explodes(rows, weights, outputs),
        _dead(rows, outputs),
        _saturated(rows, weights),
        _vanishes(rows, weights, outputs),
        _gradients(rows, weights, gradients),
    ]
    return [finding for finding in found if finding is not None]


def _excess(growth: Growth | None, *, most: float) -> Growth | None:
    """The growth if it is too much, up or down.

    A factor of 0.9 is harmless in ten layers and fatal in two hundred: what counts is what it
    makes over the depth there is, that it is steep, or that a dtype ended on the way.
    """
    if growth is None or 1 / LEVEL <= growth.factor <= LEVEL:
        return None
    is_steep = not 1 / _STEEP < growth.factor < _STEEP and growth.last - growth.first >= 4
    is_much = is_steep or not 1 / most < growth.total < most
    return growth if is_much or growth.happened is not None else None


def _constant(rows: Sequence[SignalRow], weights: Sequence[WeightRow]) -> Finding | None:
    names = constant_weights(rows, weights)
    if not names:
        return None
    more = f" and of {len(names) - 1} more" if len(names) > 1 else ""
    return Finding(
        "symmetric",
        (f"constant weights: the entries of {names[0]!r}{more} are equal, and so are all units",),
        "Units that start equal stay equal: draw the weights, with recipe 'kaiming' or 'xavier'.",
    )


def _not_finite(
    rows: Sequence[SignalRow],
    weights: Sequence[WeightRow],
    forward: Growth | None,
    backward: Growth | None,
) -> Finding | None:
    """The call that made NaN or infinities, unless a trend led there."""
    first = _first_not_finite(rows)
    if first is None:
        return None if _has_overflowed(backward) else _gradients_not_finite(rows)
    if _has_overflowed(forward):
        return None
    broken = next((row.name for row in weights if not math.isfinite(row.rms)), None)
    if broken is not None:
        cure = f"{broken!r} is not finite itself: initialise it."
    elif first.input is not None and not first.input.is_finite:
        cure = "What goes into the net is not finite: look at the data."
    elif first.output.infs and first.is_layer:
        cure = suggestion(rows, weights, grows=True)
    else:
        cure = (
            "Look into that call for a division by zero, the root or the logarithm of a negative "
            "number, an exponential, or a mask that hides everything."
        )
    return Finding("not finite", (f"not finite: {_made(first)}",), cure)


def _has_overflowed(growth: Growth | None) -> bool:
    return growth is not None and growth.factor > 1 and growth.happened is not None


def _gradients_not_finite(rows: Sequence[SignalRow]) -> Finding | None:
    """The last layer whose gradient is not finite."""
    broken = [row for row in rows if row.gradient and not row.gradient.is_finite]
    last = max(broken, key=layer_of, default=None)
    if last is None:
        return None
    return Finding(
        "not finite",
        (f"gradients not finite: {_counts(last.gradient)} at {_place(last)} and before it",),
        "The outputs are finite: look at the call after it for a slope that is infinite (a root "
        "or a norm at 0), or at the loss.",
    )


def _explodes(
    rows: Sequence[SignalRow], weights: Sequence[WeightRow], growth: Growth | None
) -> Finding | None:
    if growth is None or growth.factor < 1:
        return None
    first = _first_not_finite(rows)
    return Finding(
        "explodes",
        (
            f"explodes: {times_text(growth.factor)} a layer{_limit_text(growth, rows)}",
            _span_text("outputs", growth, rows),
            *([f"first not finite: {_made(first)}"] if first is not None else []),
        ),
        suggestion(rows, weights, grows=True),
    )


def _vanishes(
    rows: Sequence[SignalRow], weights: Sequence[WeightRow], growth: Growth | None
) -> Finding | None:
    cure = suggestion(rows, weights, grows=False)
    if growth is not None and growth.factor < 1:
        line = f"vanishes: {times_text(growth.factor)} a layer{_limit_text(growth, rows)}"
        return Finding("vanishes", (line, _span_text("outputs", growth, rows)), cure)
    layers = [row for row in rows if row.is_layer]
    alive = max((i for i, row in enumerate(layers) if row.output.rms), default=-1)
    # A last layer of zeros is a way to begin; two in a row are not.
    if len(layers) - alive <= 2 or not all(row.output.is_finite for row in layers):
        return None
    line = f"vanishes: outputs are exactly 0 from {_place(layers[alive + 1])} on"
    return Finding("vanishes", (line,), cure)


def _dead(rows: Sequence[SignalRow], growth: Growth | None) -> Finding | None:
    """Where rectifiers are shut, unless it is because their inputs underflow."""
    stretch = dead_units(rows)
    is_underflow = growth is not None and growth.factor < 1 and growth.happened is not None
    if stretch is None or (is_underflow and stretch.last is None):
        return None
    return Finding(
        "dead",
        (f"dead units: {stretch.share:.0%} zeros {stretch.where}".replace("%", " %"),),
        f"Centre what {stretch.activation} gets there: zero biases, and weights of mean 0 "
        "(recipe 'kaiming').",
    )


def _saturated(rows: Sequence[SignalRow], weights: Sequence[WeightRow]) -> Finding | None:
    stretch = saturation(rows)
    if stretch is None:
        return None
    share = f"{stretch.share:.0%}".replace("%", " %")
    line = f"{stretch.activation} saturated: {share} within 1 % of {stretch.bounds} {stretch.where}"
    return Finding("saturated", (line,), suggestion(rows, weights, grows=True))


def _gradients(
    rows: Sequence[SignalRow], weights: Sequence[WeightRow], growth: Growth | None
) -> Finding | None:
    if growth is None:
        return None
    grows = growth.factor > 1
    verb = "explode" if grows else "vanish"
    line = f"gradients {verb}: {times_text(growth.factor)} a layer towards the input"
    lines = (f"{line}{_limit_text(growth, rows)}", _span_text("gradients", growth, rows))
    cure = suggestion(rows, weights, grows=grows)
    if 1 / _GRADIENTS < growth.total < 1:  # only the dtype makes it a sickness
        cure = f"Scale the loss (torch.amp.GradScaler): {growth.dtype} ends early. {cure}"
    return Finding("explodes" if grows else "vanishes", lines, cure)


def number_text(value: float) -> str:
    """Three digits: ``0.0625``, ``1.9e+37``."""
    return f"{value:.3g}"


def times_text(factor: float) -> str:
    """``×16``, ``×0.41``, ``×0.997``: as many digits as the fit is good for."""
    if factor >= 10:
        return f"×{factor:.0f}"
    digits = 3 if 0.9 < factor < 1.1 else 2
    return f"×{factor:#.{digits}g}"


def _limit_text(growth: Growth, rows: Sequence[SignalRow]) -> str:
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


def _span_text(what: str, growth: Growth, rows: Sequence[SignalRow]) -> str:
    """Where a trend begins and ends, in the direction of its walk."""
    names = {layer_of(row): row for row in rows if row.is_layer}
    ends = (growth.first, growth.last)
    first, last = ends if what == "outputs" else ends[::-1]
    return (
        f"{what}: rms {number_text(growth.start)} at {_place(names[first])}, "
        f"{number_text(growth.end)} at {_place(names[last])}; layers count from 0"
    )


def _first_not_finite(rows: Sequence[SignalRow]) -> SignalRow | None:
    """The one whose input was kept; a module around it may stand before it."""
    broken = [row for row in rows if not row.output.is_finite]
    return next((row for row in broken if row.input is not None), broken[0] if broken else None)


def _made(row: SignalRow) -> str:
    got = row.input
    if got is None:
        origin = ""
    elif got.is_finite:
        size = f"rms {number_text(got.rms)}, max {number_text(got.abs_max)}"
        origin = f" from finite input ({size}, {got.dtype})"
    else:
        origin = f" from input with {_counts(got)}"
    return f"{_place(row)} gives {_counts(row.output)}{origin}"


def _counts(found: Statistics | None) -> str:
    if found is None:
        return ""
    counts = [f"{n} {what}" for n, what in ((found.nans, "NaN"), (found.infs, "Inf")) if n]
    return f"{' and '.join(counts)} among {math.prod(found.shape)}"


def _place(row: SignalRow) -> str:
    """``layer 3 ('conv3')``, ``'head/softmax' after layer 3``."""
    if row.is_layer:
        return f"layer {layer_of(row)} ({row.name!r})" if row.name else f"layer {layer_of(row)}"
    name = row.name or row.kind
    return f"{name!r} after layer {layer_of(row)}" if row.depth else f"{name!r}"
