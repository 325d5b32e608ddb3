"""A report as a figure, and several in one: what of them is drawn, and under what names."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch

from fanin.errors import UnknownNameError, one_of
from fanin.probing.rows import SignalRow, Statistics, WeightRow
from fanin.probing.verdicts.growth import layer_of
from fanin.report.figure import Curve, Panel, depth_figure
from fanin.report.page import Bars

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fanin.probing.comparison import Comparison
    from fanin.probing.signal_report import SignalReport

__all__ = ["comparison_figure", "report_figure"]

_AXIS = "layers with weights, counted from 0"
_NAMED = f"{_AXIS} (and their names)"

_Measured: TypeAlias = Callable[[SignalRow], Statistics | None]


def report_figure(report: SignalReport, *, layers: Sequence[str] | None = None) -> Figure:
    """Outputs and gradients over depth, weights beside their plan, and a few histograms.

    Lines run through the layers with weights; circles are the calls between them. Crosses on the
    upper edge are calls with NaN or infinities, triangles on the lower one exact zeros.

    Args:
        report: of a probe.
        layers: names of the calls whose outputs are shown as histograms; by default the first,
            the middle and the last layer.

    Returns:
        A figure of about 1200×800 pixels.

    Raises:
        UnknownNameError: when no call has one of the names.
        FaninError: without matplotlib.
    """
    rows, verdict = report.rows, report.verdict
    seed = "" if report.seed is None else f"seed {report.seed}"
    subject = ", ".join(filter(None, [report.title, report.recipe, seed]))
    panels = [_output_panel(rows)]
    if any(row.gradient is not None for row in rows):
        panels.append(_gradient_panel(rows))
    return depth_figure(
        panels,
        title=f"{subject}: {verdict.kind}",
        lines=[line for line in (*verdict.lines, verdict.suggestion, *report.notes) if line],
        ticks=[(row.index, row.label) for row in _layers(rows)],
        numbers=[layer_of(row) for row in _layers(rows)],
        axis=_NAMED,
        side=_weight_panel(report.weights),
        histograms=[_bars(row) for row in _selected(rows, layers)],
    )


def comparison_figure(compared: Comparison) -> Figure:
    """The rms of outputs and of gradients over depth, a curve for each of several runs.

    Args:
        compared: reports of probes, and their names.

    Returns:
        A figure of about 1200×600 pixels.

    Raises:
        FaninError: without matplotlib.
    """
    reports, names = compared.reports, compared.names
    titles = " and ".join(dict.fromkeys(report.title for report in reports))
    runs = [_layers(report.rows) for report in reports]
    same = len({tuple(row.label for row in rows) for rows in runs}) == 1
    panels = [_runs_panel("rms of outputs", runs, names, _output)]
    if any(row.gradient is not None for rows in runs for row in rows):
        panels.append(_runs_panel("rms of gradients", runs, names, _gradient))
    return depth_figure(
        panels,
        title=f"{titles}: {len(runs)} runs",
        lines=[
            f"{name}: {report.verdict.lines[0]}"
            for name, report in zip(names, reports, strict=True)
            if report.verdict.lines
        ],
        ticks=[(i, row.label) for i, row in enumerate(runs[0])] if same else (),
        numbers=range(len(runs[0])) if same else (),
        axis=_NAMED if same else _AXIS,
    )


def _output_panel(rows: Sequence[SignalRow]) -> Panel:
    layers = _layers(rows)
    finite = [row for row in layers if row.output.is_finite]
    curves = (
        _curve("rms of other calls", _between(rows), _output, kind="dots", colour=5),
        _curve("std", layers, _output, what="std"),
        _curve("rms", finite, _output, kind="dashes", colour=1),
    )
    return Panel("outputs", _filled(curves), limits=_limits(rows))


def _gradient_panel(rows: Sequence[SignalRow]) -> Panel:
    curves = (
        _curve("rms of other calls", _between(rows), _gradient, kind="dots", colour=5),
        _curve("rms", _layers(rows), _gradient, colour=2),
    )
    return Panel("gradients", _filled(curves), limits=_limits(rows))


def _runs_panel(
    label: str, runs: Sequence[Sequence[SignalRow]], names: Sequence[str], measured: _Measured
) -> Panel:
    """A curve for each run over the number of its layer."""
    curves = []
    for i, (name, rows) in enumerate(zip(names, runs, strict=True)):
        number = {row.index: float(layer) for layer, row in enumerate(rows)}
        curve = _curve(name, rows, measured, colour=i, dash=i)
        curves.append(replace(curve, x=tuple(number[int(at)] for at in curve.x)))
    return Panel(label, tuple(curves), limits=_limits(runs[0]))


def _weight_panel(weights: Sequence[WeightRow]) -> Panel | None:
    """Observed std of each weight that varies, beside what the plan expects."""
    varying = [row for row in weights if row.std or row.expected_std]
    if not varying:
        return None
    observed = Curve("observed", _range(varying), tuple(row.std for row in varying), "dots")
    planned = [(i, row.expected_std) for i, row in enumerate(varying)]
    known = [(float(i), std) for i, std in planned if std is not None]
    expected = Curve(
        "expected", tuple(i for i, _ in known), tuple(s for _, s in known), "strokes", colour=4
    )
    return Panel("std", _filled((expected, observed)), title="weights, in order")


def _selected(rows: Sequence[SignalRow], names: Sequence[str] | None) -> list[SignalRow]:
    """The rows whose histograms are shown, each once."""
    shown = [row for row in rows if row.output.histogram is not None]
    if names is None:
        layers = [row for row in _layers(rows) if row.output.histogram is not None]
        picked = {0, len(layers) // 2, len(layers) - 1} if layers else set()
        return [layers[i] for i in sorted(picked)]
    by_name = {row.label: row for row in shown}
    for name in names:
        if name not in by_name:
            raise UnknownNameError(
                f"report_figure: layers= names calls that have a histogram. Got {name!r}. "
                f"{one_of(name, by_name)}"
            )
    return [by_name[name] for name in names]


def _bars(row: SignalRow) -> Bars:
    histogram = row.output.histogram
    assert histogram is not None
    title = row.label if row.output.is_finite else f"{row.label}, finite part"
    return Bars(title, histogram.low, histogram.high, histogram.counts)


def _curve(
    label: str,
    rows: Iterable[SignalRow],
    measured: _Measured,
    *,
    what: Literal["rms", "std"] = "rms",
    kind: Literal["line", "dashes", "dots"] = "line",
    colour: int = 0,
    dash: int = 0,
) -> Curve:
    """One number of the rows that have it; infinite for those that are not finite."""
    found = [(float(row.index), statistics) for row in rows if (statistics := measured(row))]
    y = (float(getattr(each, what)) if each.is_finite else math.inf for _, each in found)
    return Curve(label, tuple(x for x, _ in found), tuple(y), kind, colour, dash)


def _filled(curves: Iterable[Curve]) -> tuple[Curve, ...]:
    return tuple(curve for curve in curves if curve.x)


def _range(items: Sequence[object]) -> tuple[float, ...]:
    return tuple(map(float, range(len(items))))


def _output(row: SignalRow) -> Statistics:
    return row.output


def _gradient(row: SignalRow) -> Statistics | None:
    return row.gradient


def _layers(rows: Sequence[SignalRow]) -> Sequence[SignalRow]:
    """The calls of layers with weights; all calls of a model without any."""
    return [row for row in rows if row.is_layer] or rows


def _between(rows: Sequence[SignalRow]) -> list[SignalRow]:
    layers = {row.index for row in _layers(rows)}
    return [row for row in rows if row.index not in layers]


def _limits(rows: Sequence[SignalRow]) -> tuple[tuple[str, float], ...]:
    """The largest and the smallest normal number of each dtype among the outputs."""
    limits = []
    for name in dict.fromkeys(row.output.dtype for row in rows):
        dtype = getattr(torch, name, None)
        if isinstance(dtype, torch.dtype) and dtype.is_floating_point:
            info = torch.finfo(dtype)
            limits += [(f"largest {name}", info.max), (f"smallest normal {name}", info.tiny)]
    return tuple(limits)
