"""Sections of the HTML page: charts over depth, tables of calls and parameters, histograms."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeVar

from fanin.probing.growth import layer_of
from fanin.probing.rows import Histogram, SignalRow, WeightRow
from fanin.report import Column, Table, shape_text
from fanin.report.page import Bars, Chart, Line, Section

__all__ = ["NOTHING", "calls", "layers_of_runs", "number_text", "weights"]

NOTHING = "–"

_Item = TypeVar("_Item")
_Value = Callable[[SignalRow], float | None]
_Field = tuple[str, Literal["left", "right"], Callable[[_Item], str]]

_AXIS = "layers with weights, counted from 0"
_EDGES = "A cross at an edge marks what is not finite, or zero on a logarithmic axis."


def calls(rows: Sequence[SignalRow], parameters: Sequence[WeightRow]) -> Section:
    """Curves over depth, and a row for each call with its histograms and its parameters'."""
    owned: dict[str, list[WeightRow]] = {}
    for parameter in parameters:
        owned.setdefault(parameter.name.rpartition(".")[0], []).append(parameter)
    drawn = _drawn(rows)
    broken = (i for i in drawn if not rows[i].output.is_finite)
    layers = (i for i in drawn if rows[i].is_layer)
    return Section(
        "Signals over depth",
        text=_EDGES,
        charts=tuple(chart for chart in _charts(rows, drawn) if chart.lines),
        table=_table(_CALL_FIELDS, rows),
        details=tuple(_call_bars(row, owned.get(row.name, [])) for row in rows),
        chosen=next(broken, next(layers, 0)),
    )


def weights(parameters: Sequence[WeightRow]) -> Section:
    """What the plan expects of each parameter, and what it is."""
    spread = [i for i, p in enumerate(parameters) if p.std or p.expected_std]  # no constants
    seen = [parameters[i] for i in spread]

    def chart(title: str, *lines: Line) -> Chart:
        labels, x = tuple(parameter.name for parameter in seen), tuple(map(float, spread))
        return Chart(title, x, labels, _told(lines), "parameters, in order", rows=tuple(spread))

    charts = (
        chart(
            "Std of parameters",
            Line("observed", tuple(parameter.std for parameter in seen)),
            Line("expected", tuple(parameter.expected_std for parameter in seen)),
        ),
        chart(
            "Gradient rms over parameter rms",
            Line("ratio", tuple(parameter.ratio for parameter in seen)),
        ),
    )
    planned = any(parameter.expected_std is not None for parameter in parameters)
    return Section(
        "Parameters and the plan" if planned else "Parameters",
        charts=tuple(chart for chart in charts if chart.lines),
        table=_table(_WEIGHT_FIELDS, parameters),
        details=tuple(_bars(("values", parameter.histogram)) for parameter in parameters),
    )


def layers_of_runs(runs: Sequence[Sequence[SignalRow]], names: Sequence[str]) -> Section:
    """One axis and one table for the layers of several runs; a layer is known by its name."""
    layers = [{_label(row): row for row in rows if row.is_layer} for rows in runs]
    named = list(zip(names, layers, strict=True))
    place = {label: layer_of(row) for run in reversed(layers) for label, row in run.items()}
    labels = tuple(sorted(place, key=lambda label: place[label]))

    def chart(title: str, value: _Value) -> Chart:
        lines = tuple(
            Line(name, tuple(value(run[label]) if label in run else None for label in labels))
            for name, run in named
        )
        x = tuple(float(place[label]) for label in labels)
        return Chart(title, x, labels, _told(lines), _AXIS, rows=tuple(range(len(labels))))

    charts = (chart("Output rms", _output_rms), chart("Gradient rms", _gradient_rms))
    lines = [(chart, line) for chart in charts for line in chart.lines]
    columns = [Column(f"{chart.title}, {line.name}", "right") for chart, line in lines]
    cells = (
        (label, *(number_text(line.values[i]) for _, line in lines))
        for i, label in enumerate(labels)
    )
    return Section(
        "Layer by layer",
        text=_EDGES,
        charts=tuple(chart for chart in charts if chart.lines),
        table=Table((Column("layer"), *columns), tuple(cells)),
        details=tuple(
            _bars(*((name, run[label].output.histogram) for name, run in named if label in run))
            for label in labels
        ),
    )


