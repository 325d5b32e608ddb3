"""`Calibration`: what was done to each layer, and what came of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fanin.calibration.export import json_text
from fanin.probing.measuring.arguments import some
from fanin.report import NOTHING, Column, Table, number_text

__all__ = ["Calibration", "CalibrationRow"]


@dataclass(frozen=True, slots=True)
class CalibrationRow:
    """One layer, in the order of its first call; those that were never called come last.

    Args:
        name: canonical name of the module.
        kind: its class.
        before: std of its output when its turn came, the layers before it being calibrated; None
            where it was not measured.
        after: std of its output in a pass through the model as it is now.
        factor: on its weights; on several weights the same; over several units the geometric mean.
        iterations: how often the weights were scaled.
        converged: whether the output is within the tolerance now.
        note: why it was left alone, or is again as it was; empty where it was scaled.
    """

    name: str
    kind: str
    before: float | None = None
    after: float | None = None
    factor: float = 1.0
    iterations: int = 0
    converged: bool = False
    note: str = ""


@dataclass(frozen=True, repr=False)
class Calibration:
    """What `fanin.calibrate` did: ``print`` shows a table, a row a layer.

    Args:
        method: by which.
        target: std that was asked for.
        tolerance: by how much of it a layer may differ.
        rows: one for each layer with weights.
        seed: of orthogonal first values; None where none were drawn.
    """

    method: str
    target: float
    tolerance: float
    rows: tuple[CalibrationRow, ...]
    seed: int | None = None

    @property
    def converged(self) -> bool:
        """Whether every layer that was tried is within the tolerance.

        One whose output does not follow its weights was tried, though these are as they were.
        Where a layer that was left alone returns NaN it is false, too.
        """
        return all(row.converged for row in self._tried) and not self._broken

    def table(self) -> Table:
        """A row for each layer."""
        columns: tuple[Column | str, ...] = (
            "layer",
            Column("kind", optional=True),
            Column("std before", "right"),
            Column("std after", "right"),
            Column("factor", "right"),
            Column("iterations", "right", optional=True),
            "remark",
        )
        rows = tuple(map(_cells, self.rows))
        if not any(row[-1] for row in rows):
            columns, rows = columns[:-1], tuple(row[:-1] for row in rows)
        return Table(columns, rows, caption=self._summary())

    def to_json(self) -> str:
        """All of it as JSON text."""
        return json_text(self)

    @property
    def _broken(self) -> list[str]:
        return [row.name for row in self.rows if row.after is not None and math.isnan(row.after)]

    @property
    def _tried(self) -> list[CalibrationRow]:
        return [row for row in self.rows if not row.note or row.before is not None]

    def _summary(self) -> str:
        done = self._tried
        within = sum(row.converged for row in done)
        seed = "" if self.seed is None else f", seed {self.seed}"
        units = ", unit by unit" if self.method == "weight_norm" else ""
        text = (
            f"{self.method}{seed}: {within} of {len(done)} layers within {self.tolerance:.1%} of "
            f"{self.target:g}{units}."
        )
        return f"{text}\nNaN in the output of {some(self._broken)}." if self._broken else text

    def __str__(self) -> str:
        return str(self.table())

    __repr__ = __str__


def _cells(row: CalibrationRow) -> tuple[str, ...]:
    left = bool(row.note)
    return (
        row.name or "(model)",
        row.kind,
        number_text(row.before),
        number_text(row.after),
        NOTHING if left else number_text(row.factor),
        NOTHING if left else str(row.iterations),
        f"left alone: {row.note}" if left else "" if row.converged else "not within the tolerance",
    )
