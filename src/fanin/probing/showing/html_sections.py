"""Sections of the HTML page: charts over depth, tables of calls and parameters, histograms."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeVar

from fanin.probing.rows import Histogram, SignalRow, Statistics, WeightRow
from fanin.probing.verdicts.growth import layer_of
from fanin.report import NOTHING, Column, Table, number_text, shape_text
from fanin.report.page import Bars, Chart, Line, Section

__all__ = ["Field", "calls", "layers_of_runs", "table_of", "weights"]

_Item = TypeVar("_Item")
_Value = Callable[[SignalRow], float | None]
Field = tuple[str, Literal["left", "right"], Callable[[_Item], str]]

_AXIS = "layers with weights, counted from 0"
_EDGES = "A cross at an edge marks what is not finite, or zero on a logarithmic axis."


def calls(rows: Sequence[SignalRow], parameters: Sequence[WeightRow]) -> Section:
    """Curves over depth, and a row for each call with its histograms and its parameters'."""
    owned: dict[str, list[WeightRow]] = {}
    for parameter in parameters:
        owned.setdefault(parameter.name.rpartition(".")[0], []).append(parameter)
    is_predicted = any(row.expected is not None for row in rows)
    fields = _CALL_FIELDS + (_EXPECTED_FIELDS if is_predicted else ())
    drawn = _drawn(rows)
    broken = (i for i in drawn if not rows[i].output.is_finite)
    layers = (i for i in drawn if rows[i].is_layer)
    return Section(
        "Signals over depth",
        text=_EDGES,
        charts=tuple(chart for chart in _charts(rows, drawn) if chart.lines),
        table=table_of(fields, rows),
        details=tuple(_call_bars(row, owned.get(row.name, [])) for row in rows),
        chosen=next(broken, next(layers, 0)),
    )


def weights(parameters: Sequence[WeightRow]) -> Section:
    """What the plan expects of each parameter, and what it is."""
    spread = [i for i, p in enumerate(parameters) if p.std or p.expected_std]  # no constants
    seen = [parameters[i] for i in spread]

    def chart(title: str, *lines: Line) -> Chart:
        labels, rows = tuple(parameter.name for parameter in seen), tuple(spread)
        return Chart(title, rows, labels, _told(lines), "parameters, in order", rows=rows)

    charts = (
        chart(
            "Std of parameters",
            Line("observed", tuple(parameter.std for parameter in seen), loose=True),
            Line("expected", tuple(parameter.expected_std for parameter in seen)),
        ),
        chart(
            "Gradient rms over parameter rms",
            Line("ratio", tuple(parameter.ratio for parameter in seen), loose=True),
        ),
    )
    planned = any(parameter.expected_std is not None for parameter in parameters)
    return Section(
        "Parameters and the plan" if planned else "Parameters",
        charts=tuple(chart for chart in charts if chart.lines),
        table=table_of(_WEIGHT_FIELDS, parameters),
        details=tuple(_bars(("values", parameter.histogram)) for parameter in parameters),
    )


def layers_of_runs(runs: Sequence[Sequence[SignalRow]], names: Sequence[str]) -> Section:
    """One axis and one table for the layers of several runs, which meet by their numbers."""
    layers = [{layer_of(row): row for row in rows if row.is_layer} for rows in runs]
    named = list(zip(names, layers, strict=True))
    numbers = sorted(set().union(*layers))
    labels = tuple(
        " | ".join(dict.fromkeys(run[number].label for run in layers if number in run))
        for number in numbers
    )

    def chart(title: str, value: _Value) -> Chart:
        lines = tuple(
            Line(name, tuple(value(run[i]) if i in run else None for i in numbers))
            for name, run in named
        )
        rows = tuple(range(len(numbers)))
        return Chart(title, tuple(numbers), labels, _told(lines), _AXIS, rows=rows)

    charts = (chart("Output rms", _output_rms), chart("Gradient rms", _gradient_rms))
    lines = [(chart, line) for chart in charts for line in chart.lines]
    columns = [Column(f"{chart.title}, {line.name}", "right") for chart, line in lines]
    cells = (
        (label, str(number), *(number_text(line.values[i]) for _, line in lines))
        for i, (number, label) in enumerate(zip(numbers, labels, strict=True))
    )
    return Section(
        "Layer by layer",
        text=_EDGES,
        charts=tuple(chart for chart in charts if chart.lines),
        table=Table((Column("name"), Column("layer", "right"), *columns), tuple(cells)),
        details=tuple(
            _bars(*((name, run[i].output.histogram) for name, run in named if i in run))
            for i in numbers
        ),
    )


