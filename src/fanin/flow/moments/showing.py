"""A prediction as a table for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fanin.flow.graph import Value
from fanin.report import Column, Table, number_text, shape_text

if TYPE_CHECKING:
    from fanin.flow.moments.prediction import Prediction

__all__ = ["prediction_table"]


def prediction_table(prediction: Prediction) -> Table:
    """A row for each module call that made a tensor, the innermost where several return it."""
    columns = (
        Column("name"),
        Column("kind"),
        Column("shape", optional=True),
        Column("std", "right"),
        Column("median", "right"),
        Column("95 % of draws", "right"),
        Column("gradient rms", "right"),
    )
    rows, seen = [], set[Value]()
    for call in prediction.trace.calls:
        value = next((each for each in call.outputs if each in prediction.values), None)
        if value is None or value in seen:
            continue
        seen.add(value)
        found = prediction[value]
        low, high = found.interval
        name = call.name or "(model)"
        rows.append(
            (
                f"{name} (call {call.call + 1})" if call.call else name,
                call.kind,
                shape_text(value.shape),
                number_text(found.std),
                number_text(found.median),
                f"{number_text(low)} … {number_text(high)}",
                number_text(found.gradient_rms),
            )
        )
    return Table(columns, tuple(rows), caption="\n".join(prediction.notes))
