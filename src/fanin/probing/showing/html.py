"""A report as one HTML page, alone or beside the reports of other runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fanin.probing.comparison import Comparison, comparison
from fanin.probing.showing.html_sections import (
    Field,
    calls,
    layers_of_runs,
    table_of,
    weights,
)
from fanin.report import NOTHING, number_text, times_text
from fanin.report.page import Page, Section, page_html

if TYPE_CHECKING:
    from fanin.probing.signal_report import SignalReport
    from fanin.probing.verdicts.growth import Growth

__all__ = ["comparison_page", "report_page"]


def report_page(
    report: SignalReport,
    *,
    others: Sequence[SignalReport] = (),
    names: Sequence[str] | None = None,
) -> str:
    """Everything a probe measured, as the text of one HTML file that needs no network.

    Verdict, curves over depth, a row for each call and each parameter, and their histograms.

    Args:
        report: of a probe.
        others: of other runs: their curves share the charts, their numbers stand side by side,
            and each has a tab of its own.
        names: of the runs, the first one's first; by default their recipes.

    Raises:
        ArgumentError: without one name for each run.
        FaninError: without jinja2, which the extra ``report`` installs.
    """
    if others:
        return comparison_page(comparison((report, *others), names=names))
    return page_html(_run(report, f"Signals through {report.title}"))


def comparison_page(compared: Comparison) -> str:
    """The page of several runs; of one alone as `report_page` has it."""
    if len(compared.reports) == 1:
        return report_page(*compared.reports)
    return page_html(_comparison(compared.reports, compared.names))


def _run(report: SignalReport, title: str) -> Page:
    verdict = report.verdict
    headline, *lines = verdict.lines or (verdict.kind,)
    advice = [verdict.suggestion] if verdict.suggestion else []
    parameters = [weights(report.weights)] if report.weights else []
    return Page(
        title,
        headline=headline,
        tone="good" if verdict.is_healthy else "bad",
        paragraphs=(*lines, *advice, *report.notes),
        facts=_facts(report),
        sections=(calls(report.rows, report.weights), *parameters),
    )


def _facts(report: SignalReport) -> tuple[tuple[str, str], ...]:
    entries = sum(math.prod(weight.shape) for weight in report.weights)
    called = len({row.name for row in report.rows})
    facts = {
        "model": report.title,
        "recipe": _recipe(report),
        "seed": _seed(report),
        "layers with weights": str(sum(row.is_layer for row in report.rows)),
        "calls": f"{len(report.rows):,} of {called:,} modules and functions",
        "parameters": f"{entries:,} in {len(report.weights):,} tensors",
        "loss": number_text(report.loss),
        "outputs": _growth(report.verdict.forward),
        "gradients": _growth(report.verdict.backward),
    }
    return tuple((name, text) for name, text in facts.items() if text != NOTHING)


def _comparison(runs: Sequence[SignalReport], names: Sequence[str]) -> Page:
    healthy = sum(run.verdict.is_healthy for run in runs)
    return Page(
        f"{len(runs)} runs of {' and '.join(dict.fromkeys(run.title for run in runs))}",
        headline=f"{healthy} of {len(runs)} healthy",
        tone="good" if healthy == len(runs) else "plain" if healthy else "bad",
        sections=(
            _side_by_side(runs, names),
            layers_of_runs([run.rows for run in runs], names),
        ),
        parts=tuple(_run(run, name) for run, name in zip(runs, names, strict=True)),
    )


def _side_by_side(runs: Sequence[SignalReport], names: Sequence[str]) -> Section:
    """The verdicts, a row for each run."""
    fields: tuple[Field[tuple[str, SignalReport]], ...] = (
        ("run", "left", lambda run: run[0]),
        ("verdict", "left", lambda run: (run[1].verdict.lines or (run[1].verdict.kind,))[0]),
        ("outputs", "right", lambda run: _growth(run[1].verdict.forward)),
        ("gradients", "right", lambda run: _growth(run[1].verdict.backward)),
        ("loss", "right", lambda run: number_text(run[1].loss)),
        ("seed", "right", lambda run: _seed(run[1])),
    )
    return Section("Side by side", table=table_of(fields, list(zip(names, runs, strict=True))))


def _recipe(report: SignalReport) -> str:
    return report.recipe or "as built"


def _seed(report: SignalReport) -> str:
    return NOTHING if report.seed is None else str(report.seed)


def _growth(growth: Growth | None) -> str:
    return NOTHING if growth is None else times_text(growth.factor) + " a layer"
