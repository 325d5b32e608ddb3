"""What can be wrong with the start of a net: found in the rows of a probe, put into words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import takewhile

from fanin.probing.rows import SignalRow, Statistics, WeightRow
from fanin.probing.verdicts.finding import Finding, Kind
from fanin.probing.verdicts.growth import LEVEL, Growth, layer_of
from fanin.probing.verdicts.jumps import jumps
from fanin.probing.verdicts.not_finite import first_not_finite, loss_not_finite, not_finite
from fanin.probing.verdicts.stretches import dead_units, saturation
from fanin.probing.verdicts.suggestion import suggestion
from fanin.probing.verdicts.words import limit_text, made, place, span_text
from fanin.report import times_text

__all__ = ["findings"]

_OUTPUTS = 1e3
"""Change of the rms of outputs over all layers that is too much.

A healthy linear net of 100 layers drifts by 5 at width 256 and by 40 at width 64 (the mean and
three standard deviations of a random walk: a step of log rms has variance 1/2n and mean -1/2n).
AlexNet and VGG-16 with Xavier or Kaiming weights change by 90 at most. Ten linear layers and relu
with torch's defaults, without biases, change by 3000, four linear ones with N(0, 1) by 4096.
"""

_STEEP, _STEPS = 3.0, 5
"""Factor of outputs a layer that is too much, over so many factors or more.

Pooling and rectifiers with torch's defaults change signals by 0.4 a layer in nets that train.
"""

_GRADIENTS = 1e5
"""Change of the rms of gradients over all layers that is too much.

