"""What a probe measured: rows, a verdict on them, and every way to show or keep them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fanin.probing.rows import SignalRow, WeightRow
from fanin.probing.showing.export import report_dataframe, report_from_json, report_json
from fanin.probing.showing.files import Showable
from fanin.probing.showing.tables import curves_text, notebook_html, signal_series, signals_table
from fanin.probing.showing.tables import weights_table as table_of_weights
from fanin.probing.verdicts.verdict import Verdict, verdict_of
from fanin.report import Table
from fanin.report.series import Series

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fanin.probing.comparison import Comparison

__all__ = ["SignalReport"]


@dataclass(frozen=True, repr=False)
class SignalReport(Showable):
    """Signals and gradients through a model, call by call, and what they mean.

    A prompt, a notebook and ``print(report)`` show the verdict, curves over depth, and a table.

    Args:
        rows: one for each call of a module or an activation, in the order of execution.
        weights: one for each parameter.
        loss: of the backward pass; None without a loss.
        title: class of the model.
        recipe: of the plan; empty without one.
        seed: of the plan; None without one.
        notes: what the probe has to say besides.

    Example:
        >>> import fanin, torch
        >>> from torch import nn
        >>> from fanin.probing import probe
        >>> model = nn.Sequential(*(nn.Linear(64, 64) for _ in range(20)))
        >>> plan = fanin.initialize(model, "lecun", seed=0)
        >>> probe(model, torch.randn(8, 64), plan=plan).verdict.kind
        'healthy'
    """

    rows: tuple[SignalRow, ...]
    weights: tuple[WeightRow, ...] = ()
    loss: float | None = None
    title: str = ""
    recipe: str = ""
    seed: int | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def verdict(self) -> Verdict:
        """Whether signals and gradients survive, and what to change where they do not."""
        return verdict_of(self.rows, self.weights, loss=self.loss)

    def table(self, *, every: bool = False) -> Table:
        """A row for each call; long nets lose their middle.

        Args:
            every: whether to keep all rows of a long net.
        """
        return signals_table(self.rows, every=every)

    def weights_table(self) -> Table:
        """A row for each parameter: its std as planned and as it is, and its gradient."""
        return table_of_weights(self.weights)

    def tables(self) -> tuple[Table, ...]:
        """Every row of the calls, and of the parameters."""
        return (self.table(every=True), self.weights_table())

    def series(self) -> dict[str, Series]:
        """Points over the layers with weights, counted from 0, by the names of what they show.

        Returns:
            ``"output rms"``, ``"output std"`` and, after a backward pass, ``"gradient rms"``; nan
            where a layer is not finite.
        """
        return signal_series(self.rows)

    def to_json(self) -> str:
        """The report as JSON text, a line a row, with its verdict for other readers."""
        return report_json(self)

    @classmethod
    def from_json(cls, text: str) -> SignalReport:
        """The report that `to_json` wrote.

        Args:
            text: JSON.

        Raises:
            ArgumentError: for text that is no report.
        """
        return report_from_json(cls, text)

    def to_html(self) -> str:
        """The page as text: one HTML file that needs no network.

        Raises:
            FaninError: without jinja2.
        """
        from fanin.probing.showing.html import report_page

        return report_page(self)

    def to_dataframe(self) -> Any:
        """A row for each call: its place, and the statistics of output, gradient and input.

        Returns:
            A `pandas.DataFrame`; columns of gradients begin with ``gradient_``, of inputs with
            ``input_``.

        Raises:
            FaninError: without pandas.
        """
        return report_dataframe(self.rows)

    def plot(self) -> Figure:
        """The matplotlib figure of outputs, gradients and weights over depth.

        Raises:
            FaninError: without matplotlib.
        """
        from fanin.probing.showing.plots import report_figure

        return report_figure(self)

    @staticmethod
    def compare(*reports: SignalReport, names: Sequence[str] | None = None) -> Comparison:
        """Several runs side by side, by the depth of their layers.

        Args:
            reports: two or more.
            names: of the runs; by default their recipes, or else the titles.

        Raises:
            ArgumentError: without a report, or without one name for each.
        """
        from fanin.probing.comparison import comparison

        return comparison(reports, names=names)

    def __str__(self) -> str:
        made = [self.recipe] * bool(self.recipe) + [f"seed {self.seed}"] * (self.seed is not None)
        parts = [
            ", ".join([self.title, *made]) if self.title else "",
            str(self.verdict),
            curves_text(self.rows),
            str(self.table()),
            "\n".join(f"note: {note}" for note in self.notes),
        ]
        return "\n\n".join(part for part in parts if part)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return notebook_html(self)