# Charts


def _charts(rows: Sequence[SignalRow], drawn: Sequence[int]) -> tuple[Chart, ...]:
    """Curves run through the layers with weights; the calls between them are dots."""
    seen = [rows[i] for i in drawn]
    labels, x = tuple(row.label for row in seen), _positions(seen)

    def chart(title: str, *lines: Line, log: bool = True) -> Chart:
        return Chart(title, x, labels, _told(lines), _AXIS, log=log, rows=tuple(drawn))

    def line(name: str, value: _Value, *, shown: bool = True) -> Line:
        return Line(name, tuple(value(i) if i.is_layer else None for i in seen), shown=shown)

    def dots(name: str, value: _Value, *, layers: bool = False) -> Line:
        held = (value(i) if layers or not i.is_layer else None for i in seen)
        return Line(name, tuple(held), loose=True)

    outputs = chart(
        "Outputs",
        line("rms", _output_rms),
        line("std", lambda row: _unless_broken(row.output, row.output.std)),
        dots("rms between layers", _output_rms),
        line("largest", lambda row: _unless_broken(row.output, row.output.abs_max), shown=False),
    )
    gradients = chart(
        "Gradients at these outputs",
        line("rms", _gradient_rms),
        dots("rms between layers", _gradient_rms),
    )
    if not any(row.output.zeros or row.output.saturated for row in seen):
        return outputs, gradients
    shares = chart(
        "Zero or saturated outputs, %",
        dots("zeros", _zeros_percent, layers=True),
        dots("saturated", _saturated_percent, layers=True),
        log=False,
    )
    return outputs, gradients, shares


def _told(lines: Iterable[Line]) -> tuple[Line, ...]:
    """The lines that have a value."""
    return tuple(line for line in lines if any(value is not None for value in line.values))


def _drawn(rows: Sequence[SignalRow]) -> list[int]:
    """Layers, and calls that hold no others: a container repeats what its last one returned."""
    holders = {holder for row in rows for holder in _holders(row.name)}
    return [i for i, row in enumerate(rows) if row.is_layer or row.name not in holders]


def _holders(name: str) -> Iterable[str]:
    """``""``, ``"a"`` and ``"a.b"`` hold ``"a.b.c"`` and ``"a.b/relu"``."""
    parts = name.replace("/", ".").split(".") if name else []
    return (".".join(parts[:i]) for i in range(len(parts)))


def _positions(rows: Sequence[SignalRow]) -> tuple[float, ...]:
    """A layer lies at its number, the calls up to the next one evenly behind it."""
    positions: list[float] = []
    for depth, group in itertools.groupby(rows, key=lambda row: row.depth):
        size = len(list(group))
        positions += [depth - 1 + i / size for i in range(size)]
    return tuple(positions)


# Histograms


def _call_bars(row: SignalRow, parameters: Sequence[WeightRow]) -> tuple[Bars, ...]:
    measured = {"input": row.input, "output": row.output, "gradient": row.gradient}
    return _bars(
        *((name, found.histogram) for name, found in measured.items() if found is not None),
        *((parameter.name.rpartition(".")[2], parameter.histogram) for parameter in parameters),
    )


