"""A trace as a table for people: of like blocks in a row the first one is shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fanin.flow.residuals import weights_of
from fanin.flow.structure import following
from fanin.report import Column, Table, shape_text

if TYPE_CHECKING:
    from fanin.flow.graph import Operation, Trace, Value

__all__ = ["trace_table"]

_FEW = 3  # like blocks in a row, from which on only the first is shown, as `inspect` does
_SAVED = 8  # rows that leaving out the others saves at least; fewer are easier to read
_LONGEST = 64  # modules and operations of a block that is looked for
_MOST = 100  # rows of a table that is shown whole
_ENDS = 40  # rows kept at either end of a longer one


def trace_table(trace: Trace, *, every: bool = False) -> Table:
    """A row for each operation; columns that no row fills are left out."""
    columns = (
        Column("#", "right"),
        Column("module"),
        Column("operation"),
        Column("shape"),
        Column("parameters"),
        Column("followed by", optional=True),
        Column("residual", optional=True),
    )
    lines = list(_lines(trace))
    rows = [line.cells for line in lines] if every else _shortened([*_folded(lines, 0)])
    filled = [i for i in range(len(columns)) if i < 4 or any(line.cells[i] for line in lines)]
    return Table(
        tuple(columns[i] for i in filled),
        tuple(tuple(row[i] for i in filled) for row in rows),
        caption="\n".join([*_totals(trace, is_whole=len(rows) >= len(lines)), *trace.notes]),
    )


@dataclass(frozen=True, slots=True)
class _Line:
    """The row of an operation.

    Args:
        place: the components of its module's name.
        likeness: equal for operations that differ in nothing but numbers of blocks, and in what
            follows the block.
        cells: of the row.
    """

    place: tuple[str, ...]
    likeness: object
    cells: tuple[str, ...]


def _lines(trace: Trace) -> Iterator[_Line]:
    branches: dict[Operation, list[int]] = {}
    for residual in trace.residuals():
        branches.setdefault(residual.operation, []).append(residual.depth)
    for operation in trace.operations:
        weights = weights_of(trace, operation)
        own = f"{operation.module}." if operation.module else ""
        names = ", ".join(name.removeprefix(own) for name in weights)
        # What only rearranges weights is followed by what takes them, which has a row of its own.
        computes = bool(weights) and not trace.roles.weights.issuperset(operation.outputs)
        after = ", ".join(following(trace, operation.outputs)) if computes else ""
        depths = branches.get(operation, [])
        place = tuple(operation.module.split(".")) if operation.module else ()
        what = (operation.name, _shapes(operation.outputs))
        yield _Line(
            place,
            (_unnumbered(place), what, _unnumbered(names.split(".")), len(depths)),
            (
                str(operation.index),
                f"{operation.module or '(model)'}{_call_text(operation.call)}",
                *(*what, names, after),
                f"branch {', '.join(map(str, depths))}" if depths else "",
            ),
        )


def _folded(lines: Sequence[_Line], level: int) -> Iterator[tuple[str, ...]]:
    """The rows of operations whose modules agree in the components before a level."""
    blocks = list(_blocks(lines, level))
    numbers: dict[object, int] = {}
    kinds = [numbers.setdefault(tuple(x.likeness for x in b), len(numbers)) for b in blocks]
    yield from _first_of_each(blocks, kinds, level)


def _first_of_each(
    blocks: Sequence[list[_Line]], kinds: Sequence[int], level: int
) -> Iterator[tuple[str, ...]]:
    start = 0
    while start < len(blocks):
        period, times = _repetition(kinds, start)
        first, end = slice(start, start + period), start + period * times
        others = blocks[first.stop : end]
        count = sum(map(len, others))
        if times > 1 and count >= _SAVED:
            yield from _first_of_each(blocks[first], kinds[first], level)
            text = f"{times - 1} × likewise, {_up_to(blocks[first], others, level)}"
            yield _gap(text, f"{count} operations")
            start = end
        else:
            block = blocks[start]
            yield from _folded(block, level + 1) if len(block) > 1 else [block[0].cells]
            start += 1


def _blocks(lines: Sequence[_Line], level: int) -> Iterator[list[_Line]]:
    """Operations in a row that are in one module below the level; one that is in none is alone."""
    block: list[_Line] = []
    for line in lines:
        here = line.place[level : level + 1]
        if block and (not here or block[-1].place[level : level + 1] != here):
            yield block
            block = []
        block.append(line)
    if block:
        yield block


def _repetition(kinds: Sequence[int], start: int) -> tuple[int, int]:
    """How many blocks from here repeat how often, for the most blocks; once where none do."""
    best = (1, 1)
    for period in range(1, min((len(kinds) - start) // _FEW, _LONGEST) + 1):
        end = start + period
        while end < len(kinds) and kinds[end] == kinds[end - period]:
            end += 1
        times = (end - start) // period
        if times >= _FEW and period * times > best[0] * best[1]:
            best = (period, times)
    return best


def _up_to(first: Sequence[list[_Line]], others: Sequence[list[_Line]], level: int) -> str:
    """The module in which the others end, or the operation where that is in the first too."""
    last = _module(others, level)
    return f"to # {others[-1][-1].cells[0]}" if last == _module(first, level) else f"to {last}"


def _module(blocks: Sequence[list[_Line]], level: int) -> str:
    """The last one below a level, with its number if it has one."""
    inside = [block[-1].place for block in blocks if len(block[-1].place) > level]
    place = inside[-1] if inside else ()
    numbers = (i for i in range(level, len(place)) if place[i].isdecimal())
    return ".".join(place[: next(numbers, level) + 1])


def _shortened(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The first and the last rows of many."""
    if len(rows) <= _MOST:
        return rows
    return [*rows[:_ENDS], _gap(f"{len(rows) - 2 * _ENDS} rows more", ""), *rows[-_ENDS:]]


def _gap(text: str, count: str) -> tuple[str, ...]:
    return ("…", text, count, *[""] * 4)


def _totals(trace: Trace, *, is_whole: bool) -> Iterator[str]:
    count = len(trace.operations)
    yield (
        f"{count:,} operation{'' if count == 1 else 's'}; takes {_shapes(trace.arguments)}, "
        f"gives {_shapes(trace.outputs)}."
    )
    if not is_whole:
        yield "table(every=True) has every row."


def _shapes(values: Sequence[Value]) -> str:
    """``16×8``, ``3 of 16×8``, ``16×8, 1×8``."""
    shapes = [shape_text(value.shape) for value in values]
    if len(shapes) > 1 and len(set(shapes)) == 1:
        return f"{len(shapes)} of {shapes[0]}"
    return ", ".join(shapes) or "nothing"


def _call_text(call: int) -> str:
    return f" (call {call + 1})" if call else ""


def _unnumbered(components: Iterable[str]) -> tuple[str, ...]:
    return tuple("#" if each.isdecimal() else each for each in components)
