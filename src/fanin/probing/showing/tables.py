"""The rows of a probe as tables, curves and series; the rows of a long net shortened."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fanin.probing.rows import SignalRow, Statistics, WeightRow
from fanin.probing.verdicts.growth import layer_of
from fanin.report import NOTHING, Column, Table, number_text, shape_text
from fanin.report.series import Series
from fanin.report.sparkline import sparkline

if TYPE_CHECKING:
    from fanin.probing.signal_report import SignalReport

__all__ = [
    "curves_text",
    "notebook_html",
    "signal_series",
    "signals_table",
    "tables_html",
    "weights_table",
]

_ENDS = 12  # rows kept at either end of a long table
_AROUND = 2  # rows kept on either side of the first that is not finite
_LEAST_SPAN = 2.0  # decades from the lowest to the highest block: less is level


def signals_table(rows: Sequence[SignalRow], *, every: bool = False) -> Table:
    """A row for each call; columns that no row fills are left out."""
    columns = [
        Column("layer", "right"),
        Column("name"),
        Column("kind"),
        Column("shape", optional=True),
        *(Column(name, "right", optional=name in {"mean", "max"}) for name in _NUMBERS),
    ]
    cells = [_signal_cells(row) for row in rows]
    always = len(columns) - len(_OPTIONAL)
    kept = [
        i for i in range(len(columns)) if i < always or any(line[i] != NOTHING for line in cells)
    ]
    lines = [tuple(line[i] for i in kept) for line in cells]
    shown = lines if every else _shortened(lines, rows)
    caption = "table(every=True) has every row" if len(shown) < len(lines) else ""
    return Table(tuple(columns[i] for i in kept), tuple(shown), caption=caption)


def weights_table(weights: Sequence[WeightRow]) -> Table:
    """A row for each parameter."""
    columns = (
        Column("parameter"),
        Column("shape"),
        Column("expected std", "right"),
        Column("std", "right"),
        Column("gradient rms", "right"),
        Column("gradient / weight", "right"),
    )
    lines = [
        (
            row.name,
            shape_text(row.shape),
            number_text(row.expected_std),
            number_text(row.std),
            number_text(row.gradient_rms),
            number_text(row.ratio),
        )
        for row in weights
    ]
    return Table(columns, tuple(lines))


def signal_series(rows: Sequence[SignalRow]) -> dict[str, Series]:
    """What curves over depth show: a point for each layer with weights."""
    layers = [row for row in rows if row.is_layer]
    found = [
        _series("output rms", layers, lambda row: row.output, lambda each: each.rms),
        _series("output std", layers, lambda row: row.output, lambda each: each.std),
        _series("gradient rms", layers, lambda row: row.gradient, lambda each: each.rms),
    ]
    return {series.name: series for series in found if series.x}


def curves_text(rows: Sequence[SignalRow]) -> str:
    """A line of blocks for the rms of outputs and one for that of gradients, on log scales."""
    lines = []
    for name, series in signal_series(rows).items():
        if name == "output std" or len(series.y) < 2:
            continue
        logs = [math.log10(y) if y > 0 else math.nan for y in series.y]
        known = [y for y in series.y if y > 0]
        ends = f"{number_text(known[0])} … {number_text(known[-1])}" if known else "none"
        lines.append(f"{name:<12}  {sparkline(logs, least_span=_LEAST_SPAN)}  {ends}")
    return "\n".join(lines)


def notebook_html(report: SignalReport) -> str:
    """The verdict and the table, every text escaped."""
    verdict = report.verdict
    first, *others = str(verdict).splitlines()
    lines = "".join(f"<br>{html.escape(line)}" for line in [*others, *report.notes])
    return (
        f"<div><p><strong>{html.escape(report.title)}: {html.escape(first)}</strong>{lines}</p>"
        f"<pre>{html.escape(curves_text(report.rows))}</pre>"
        f"{tables_html([report.table()])}</div>"
    )


def tables_html(tables: Sequence[Table]) -> str:
    """Plain tables, every text escaped."""

    def line(tag: str, cells: Sequence[str]) -> str:
        return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"

    made = []
    for table in tables:
        names = [column if isinstance(column, str) else column.name for column in table.columns]
        body = "".join(line("td", row) for row in table.rows)
        made.append(f"<table><thead>{line('th', names)}</thead><tbody>{body}</tbody></table>")
    return "".join(made)


def _series(
    name: str,
    layers: Sequence[SignalRow],
    part: Callable[[SignalRow], Statistics | None],
    number: Callable[[Statistics], float],
) -> Series:
    found = [(row, each) for row in layers if (each := part(row)) is not None]
    return Series(
        name,
        tuple(layer_of(row) for row, _ in found),
        tuple(number(each) if each.is_finite else math.nan for _, each in found),
        tuple(row.name for row, _ in found),
    )


_OPTIONAL = ("saturated", "NaN", "Inf", "gradient rms", "predicted std", "ratio")
_NUMBERS = ("mean", "std", "rms", "max", "zeros", *_OPTIONAL)


def _signal_cells(row: SignalRow) -> tuple[str, ...]:
    output = row.output
    numbers = (output.mean, output.std, output.rms, output.abs_max)
    return (
        str(layer_of(row)) if row.is_layer else "",
        row.label,
        row.kind,
        shape_text(output.shape),
        *(NOTHING if output.is_lost else number_text(number) for number in numbers),
        NOTHING if output.is_lost else _share(output.zeros),
        NOTHING if output.saturated is None else _share(output.saturated),
        str(output.nans or NOTHING),
        str(output.infs or NOTHING),
        _gradient_text(row.gradient),
        number_text(row.expected.median if row.expected is not None else None),
        number_text(row.ratio),
    )


def _gradient_text(gradient: Statistics | None) -> str:
    if gradient is None:
        return NOTHING
    return number_text(gradient.rms) if gradient.is_finite else "NaN" if gradient.nans else "Inf"


def _shortened(
    lines: Sequence[tuple[str, ...]], rows: Sequence[SignalRow]
) -> list[tuple[str, ...]]:
    """The first and the last rows and those where numbers end; a line for each gap."""
    broken = next((i for i, row in enumerate(rows) if not row.output.is_finite), 0)
    near = range(broken - _AROUND, broken + _AROUND + 1)
    kept = [i for i in range(len(lines)) if i < _ENDS or i >= len(lines) - _ENDS or i in near]
    shown: list[tuple[str, ...]] = []
    before = -1
    for i in kept:
        left_out = i - before - 1
        if left_out == 1:
            shown.append(lines[i - 1])
        elif left_out:
            shown.append(("…", f"{left_out} rows more", *[""] * (len(lines[i]) - 2)))
        shown.append(lines[i])
        before = i
    return shown


def _share(value: float) -> str:
    """``97 %``, ``0`` for none, ``<1 %`` for few."""
    if value == 0:
        return "0"
    return "<1 %" if value < 0.005 else f"{100 * value:.0f} %"
