"""A page as one HTML file: template, style, script and data in it, nothing fetched."""

from __future__ import annotations

import base64
import hashlib
import math
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from fanin.errors import FaninError
from fanin.report.page.content import Bars, Chart, Line, Page
from fanin.report.table import Column, Table

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["page_html"]

_SCRIPTS = ("drawing.js", "chart.js", "histogram.js", "table.js", "main.js")
_CALLS = ("openCharts()", "openPage()")  # charts are drawn before the tables below them arrive


def page_html(page: Page) -> str:
    """The page as text of one HTML file, which makes no request and runs no script but its own.

    Every text is escaped, in the markup and in the data the script reads.

    Args:
        page: what stands on it.

    Raises:
        FaninError: when jinja2 is not installed.

    Example:
        >>> "&lt;script&gt;" in page_html(Page("<script>"))
        True
    """
    script = "".join(_text(name) for name in _SCRIPTS)
    return (
        _environment()
        .from_string(_text("page.html"))
        .render(
            page=page,
            style=_text("style.css"),
            script=script,
            digests=[_digest(text) for text in (script, *_CALLS)],
        )
    )


def _digest(script: str) -> str:
    """What the page's policy names a script by that may run."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _environment() -> Environment:
    """Jinja with everything escaped and with the ways to tell a chart."""
    try:
        import jinja2
    except ImportError as error:
        raise FaninError(
            "report page: it is written with jinja2. Got an environment without it. "
            "Install it: pip install 'fanin[report]'."
        ) from error
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "data": _chart_data,
        "details": _details_data,
        "headings": _headings,
        "told": _told,
    }
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment


def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _headings(table: Table) -> list[Column]:
    return [Column(column) if isinstance(column, str) else column for column in table.columns]


def _chart_data(chart: Chart) -> dict[str, Any]:
    return {
        "title": chart.title,
        "x": chart.x,
        "labels": chart.labels,
        "xTitle": chart.x_title,
        "log": chart.log,
        "rows": chart.rows,
        "lines": [
            {
                "name": line.name,
                "shown": line.shown,
                "loose": line.loose,
                "values": [_datum(value) for value in line.values],
            }
            for line in chart.lines
        ],
    }


def _details_data(details: tuple[tuple[Bars, ...], ...]) -> list[list[list[Any]]]:
    """Lists instead of objects: there may be thousands."""
    return [[[i.title, _datum(i.low), _datum(i.high), i.counts] for i in row] for row in details]


def _datum(value: float | None) -> float | str | None:
    """Five digits for a picture; what JSON has no number for is text."""
    if value is None or math.isfinite(value):
        return value and float(f"{value:.5g}")
    return str(value)


def _told(chart: Chart) -> str:
    """The chart in words, for who does not see it."""
    return ". ".join([chart.title, *(_told_line(chart, line) for line in chart.lines)]) + "."


def _told_line(chart: Chart, line: Line) -> str:
    points = [
        (v, place) for v, place in zip(line.values, chart.labels, strict=True) if v is not None
    ]
    finite = [point for point in points if math.isfinite(point[0])]
    parts = []
    if finite:
        (first, first_place), (last, last_place) = finite[0], finite[-1]
        lowest, highest = min(v for v, _ in finite), max(v for v, _ in finite)
        parts.append(f"from {first:.3g} at {first_place} to {last:.3g} at {last_place}")
        parts.append(f"between {lowest:.3g} and {highest:.3g}")
    broken = [place for value, place in points if not math.isfinite(value)]
    if broken:
        parts.append(f"not finite at {len(broken)} of {len(points)} places, the first {broken[0]}")
    return f"{line.name}: {', '.join(parts) or 'no values'}"
