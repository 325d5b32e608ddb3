"""NaN and infinities: which call made them first."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fanin.probing.rows import SignalRow, WeightRow
from fanin.probing.verdicts.finding import Finding
from fanin.probing.verdicts.growth import Growth, layer_of
from fanin.probing.verdicts.suggestion import own_std, suggestion
from fanin.probing.verdicts.words import counts, made, place

__all__ = ["first_not_finite", "loss_not_finite", "not_finite"]

_LOOK = (
    "for a division by zero, the root or the logarithm of a negative number, an exponential, or a "
    "mask that hides everything"
)


def not_finite(
    rows: Sequence[SignalRow],
    weights: Sequence[WeightRow],
    forward: Growth | None,
    backward: Growth | None,
) -> Finding | None:
    """The call that made NaN or infinities, unless a trend led there."""
    first = first_not_finite(rows)
    if first is None:
        return None if _has_overflowed(backward) else _gradients_not_finite(rows)
    if _has_overflowed(forward):
        return None
    cure = _cure(first, rows, weights)
    return Finding("not finite", (f"not finite: {made(first)}",), cure, (first.name,))


def loss_not_finite(rows: Sequence[SignalRow], loss: float | None) -> Finding | None:
    """The loss, where everything before it is finite."""
    if loss is None or math.isfinite(loss) or first_not_finite(rows) is not None:
        return None
    line = f"not finite: the loss is {loss}, and the outputs are finite"
    return Finding("not finite", (line,), f"Look into the loss {_LOOK}.")


def first_not_finite(rows: Sequence[SignalRow]) -> SignalRow | None:
    """The one whose input was kept; a module around it may stand before it."""
    broken = [row for row in rows if not row.output.is_finite]
    return next((row for row in broken if row.input is not None), broken[0] if broken else None)


def _cure(first: SignalRow, rows: Sequence[SignalRow], weights: Sequence[WeightRow]) -> str:
    broken = next((row.name for row in weights if not math.isfinite(row.rms)), None)
    if broken is not None:
        return f"{broken!r} is not finite itself: initialise it."
    if first.input is not None and not first.input.is_finite:
        before = [row for row in rows if row.index < first.index]
        if not before:
            return "What goes into the net is not finite: look at the data."
        between = f"between {before[-1].label!r} and {first.label!r}"
        return f"It is made {between}: look there {_LOOK}, or at an input that comes in there."
    if first.output.infs and first.is_layer:
        own = own_std(rows, weights, first.name)
        return own.text if own and own.ratio > 10 else suggestion(rows, weights, grows=True)
    return f"Look into that call {_LOOK}."


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
        (f"gradients not finite: {counts(last.gradient)} at {place(last)} and before it",),
        "The outputs are finite: look at the call after it for a slope that is infinite (a root "
        "or a norm at 0), or at the loss.",
        (last.name,),
    )