# Charts


def _charts(rows: Sequence[SignalRow], drawn: Sequence[int]) -> tuple[Chart, ...]:
    """Curves run through the layers with weights; the calls between them are dots."""
    seen = [rows[i] for i in drawn]
    labels, x = tuple(map(_label, seen)), _positions(seen)

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
        line("std", lambda row: row.output.std),
        dots("rms between layers", _output_rms),
        line("largest", lambda row: row.output.abs_max, shown=False),
    )
    gradients = chart(
        "Gradients of the loss by these outputs",
        line("rms", _gradient_rms),
        dots("rms between layers", _gradient_rms),
    )
    if not any(row.output.zeros or row.output.saturated for row in seen):
        return outputs, gradients
    shares = chart(
        "Zero or saturated outputs, %",
        dots("zeros", lambda row: 100 * row.output.zeros, layers=True),
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


def number_text(value: float | None) -> str:
    """Four digits, or a dash."""
    return NOTHING if value is None else f"{value:.4g}"


def _table(fields: Sequence[_Field[_Item]], items: Sequence[_Item]) -> Table:
    """A row for each item; a column that says nothing of any is left out."""
    columns = [
        (Column(name, align), [text(item) for item in items]) for name, align, text in fields
    ]
    held = [(column, cells) for column, cells in columns if any(cell != NOTHING for cell in cells)]
    return Table(
        tuple(column for column, _ in held), tuple(zip(*(c for _, c in held), strict=True))
    )


def _label(row: SignalRow) -> str:
    name = row.name or "(model)"
    return f"{name} (call {row.call + 1})" if row.call else name


def _output_rms(row: SignalRow) -> float:
    return row.output.rms


def _gradient_rms(row: SignalRow) -> float | None:
    return None if row.gradient is None else row.gradient.rms


def _saturated_percent(row: SignalRow) -> float | None:
    return None if row.output.saturated is None else 100 * row.output.saturated


def _percent_text(percent: float | None) -> str:
    return NOTHING if percent is None else f"{percent:.3g} %"


def _count_text(count: int) -> str:
    return str(count) if count else NOTHING


def _against_plan(parameter: WeightRow) -> float | None:
    return parameter.std / parameter.expected_std if parameter.expected_std else None


_CALL_FIELDS: tuple[_Field[SignalRow], ...] = (
    ("name", "left", _label),
    ("call", "right", lambda row: str(row.index)),
    ("layer", "right", lambda row: str(layer_of(row)) if row.is_layer else NOTHING),
    ("kind", "left", lambda row: row.kind),
    ("output", "left", lambda row: shape_text(row.output.shape)),
    ("mean", "right", lambda row: number_text(row.output.mean)),
    ("std", "right", lambda row: number_text(row.output.std)),
    ("rms", "right", lambda row: number_text(row.output.rms)),
    ("largest", "right", lambda row: number_text(row.output.abs_max)),
    ("zeros", "right", lambda row: _percent_text(100 * row.output.zeros)),
    ("saturated", "right", lambda row: _percent_text(_saturated_percent(row))),
    ("NaN", "right", lambda row: _count_text(row.output.nans)),
    ("inf", "right", lambda row: _count_text(row.output.infs)),
    ("gradient rms", "right", lambda row: number_text(_gradient_rms(row))),
)
_WEIGHT_FIELDS: tuple[_Field[WeightRow], ...] = (
    ("parameter", "left", lambda parameter: parameter.name),
    ("shape", "left", lambda parameter: shape_text(parameter.shape)),
    ("expected std", "right", lambda parameter: number_text(parameter.expected_std)),
    ("observed std", "right", lambda parameter: number_text(parameter.std)),
    ("observed / expected", "right", lambda parameter: number_text(_against_plan(parameter))),
    ("rms", "right", lambda parameter: number_text(parameter.rms)),
    ("gradient rms", "right", lambda parameter: number_text(parameter.gradient_rms)),
    ("gradient / weight", "right", lambda parameter: number_text(parameter.ratio)),
)
