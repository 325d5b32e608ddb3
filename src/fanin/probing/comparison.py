"""Several reports side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fanin.errors import ArgumentError
from fanin.probing.showing.files import Showable
from fanin.probing.showing.tables import tables_html
from fanin.probing.signal_report import SignalReport
from fanin.report import Column, Table, number_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Comparison", "comparison"]

_MOST_ROWS = 25


@dataclass(frozen=True, slots=True, repr=False)
class Comparison(Showable):
    """Reports of several runs, of one model or of several, and what each is called.

    A prompt, a notebook and ``print(comparison)`` show the verdicts, then the rms of outputs
    layer by layer.

    Args:
        reports: in order.
        names: one for each.
    """

    reports: tuple[SignalReport, ...]
    names: tuple[str, ...]

    def table(self, *, every: bool = False) -> Table:
        """The rms of outputs, a column for each run, a row for each layer counted from 0.

        Args:
            every: whether to keep all rows of long nets, or evenly chosen ones.
        """
        runs = [report.series().get("output rms") for report in self.reports]
        columns = [dict(run.points) if run is not None else {} for run in runs]
        layers = sorted({layer for column in columns for layer in column})
        caption = ""
        if len(layers) > _MOST_ROWS and not every:
            last = len(layers) - 1
            chosen = [layers[i * last // (_MOST_ROWS - 1)] for i in range(_MOST_ROWS)]
            caption = f"{_MOST_ROWS} of {len(layers)} layers: table(every=True) has all"
            layers = chosen
        rows = [
            (f"{layer:g}", *(number_text(c[layer]) if layer in c else "-" for c in columns))
            for layer in layers
        ]
        heads = (Column("layer", "right"), *(Column(name, "right") for name in self.names))
        return Table(heads, tuple(rows), title="rms of outputs", caption=caption)

    def verdicts_table(self) -> Table:
        """What each run is, in a line."""
        rows = zip(self.names, self.reports, strict=True)
        lines = tuple((name, report.verdict.lines[0]) for name, report in rows)
        return Table(("run", "verdict"), lines)

    def tables(self) -> tuple[Table, ...]:
        """The verdicts, and the rms of every layer."""
        return (self.verdicts_table(), self.table(every=True))

    def plot(self) -> Figure:
        """The matplotlib figure with a curve for each run.

        Raises:
            FaninError: without matplotlib.
        """
        from fanin.probing.showing.plots import comparison_figure

        return comparison_figure(self)

    def to_html(self) -> str:
        """The page as text: one HTML file that needs no network.

        Raises:
            FaninError: without jinja2.
        """
        from fanin.probing.showing.html import comparison_page

        return comparison_page(self)

    def to_json(self) -> str:
        """The reports as JSON text: one as an object, several as a list of them."""
        texts = [report.to_json() for report in self.reports]
        return texts[0] if len(texts) == 1 else f"[{','.join(texts)}]"

    def __str__(self) -> str:
        return f"{self.verdicts_table()}\n\n{self.table()}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return tables_html((self.verdicts_table(), self.table()))


def comparison(reports: Sequence[SignalReport], *, names: Sequence[str] | None) -> Comparison:
    """The reports and their names; by default recipes or titles, numbered where they repeat."""
    if not reports or (names is not None and len(names) != len(reports)):
        raise ArgumentError(
            f"compare: there are reports, and a name for each. Got {len(reports)} reports and "
            f"{len(names or ())} names. Leave names out to have the recipes'."
        )
    wanted = list(names or (report.recipe or report.title for report in reports))
    repeated = {name for name, count in Counter(wanted).items() if count > 1}
    unique = [
        f"{name} ({wanted[: i + 1].count(name)})" if name in repeated else name
        for i, name in enumerate(wanted)
    ]
    return Comparison(tuple(reports), tuple(unique))
