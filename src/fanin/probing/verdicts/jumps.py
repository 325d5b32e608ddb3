"""One layer that makes the change which a trend would need all layers for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fanin.probing.rows import SignalRow, WeightRow
from fanin.probing.verdicts.finding import Finding
from fanin.probing.verdicts.growth import Growth, Jump, layer_of
from fanin.probing.verdicts.suggestion import own_std
from fanin.probing.verdicts.words import place, span_text
from fanin.report import times_text

__all__ = ["jumps"]

_OFF = 10.0
"""A std so far off may make a jump; what a gain is off by may not."""


def jumps(
    rows: Sequence[SignalRow],
    weights: Sequence[WeightRow],
    forward: Growth | None,
    backward: Growth | None,
    *,
    most: tuple[float, float],
) -> Iterator[Finding]:
    """Jumps of outputs and of gradients; not the latter where the same layer makes both.

    Args:
        rows: of the probe.
        weights: of the probe.
        forward: of outputs.
        backward: of gradients.
        most: changes of outputs and of gradients that are too much.
    """
    told: set[int] = set()
    growths = zip(("outputs", "gradients"), (forward, backward), most, strict=True)
    for what, growth, limit in growths:
        jump = growth.jump if growth is not None else None
        if growth is None or jump is None or jump.layer in told:
            continue
        if not 1 / limit < jump.factor * growth.total < limit:
            found = _finding(what, growth, jump, rows, weights)
            if found is not None:
                told.add(jump.layer)
                yield found


def _finding(
    what: str, growth: Growth, jump: Jump, rows: Sequence[SignalRow], weights: Sequence[WeightRow]
) -> Finding | None:
    """The jump, if the weights explain it or nothing harmless does.

    A last layer near zero is a way to begin, and a norm may bring anything down.
    """
    grows = jump.factor > 1
    row = next(row for row in rows if row.is_layer and layer_of(row) == jump.layer)
    own = own_std(rows, weights, row.name)
    is_own = own is not None and (own.ratio > _OFF if grows else own.ratio < 1 / _OFF)
    is_end = min(jump.before, jump.behind) < 2
    if (is_end and not (is_own and grows)) or not (is_own or grows):
        return None
    verbs = ("explodes", "vanishes") if what == "outputs" else ("explode", "vanish")
    subject = "" if what == "outputs" else f"{what} "
    line = (
        f"{subject}{verbs[not grows]}: {times_text(jump.factor)} at {place(row)} alone, "
        f"{times_text(growth.factor)} a layer elsewhere"
    )
    cure = own.text if own is not None and is_own else f"Look at what goes into {place(row)}."
    lines = (line, span_text(what, growth, rows))
    return Finding("explodes" if grows else "vanishes", lines, cure, (row.name,))
