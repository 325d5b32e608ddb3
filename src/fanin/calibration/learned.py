"""`LearnedScales`: by what each parameter was scaled, and what that did to the objective."""

from __future__ import annotations

from dataclasses import dataclass

from fanin.calibration.export import json_text
from fanin.report import NOTHING, Column, Table, number_text

__all__ = ["LearnedScales", "ScaleRow"]


@dataclass(frozen=True, slots=True)
class ScaleRow:
    """One parameter, in registration order.

    Args:
        name: canonical name of the parameter.
        before: its Euclidean norm at the start.
        after: its norm now.
        factor: by which it was multiplied.
        note: why it was left alone; empty where it was not.
    """

    name: str
    before: float
    after: float
    factor: float = 1.0
    note: str = ""


@dataclass(frozen=True, repr=False)
class LearnedScales:
    """What `fanin.calibrate` did by ``"metainit"`` or ``"gradinit"``: ``print`` shows a table.

    Args:
        method: by which.
        objective: what was made smaller, in words.
        loss: which loss was used: as given, the model's own, or a random projection.
        before: the objective at the start; None where it was not finite, or could not be stated.
        after: at the scales that were kept, the best of all that were tried.
        iterations: how many steps were taken.
        best: after how many of them these scales were reached.
        rows: one for each parameter that could have been scaled, and for those left alone.
        gradient_before: for gradinit, the norm of the gradient at the start.
        gradient_after: and now.
        gradient_bound: which it may not exceed.
    """

    method: str
    objective: str
    loss: str
    before: float | None
    after: float | None
    iterations: int
    best: int
    rows: tuple[ScaleRow, ...]
    gradient_before: float | None = None
    gradient_after: float | None = None
    gradient_bound: float | None = None

    @property
    def converged(self) -> bool:
        """Whether the gradient is within its bound; where there is none, always."""
        if self.gradient_bound is None or self.gradient_after is None:
            return True
        return self.gradient_after <= self.gradient_bound

    def table(self) -> Table:
        """A row for each parameter."""
        columns: tuple[Column | str, ...] = (
            "parameter",
            Column("norm before", "right"),
            Column("norm after", "right"),
            Column("factor", "right"),
            "remark",
        )
        rows = tuple(map(_cells, self.rows))
        if not any(row[-1] for row in rows):
            columns, rows = columns[:-1], tuple(row[:-1] for row in rows)
        return Table(columns, rows, caption=self._summary())

    def to_json(self) -> str:
        """All of it as JSON text."""
        return json_text(self)

    def _summary(self) -> str:
        text = (
            f"{self.method}, {self.loss}: {self.objective} {number_text(self.before)} -> "
            f"{number_text(self.after)}, step {self.best} of {self.iterations} the best."
        )
        if self.gradient_bound is None:
            return text
        verdict = "within" if self.converged else "above"
        return (
            f"{text}\ngradient norm {number_text(self.gradient_before)} -> "
            f"{number_text(self.gradient_after)}, {verdict} the bound of "
            f"{number_text(self.gradient_bound)}."
        )

    def __str__(self) -> str:
        return str(self.table())

    __repr__ = __str__


def _cells(row: ScaleRow) -> tuple[str, ...]:
    left = bool(row.note)
    return (
        row.name,
        number_text(row.before),
        number_text(row.after),
        NOTHING if left else number_text(row.factor),
        f"left alone: {row.note}" if left else "",
    )