Larger, since pooling and resolution move gradients too, in nets that people train: AlexNet with
torch's defaults changes by 1500, VGG-16 with Xavier weights by 2400, 100 layers of tanh with gain
5/3 by 11,000. VGG-16 with torch's defaults changes by 1e7.
"""

_ROUNDING = 1e-6  # of the std of equal entries, measured in float64


def findings(
    rows: Sequence[SignalRow],
    weights: Sequence[WeightRow],
    forward: Growth | None,
    backward: Growth | None,
    *,
    loss: float | None = None,
) -> list[Finding]:
    """All that is wrong, causes before what follows from them."""
    outputs = _excess(forward, most=_OUTPUTS, steepest=_STEEP)
    gradients = _excess(backward, most=_GRADIENTS)
    found = [
        _constant(weights),
        not_finite(rows, weights, forward, backward),
        *jumps(rows, weights, forward, backward, most=(_OUTPUTS, _GRADIENTS)),
        _explodes(rows, weights, outputs),
        _dead(rows, outputs),
        _saturated(rows, weights),
        _vanishes(rows, weights, outputs),
        _changes(rows, weights) if forward is None else None,
        loss_not_finite(rows, loss),
        _gradients(rows, weights, gradients),
        _cut_off(rows, weights, gradients),
    ]
    return [finding for finding in found if finding is not None]


def _excess(growth: Growth | None, *, most: float, steepest: float = math.inf) -> Growth | None:
    """The growth if it is too much, up or down.

    A factor of 0.9 is harmless in ten layers and fatal in two hundred: what counts is what it
    makes over the depth there is, that it is steep, or that a dtype ended on the way.
    """
    if growth is None or 1 / LEVEL <= growth.factor <= LEVEL:
        return None
    is_long = growth.last - growth.first >= _STEPS
    is_steep = is_long and not 1 / steepest < growth.factor < steepest
    is_much = is_steep or not 1 / most < growth.total < most
    return growth if is_much or growth.happened is not None else None


def _constant(weights: Sequence[WeightRow]) -> Finding | None:
    """Weights that are trained and whose entries are one number: their units stay one.

    A layer of zeros is a way to begin (the last one, that of a gate); most of them are not.
    """
    shared = [row for row in weights if row.requires_grad and row.units > 1]
    are_mostly_zeros = sum(row.rms == 0 for row in shared) > max(1, len(shared) / 2)
    equal = (row for row in shared if row.rms < math.inf and row.std <= _ROUNDING * row.rms)
    names = [row.name for row in equal if row.rms > 0 or are_mostly_zeros]
    if not names:
        return None
    more = f" and of {len(names) - 1} more" if len(names) > 1 else ""
    return Finding(
        "symmetric",
        (f"constant weights: the entries of {names[0]!r}{more} are equal, and so are all units",),
        "Units that start equal stay equal: draw the weights, with recipe 'kaiming' or 'xavier'.",
        tuple(names),
    )


def _changes(rows: Sequence[SignalRow], weights: Sequence[WeightRow]) -> Finding | None:
    """Layers too few for a trend, between whose ends there is too much all the same."""
    layers = [row for row in rows if row.is_layer and row.output.is_finite and row.output.rms > 0]
    for ends in (layers, layers[:-1]):  # a last layer near zero is a way to begin
        if len(ends) < 2:
            continue
        first, last = ends[0], ends[-1]
        factor = last.output.rms / first.output.rms
        grows = factor > 1
        if 1 / _OUTPUTS < factor < _OUTPUTS or (ends is layers and not grows):
            continue
        verb: Kind = "explodes" if grows else "vanishes"
        line = f"{verb}: outputs {times_text(factor)} from {place(first)} to {place(last)}"
        cure = suggestion(rows, weights, grows=grows)
        return Finding(verb, (line,), cure, (last.name,))
    return None


def _explodes(
    rows: Sequence[SignalRow], weights: Sequence[WeightRow], growth: Growth | None
) -> Finding | None:
    if growth is None or growth.factor < 1:
        return None
    first = first_not_finite(rows)
    return Finding(
        "explodes",
        (
            f"explodes: {times_text(growth.factor)} a layer{limit_text(growth, rows)}",
            span_text("outputs", growth, rows),
            *([f"first not finite: {made(first)}"] if first is not None else []),
        ),
        suggestion(rows, weights, grows=True),
        _span(growth, rows),
    )


def _vanishes(
    rows: Sequence[SignalRow], weights: Sequence[WeightRow], growth: Growth | None
) -> Finding | None:
    cure = suggestion(rows, weights, grows=False)
    if growth is not None and growth.factor < 1:
        line = f"vanishes: {times_text(growth.factor)} a layer{limit_text(growth, rows)}"
        lines = (line, span_text("outputs", growth, rows))
        return Finding("vanishes", lines, cure, _span(growth, rows))
    layers = [row for row in rows if row.is_layer]
    alive = max((i for i, row in enumerate(layers) if row.output.rms), default=-1)
    # A last layer of zeros is a way to begin; two in a row are not.
    if len(layers) - alive <= 2 or not all(row.output.is_finite for row in layers):
        return None
    line = f"vanishes: outputs are exactly 0 from {place(layers[alive + 1])} on"
    return Finding("vanishes", (line,), cure, (layers[alive + 1].name,))


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
        (stretch.name,),
    )


def _saturated(rows: Sequence[SignalRow], weights: Sequence[WeightRow]) -> Finding | None:
    stretch = saturation(rows)
    if stretch is None:
        return None
    share = f"{stretch.share:.0%}".replace("%", " %")
    line = f"{stretch.activation} saturated: {share} within 1 % of {stretch.bounds} {stretch.where}"
    cure = suggestion(rows, weights, grows=True)
    return Finding("saturated", (line,), cure, (stretch.name,))


def _gradients(
    rows: Sequence[SignalRow], weights: Sequence[WeightRow], growth: Growth | None
) -> Finding | None:
    if growth is None:
        return None
    grows = growth.factor > 1
    verb = "explode" if grows else "vanish"
    line = f"gradients {verb}: {times_text(growth.factor)} a layer towards the input"
    lines = (f"{line}{limit_text(growth, rows)}", span_text("gradients", growth, rows))
    cure = suggestion(rows, weights, grows=grows)
    # Where little changes, only the dtype makes it a sickness.
    if growth.happened is not None and 1 / _GRADIENTS < growth.total < 1:
        cure = f"Scale the loss (torch.amp.GradScaler): {growth.dtype} ends early. {cure}"
    return Finding("explodes" if grows else "vanishes", lines, cure, _span(growth, rows)[::-1])


def _cut_off(
    rows: Sequence[SignalRow], weights: Sequence[WeightRow], growth: Growth | None
) -> Finding | None:
    """Where gradients end all at once, unless they shrink to nothing.

    One layer without is a way to begin (the first factor of LoRA), and so are all below a last
    layer of zeros.
    """
    layers = [row for row in rows if row.is_layer and row.gradient is not None]
    shut = list(takewhile(lambda row: row.gradient and _is_zero(row.gradient), layers))
    alive = layers[len(shut) :]
    if len(shut) < 2 or len(alive) < 2 or (growth is not None and growth.happened is not None):
        return None
    at = alive[0]
    own = next((row for row in weights if row.name == f"{at.name}.weight"), None)
    if own is not None and own.rms == 0:
        cure = f"{own.name!r} is 0 throughout: draw it."
    elif at.gradient is not None and at.gradient.dtype == "float16":
        cure = "Scale the loss (torch.amp.GradScaler): float16 ends early."
    else:
        cure = "Look at what lies there for a function without a slope: round, sign, a relu shut."
    line = f"gradients are exactly 0 below {place(at)}"
    return Finding("vanishes", (line,), cure, (at.name,))


def _span(growth: Growth, rows: Sequence[SignalRow]) -> tuple[str, ...]:
    """The names of the layers that a trend goes through."""
    inside = range(growth.first, growth.last + 1)
    return tuple(row.name for row in rows if row.is_layer and layer_of(row) in inside)


def _is_zero(found: Statistics) -> bool:
    return found.is_finite and found.abs_max == 0
