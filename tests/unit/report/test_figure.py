"""Figures hold the numbers they were given, under the names they were given."""

from __future__ import annotations

import subprocess
import sys

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fanin.errors import FaninError
from fanin.report.figure import Curve, Panel, depth_figure, png_bytes, shortened
from fanin.report.page import Bars


def axes(figure: Figure, label: str) -> Axes:
    return next(each for each in figure.axes if each.get_label() == label)


def legend(figure: Figure, label: str = "panel 0") -> list[str]:
    drawn = axes(figure, label).get_legend()
    assert drawn is not None
    return [text.get_text() for text in drawn.get_texts()]


def one(*y: float, limits: tuple[tuple[str, float], ...] = ()) -> Figure:
    curve = Curve("std", tuple(range(len(y))), y)
    return depth_figure([Panel("outputs", (curve,), limits)], title="a title")


def test_curves_have_their_points_labels_and_a_log_axis() -> None:
    std, rms = Curve("std", (0, 2), (1.0, 4.0)), Curve("rms", (0, 2), (2.0, 8.0), "dots", 1)
    figure = depth_figure(
        [Panel("outputs", (std, rms)), Panel("gradients", (std,))],
        title="healthy",
        lines=["×1.00 a layer"],
        ticks=[(0, "net.0.fc"), (2, "net.1.fc")],
    )
    panel = axes(figure, "panel 0")
    assert (panel.get_yscale(), panel.get_ylabel()) == ("log", "outputs")
    assert [line.get_xydata().tolist() for line in panel.lines] == [
        [[0, 1], [2, 4]],
        [[0, 2], [2, 8]],
    ]
    assert legend(figure) == ["std", "rms"]
    lower = axes(figure, "panel 1")
    assert [text.get_text() for text in lower.get_xticklabels()] == ["0.fc", "1.fc"]
    assert lower.get_xlabel() == "net.*"
    assert [text.get_text() for text in axes(figure, "head").texts] == ["healthy", "×1.00 a layer"]


def test_zeros_and_what_is_not_finite_are_drawn_on_the_edges() -> None:
    figure = one(1.0, 0.0, float("inf"), float("nan"))
    assert legend(figure) == ["std", "exactly 0", "not finite"]
    drawn = {line.get_marker(): line for line in axes(figure, "panel 0").lines}
    assert drawn["v"].get_xydata().tolist() == [[1, 0]]
    assert drawn["x"].get_xydata().tolist() == [[2, 1], [3, 1]]


@pytest.mark.parametrize(
    "y",
    [
        (1e-40, 1e38),
        (5e-324, 1.7e308),
        (0.0, 0.0),
        (float("nan"), float("inf")),
        (),
        (1.0,),
        (1.0, 1.0 + 1e-12),
    ],
)
def test_any_numbers_can_be_drawn(y: tuple[float, ...]) -> None:
    assert png_bytes(one(*y, limits=(("largest", 3.4e38), ("smallest", 1.2e-38))))[:4] == b"\x89PNG"


def test_a_level_curve_looks_level() -> None:
    low, high = axes(one(0.9, 1.1), "panel 0").get_ylim()
    assert high / low == pytest.approx(100)


def test_limits_are_drawn_where_curves_come_near_them() -> None:
    limits = (("largest float32", 3.4e38), ("smallest normal float32", 1.2e-38))
    near = axes(one(1.0, 1e37, limits=limits), "panel 0")
    assert [text.get_text() for text in near.texts] == ["largest float32"]
    assert near.get_ylim()[1] > 3.4e38
    assert not axes(one(1.0, 10.0, limits=limits), "panel 0").texts


@pytest.mark.parametrize(
    ("low", "high", "counts"),
    [(-1.0, 1.0, (1, 2, 1)), (0.5, 0.5, (7,)), (0.0, 0.0, (3, 0)), (-3e38, 3e38, (1, 1))],
)
def test_histograms_are_shares(low: float, high: float, counts: tuple[int, ...]) -> None:
    figure = depth_figure([], title="", histograms=[Bars("fc", low, high, counts)])
    drawn = axes(figure, "histogram 0")
    values, edges, _ = drawn.patches[0].get_data()
    assert sum(values) == pytest.approx(1)
    assert edges[0] < edges[-1]
    assert (drawn.get_title(), len(edges)) == ("fc", len(counts) + 1)
    assert png_bytes(figure)


def test_many_names_are_thinned_and_long_ones_lose_their_middle() -> None:
    names = [(float(i), f"blocks.{i}.{'long_' * 10}weight") for i in range(200)]
    curve = Curve("std", tuple(range(200)), (1.0,) * 200)
    figure = depth_figure([Panel("outputs", (curve,))], title="", ticks=names)
    labels = [text.get_text() for text in axes(figure, "panel 0").get_xticklabels()]
    assert len(labels) == 40
    assert labels[1] == shortened(names[5][1].removeprefix("blocks."))
    assert len(labels[1]) <= 28
    assert labels[1].startswith("5.")
    assert labels[1].endswith("weight")


def test_names_are_text_and_no_mathematics() -> None:
    curve = Curve("_$\\frac$", (0,), (1.0,))
    figure = depth_figure(
        [Panel("$x$", (curve,), title="$\\bad$")],
        title="$\\nope$ <b>",
        ticks=[(0, "$\\a$")],
        histograms=[Bars("$\\no$", 0.0, 1.0, (1,))],
    )
    assert png_bytes(figure)


def test_drawing_touches_no_global_state_and_importing_needs_no_matplotlib() -> None:
    code = """
import sys
from fanin.report.figure import Curve, Panel, depth_figure, png_bytes
import fanin.report.pictures
assert "matplotlib" not in sys.modules
import matplotlib
before = dict(matplotlib.rcParams.copy())
png_bytes(depth_figure([Panel("a", (Curve("b", (0,), (1.0,)),))], title="t"))
assert dict(matplotlib.rcParams.copy()) == before
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(FaninError, match=r"pip install 'fanin\[report\]'"):
        one(1.0)


def test_a_long_title_is_wrapped_and_leaves_the_panels_their_width() -> None:
    short, long = (
        depth_figure([Panel("outputs", (Curve("std", (0, 1), (1.0, 2.0)),))], title=title)
        for title in ("net", "net with a long name, " * 20)
    )
    for figure in (short, long):
        figure.draw_without_rendering()
    assert len(axes(long, "head").texts) > 2
    widths = [axes(figure, "panel 0").get_position().width for figure in (short, long)]
    assert widths[0] == pytest.approx(widths[1])
