"""What was to be expected of the rows of a probe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from fanin.errors import FaninError
from fanin.planning import Plan
from fanin.planning.predicting import predict
from fanin.probing.rows import Expected, SignalRow

__all__ = ["with_predictions"]


def with_predictions(
    rows: Sequence[SignalRow], model: nn.Module, plan: Plan, inputs: object
) -> tuple[tuple[SignalRow, ...], list[str]]:
    """The rows with what the plan leads one to expect, and notes; rows of functions have none.

    A model that cannot be traced is no reason to lose what was measured.
    """
    try:
        prediction = predict(model, plan, inputs)
    except FaninError as error:
        return tuple(rows), [f"no predictions: {error}"]
    found = []
    for row in rows:
        each = prediction.module(row.name, row.call) if "/" not in row.name else None
        if each is not None:
            row = replace(row, expected=Expected(each.median, *each.interval))
        found.append(row)
    return tuple(found), [f"predictions: {note}" for note in prediction.notes]