def _bars(*histograms: tuple[str, Histogram | None]) -> tuple[Bars, ...]:
    return tuple(Bars(name, h.low, h.high, h.counts) for name, h in histograms if h is not None)


# Tables


def table_of(fields: Sequence[Field[_Item]], items: Sequence[_Item]) -> Table:
    """A row for each item; a column that says nothing of any is left out."""
    columns = [
        (Column(name, align), [text(item) for item in items]) for name, align, text in fields
    ]
    held = [(column, cells) for column, cells in columns if any(cell != NOTHING for cell in cells)]
    return Table(
        tuple(column for column, _ in held), tuple(zip(*(c for _, c in held), strict=True))
    )


def _output_rms(row: SignalRow) -> float:
    return _unless_broken(row.output, row.output.rms)


def _gradient_rms(row: SignalRow) -> float | None:
    return None if row.gradient is None else _unless_broken(row.gradient, row.gradient.rms)


def _unless_broken(statistics: Statistics, value: float) -> float:
    """The value; where some entries are not finite, it is only of the others, and these count."""
    return value if statistics.is_finite else math.nan if statistics.nans else math.inf


def _saturated_percent(row: SignalRow) -> float | None:
    return None if row.output.saturated is None else 100 * row.output.saturated


def _zeros_percent(row: SignalRow) -> float | None:
    return None if row.output.is_lost else 100 * row.output.zeros


def _measured(row: SignalRow, value: float) -> str:
    return number_text(None if row.output.is_lost else value)


def _percent_text(percent: float | None) -> str:
    return NOTHING if percent is None else f"{percent:.3g} %"


def _count_text(count: int) -> str:
    return str(count) if count else NOTHING


def _against_plan(parameter: WeightRow) -> float | None:
    return parameter.std / parameter.expected_std if parameter.expected_std else None


_CALL_FIELDS: tuple[Field[SignalRow], ...] = (
    ("name", "left", lambda row: row.label),
    ("call", "right", lambda row: str(row.index)),
    ("layer", "right", lambda row: str(layer_of(row)) if row.is_layer else NOTHING),
    ("kind", "left", lambda row: row.kind),
    ("output", "left", lambda row: shape_text(row.output.shape)),
    ("mean", "right", lambda row: _measured(row, row.output.mean)),
    ("std", "right", lambda row: _measured(row, row.output.std)),
    ("rms", "right", lambda row: _measured(row, row.output.rms)),
    ("largest", "right", lambda row: _measured(row, row.output.abs_max)),
    ("zeros", "right", lambda row: _percent_text(_zeros_percent(row))),
    ("saturated", "right", lambda row: _percent_text(_saturated_percent(row))),
    ("NaN", "right", lambda row: _count_text(row.output.nans)),
    ("inf", "right", lambda row: _count_text(row.output.infs)),
    ("gradient rms", "right", lambda row: number_text(_gradient_rms(row))),
)
_EXPECTED_FIELDS: tuple[Field[SignalRow], ...] = (
    (
        "predicted std",
        "right",
        lambda row: number_text(row.expected.median if row.expected is not None else None),
    ),
    ("measured / predicted", "right", lambda row: number_text(row.ratio)),
)
_WEIGHT_FIELDS: tuple[Field[WeightRow], ...] = (
    ("parameter", "left", lambda parameter: parameter.name),
    ("shape", "left", lambda parameter: shape_text(parameter.shape)),
    ("expected std", "right", lambda parameter: number_text(parameter.expected_std)),
    ("observed std", "right", lambda parameter: number_text(parameter.std)),
    ("observed / expected", "right", lambda parameter: number_text(_against_plan(parameter))),
    ("rms", "right", lambda parameter: number_text(parameter.rms)),
    ("gradient rms", "right", lambda parameter: number_text(parameter.gradient_rms)),
    ("gradient / weight", "right", lambda parameter: number_text(parameter.ratio)),
)
