"""A report's figure draws the report's numbers."""

from __future__ import annotations

import math

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fanin.errors import UnknownNameError
from fanin.probing.rows import Histogram, SignalRow, Statistics, WeightRow
from fanin.probing.showing.plots import comparison_figure, report_figure
from fanin.probing.signal_report import SignalReport
from fanin.report.figure import png_bytes


def axes(figure: Figure, label: str) -> Axes:
    return next(each for each in figure.axes if each.get_label() == label)


def curves(figure: Figure, label: str) -> dict[str, list[list[float]]]:
    """Points of the curves by the name that the legend has for them."""
    panel = axes(figure, label)
    legend = panel.get_legend()
    assert legend is not None
    names = [text.get_text() for text in legend.get_texts()]
    drawn = [line.get_xydata().tolist() for line in panel.lines]
    return dict(zip(names, drawn, strict=False))


def statistics(std: float, *, nans: int = 0, dtype: str = "float32") -> Statistics:
    histogram = Histogram(-std, std, (1, 2, 1))
    return Statistics(
        (4, 8), dtype, 0.5, std, math.hypot(std, 0.5), 3 * std, 0.0, None, nans, 0, histogram
    )


def report(
    *stds: float, gradient: bool = True, broken: int | None = None, recipe: str = "kaiming@1"
) -> SignalReport:
    """A linear layer and a relu for each std; the layers from ``broken`` on hold NaN."""
    rows = []
    for i, std in enumerate(stds):
        nans = 3 if broken is not None and i >= broken else 0
        back = statistics(std / 100) if gradient else None
        layer = SignalRow(2 * i, f"net.{i}", "Linear", 0, i + 1, True, statistics(std, nans=nans))
        relu = SignalRow(2 * i + 1, "relu", "relu", i, i + 1, False, statistics(std / 2, nans=nans))
        rows += [replaced(layer, back), replaced(relu, back)]
    weights = (
        WeightRow("net.0.weight", (8, 8), 0.5, 0.49, 0.49),
        WeightRow("net.0.bias", (8,), 0.0, 0.0, 0.0),
        WeightRow("net.1.weight", (8, 8), None, 0.7, 0.7),
    )
    return SignalReport(
        rows=tuple(rows), weights=weights, loss=1.0, title="Net", recipe=recipe, seed=3, notes=()
    )


def replaced(row: SignalRow, gradient: Statistics | None) -> SignalRow:
    return SignalRow(
        row.index, row.name, row.kind, row.call, row.depth, row.is_layer, row.output, gradient
    )


def test_outputs_and_gradients_are_drawn_over_depth() -> None:
    figure = report_figure(report(1.0, 2.0, 4.0))
    outputs = curves(figure, "panel 0")
    assert outputs["std"] == [[0, 1], [2, 2], [4, 4]]
    assert outputs["rms"] == [[x, math.hypot(std, 0.5)] for x, std in outputs["std"]]
    assert [x for x, _ in outputs["rms of other calls"]] == [1, 3, 5]
    assert [x for x, _ in curves(figure, "panel 1")["rms"]] == [0, 2, 4]
    ticks = axes(figure, "panel 1").get_xticklabels()
    assert [text.get_text() for text in ticks] == ["0 (0)", "1 (1)", "2 (2)"]
    label = axes(figure, "panel 1").get_xlabel()
    assert label == "layers with weights, counted from 0 (and their names), net.*"


def test_the_title_is_the_verdict() -> None:
    made = report(*(16.0**i for i in range(1, 9)))
    texts = [text.get_text() for text in axes(report_figure(made), "head").texts]
    assert texts[0] == "Net, kaiming@1, seed 3: explodes"
    assert texts[1] == made.verdict.lines[0]


def test_layers_that_are_not_finite_are_crossed_out() -> None:
    figure = report_figure(report(1.0, 2.0, 4.0, broken=1))
    panel = axes(figure, "panel 0")
    crosses = [line.get_xydata().tolist() for line in panel.lines if line.get_marker() == "x"]
    assert crosses == [[[3, 1], [5, 1]], [[2, 1], [4, 1]]]
    assert axes(figure, "histogram 2").get_title() == "net.2, finite part"


def test_weights_that_vary_are_drawn_beside_what_the_plan_expects() -> None:
    weights = curves(report_figure(report(1.0)), "side")
    assert weights == {"expected": [[0, 0.5]], "observed": [[0, 0.49], [1, 0.7]]}


def test_without_a_backward_pass_there_is_no_panel_of_gradients() -> None:
    figure = report_figure(report(1.0, 1.0, gradient=False))
    assert "panel 1" not in [each.get_label() for each in figure.axes]


def test_histograms_are_of_the_first_the_middle_and_the_last_layer_or_of_those_named() -> None:
    made = report(1.0, 1.0, 1.0, 1.0, 1.0)
    titles = [each.get_title() for each in report_figure(made).axes[-3:]]
    assert titles == ["net.0", "net.2", "net.4"]
    chosen = report_figure(made, layers=["net.3", "relu (call 3)"])
    assert [each.get_title() for each in chosen.axes[-2:]] == ["net.3", "relu (call 3)"]
    with pytest.raises(UnknownNameError, match=r"Got 'net\.9'\. Did you mean net\."):
        report_figure(made, layers=["net.9"])


def test_the_limit_of_a_dtype_is_drawn_where_outputs_come_near_it() -> None:
    panel = axes(report_figure(report(1.0, 1e30, 1e37)), "panel 0")
    assert [text.get_text() for text in panel.texts] == ["largest float32"]


@pytest.mark.parametrize("stds", [(), (0.0,), (1e-40, 1e38), (1.0,)])
def test_every_report_can_be_drawn(stds: tuple[float, ...]) -> None:
    assert png_bytes(report_figure(report(*stds)))


def test_several_runs_are_drawn_over_the_number_of_their_layer() -> None:
    runs = [report(1.0, 16.0), report(1.0, 0.5, recipe="")]
    figure = comparison_figure(SignalReport.compare(*runs))
    drawn = curves(figure, "panel 0")
    assert list(drawn) == ["kaiming@1", "Net"]
    assert [x for x, _ in drawn["Net"]] == [0, 1]
    assert [text.get_text() for text in axes(figure, "panel 1").get_xticklabels()] == [
        "0 (0)",
        "1 (1)",
    ]
    assert axes(figure, "head").texts[0].get_text() == "Net: 2 runs"
    assert "panel 2" not in [each.get_label() for each in figure.axes]


def test_runs_of_different_depth_have_numbers_for_names() -> None:
    runs = [report(1.0, 1.0), report(1.0)]
    figure = comparison_figure(SignalReport.compare(*runs, names=["deep", "shallow"]))
    assert axes(figure, "panel 1").get_xlabel() == "layers with weights, counted from 0"
    assert list(curves(figure, "panel 0")) == ["deep", "shallow"]
    assert png_bytes(figure)


def test_runs_of_one_recipe_are_told_apart() -> None:
    figure = comparison_figure(SignalReport.compare(report(1.0), report(2.0)))
    assert list(curves(figure, "panel 0")) == ["kaiming@1 (1)", "kaiming@1 (2)"]
