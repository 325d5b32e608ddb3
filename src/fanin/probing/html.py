"""A report as one HTML page, alone or beside the reports of other runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fanin.probing.html_sections import NOTHING, calls, layers_of_runs, number_text, weights
from fanin.report import Column, Table
from fanin.report.page import Page, Section, page_html

if TYPE_CHECKING:
    from fanin.probing.signal_report import SignalReport

    from fanin.probing.growth import Growth

__all__ = ["report_page"]


def report_page(report: SignalReport, *, others: Sequence[SignalReport] = ()) -> str:
    """Everything a probe measured, as the text of one HTML file that needs no network.

    Verdict, curves over depth, a row for each call and each parameter, and their histograms.

    Args:
        report: of a probe.
        others: of other runs: their curves share the charts, their numbers stand side by side,
            and each has a tab of its own.

    Raises:
        FaninError: without jinja2, which the extra ``report`` installs.
    """
    if others:
        return page_html(_comparison((report, *others)))
    return page_html(_run(report, f"Signals through {report.title}"))


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
    facts = {
        "model": report.title,
        "recipe": _recipe(report),
        "seed": _seed(report),
        "layers with weights": str(sum(row.is_layer for row in report.rows)),
        "parameters": f"{entries:,} in {len(report.weights):,} tensors",
        "loss": number_text(report.loss),
        "outputs": _growth(report.verdict.forward),
        "gradients": _growth(report.verdict.backward),
    }
    return tuple((name, text) for name, text in facts.items() if text != NOTHING)


def _comparison(runs: Sequence[SignalReport]) -> Page:
    names = _run_names(runs)
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
    numbers = [Column(name, "right") for name in ("outputs", "gradients", "loss", "seed")]
    cells = [
        (
            name,
            (run.verdict.lines or (run.verdict.kind,))[0],
            _growth(run.verdict.forward),
            _growth(run.verdict.backward),
            number_text(run.loss),
            _seed(run),
            run.verdict.suggestion or NOTHING,
        )
        for name, run in zip(names, runs, strict=True)
    ]
    columns = (Column("run"), Column("verdict"), *numbers, Column("suggestion"))
    return Section("Side by side", table=Table(columns, tuple(cells)))


def _run_names(runs: Sequence[SignalReport]) -> list[str]:
    """Recipes, with the models or seeds that differ, and with a number where that is not enough."""
    parts = list(
        zip(*((_recipe(run), run.title, f"seed {_seed(run)}") for run in runs), strict=True)
    )
    recipes, *differing = parts[0], *(part for part in parts[1:] if len(set(part)) > 1)
    names = [", ".join(words) for words in zip(recipes, *differing, strict=True)]
    return [f"{i}: {name}" if names.count(name) > 1 else name for i, name in enumerate(names, 1)]


def _recipe(report: SignalReport) -> str:
    return report.recipe or "as built"


def _seed(report: SignalReport) -> str:
    return NOTHING if report.seed is None else str(report.seed)


def _growth(growth: Growth | None) -> str:
    return NOTHING if growth is None else f"×{growth.factor:.4g} a layer"
