"""What two plans would write differently."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fanin.fills import Constant
from fanin.planning.describe import content_text, dtype_text, shape_text
from fanin.planning.step import Step
from fanin.report import Table

__all__ = ["Difference", "PlanDiff", "plan_diff"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One parameter, what of it differs, and how it is in either plan; "-" where it is absent."""

    name: str
    what: str
    ours: str
    theirs: str


@dataclass(frozen=True, slots=True)
class PlanDiff:
    """Every difference between two plans; false where there is none."""

    lines: tuple[Difference, ...]

    @property
    def is_empty(self) -> bool:
        """Whether both plans write the same bits."""
        return not self.lines

    def table(self) -> Table:
        """One row for each difference."""
        rows = tuple((line.name, line.what, line.ours, line.theirs) for line in self.lines)
        return Table(("parameter", "differs in", "first", "second"), rows)

    def tables(self) -> tuple[Table, ...]:
        """The differences as their one table."""
        return (self.table(),)

    def __bool__(self) -> bool:
        return bool(self.lines)

    def __str__(self) -> str:
        return str(self.table()) if self.lines else "The plans write the same bits."

    __repr__ = __str__


def plan_diff(ours: Sequence[Step], theirs: Sequence[Step]) -> PlanDiff:
    """Compare step by step, by the name of the owner."""
    others = {step.name: step for step in theirs}
    lines: list[Difference] = []
    for step in ours:
        other = others.pop(step.name, None)
        if other is None:
            lines.append(Difference(step.name, "presence", shape_text(step.shape), "-"))
        else:
            lines.extend(_differences(step, other))
    lines += [Difference(s.name, "presence", "-", shape_text(s.shape)) for s in others.values()]
    return PlanDiff(tuple(lines))


def _differences(a: Step, b: Step) -> Iterator[Difference]:
    aspects = (
        ("names", a.names, b.names, " = ".join(a.names), " = ".join(b.names)),
        ("shape", a.shape, b.shape, shape_text(a.shape), shape_text(b.shape)),
        ("dtype", a.dtype, b.dtype, dtype_text(a.dtype), dtype_text(b.dtype)),
        (
            "distribution",
            (a.fill, a.pending),
            (b.fill, b.pending),
            content_text(a),
            content_text(b),
        ),
        ("padding row", a.padding_row, b.padding_row, str(a.padding_row), str(b.padding_row)),
    )
    found = [(what, x, y) for what, one, other, x, y in aspects if one != other]
    for what, x, y in found:
        yield Difference(a.name, what, x, y)
    # Another stream alone: equal distributions, other values.
    is_drawn = a.fill is not None and not isinstance(a.fill, Constant)
    if not found and is_drawn and a.key != b.key:
        yield Difference(a.name, "stream", _key_text(a), _key_text(b))


def _key_text(step: Step) -> str:
    return f"{step.key.name!r}, seed {step.key.seed}" if step.key is not None else "-"
