"""What stands on a page, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fanin.errors import ArgumentError
from fanin.report.table import Table

__all__ = ["Bars", "Chart", "Line", "Page", "Section"]


@dataclass(frozen=True, slots=True)
class Line:
    """A curve: one value for each place of its chart.

    Args:
        name: in the legend.
        values: None where there is nothing; infinities and NaN are marked at the edge.
        shown: whether it is drawn before a reader asks for it.
        loose: whether its points stand alone.
    """

    name: str
    values: tuple[float | None, ...]
    shown: bool = True
    loose: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves over one axis of named places.

    Args:
        title: above it.
        x: where each place lies, ascending.
        labels: name of each place.
        lines: the curves.
        x_title: what the axis counts.
        log: whether the vertical axis is logarithmic.
        rows: the row of the section's table that each place stands for; empty for none.

    Raises:
        ArgumentError: when a line, the labels or the rows have not one entry for each place.
    """

    title: str
    x: tuple[float, ...]
    labels: tuple[str, ...]
    lines: tuple[Line, ...]
    x_title: str = ""
    log: bool = True
    rows: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        lengths = {"labels": len(self.labels)} | {i.name: len(i.values) for i in self.lines}
        if self.rows:
            lengths["rows"] = len(self.rows)
        for name, length in lengths.items():
            if length != len(self.x):
                raise ArgumentError(
                    f"Chart: there is one entry for each place. Got {length} for {name!r} and "
                    f"{len(self.x)} places in {self.title!r}. Use None where a value is missing."
                )


@dataclass(frozen=True, slots=True)
class Bars:
    """A histogram: counts between ``low`` and ``high``, evenly cut."""

    title: str
    low: float
    high: float
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """Charts, then a table whose rows may have histograms.

    Args:
        title: its heading.
        text: a line below that.
        charts: side by side where there is room.
        table: sortable and filterable.
        details: histograms of each row, shown when the row is chosen; empty for none.
        chosen: the row that is chosen at first.
    """

    title: str
    text: str = ""
    charts: tuple[Chart, ...] = ()
    table: Table | None = None
    details: tuple[tuple[Bars, ...], ...] = ()
    chosen: int = 0


@dataclass(frozen=True, slots=True)
class Page:
    """A verdict, what it rests on, and perhaps pages of parts behind tabs.

    Args:
        title: the heading, or the name of the tab.
        headline: the verdict in a line.
        tone: how the headline is coloured; the words say it too.
        paragraphs: below the headline.
        facts: pairs of a name and a value.
        sections: in order.
        parts: pages behind tabs below the sections.
    """

    title: str
    headline: str = ""
    tone: Literal["good", "bad", "plain"] = "plain"
    paragraphs: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    sections: tuple[Section, ...] = ()
    parts: tuple[Page, ...] = ()
