"""Curves over depth and histograms, drawn by matplotlib from plain numbers.

Figures are made without pyplot: no window, no backend and no global state is touched, and the
caller's `rcParams` (a dark style, a larger font) hold.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Literal

from fanin.errors import FaninError
from fanin.report.page import Bars

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "Curve",
    "Panel",
    "depth_figure",
    "empty_figure",
    "plain_text",
    "png_bytes",
    "shortened",
]

# Okabe and Ito 2008: told apart with every kind of colour vision, and by lightness in print.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_DASHES = ("-", "--", "-.", ":")
_GREY = "0.5"
_WIDTH, _PANEL, _BOTTOM = 12.0, 2.5, 2.0  # inches; 100 pixels each on a screen
_MOST_TICKS = 40  # names that fit side by side at the width above
_LINE = 0.21  # inches from one line of text to the next
_SMALL = 8  # points
_FAR = 50  # decades between ticks where even float32 ends
_SPAN = 2.0  # decades that an axis shows at least: a healthy curve looks level


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of one quantity: a line with markers or without, loose dots, short level strokes.

    Args:
        label: in the legend; none for an empty one.
        x: positions.
        y: a value for each. Zeros are drawn as triangles on the lower edge, infinities and NaN
            as crosses on the upper one.
        kind: how it is drawn.
        colour: number in a palette of six, which comes round again.
        dash: number in a list of four.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    kind: Literal["line", "dashes", "dots", "strokes"] = "line"
    colour: int = 0
    dash: int = 0


@dataclass(frozen=True, slots=True)
class Panel:
    """Curves on one logarithmic axis.

    Args:
        label: of the axis.
        curves: drawn in this order.
        limits: names and values of level lines, drawn where the curves come near them.
        title: above the panel.
    """

    label: str
    curves: tuple[Curve, ...]
    limits: tuple[tuple[str, float], ...] = ()
    title: str = ""


def depth_figure(
    panels: Sequence[Panel],
    *,
    title: str,
    lines: Sequence[str] = (),
    ticks: Sequence[tuple[float, str]] = (),
    numbers: Sequence[int] = (),
    axis: str = "",
    side: Panel | None = None,
    histograms: Sequence[Bars] = (),
) -> Figure:
    """Panels above each other over one axis of depth; below them a side panel and histograms.

    Args:
        panels: from the top down.
        title: in bold.
        lines: text below the title.
        ticks: positions on the axis and their names; some are left out where they are many.
        numbers: of the places that have names, which then stand in brackets.
        axis: what the axis of depth counts.
        side: a panel with an axis of its own, at the lower left.
        histograms: at the lower right.

    Returns:
        A figure 12 inches wide. Its axes are labelled ``head``, ``panel 0``, …, ``side``,
        ``histogram 0``, ….

    Raises:
        FaninError: without matplotlib.

    Example:
        >>> std = Curve("std", (0, 1, 2), (1.0, 16.0, 256.0))
        >>> figure = depth_figure([Panel("outputs", (std,))], title="×16 a layer")
        >>> figure.axes[1].get_yscale()
        'log'
    """
    has_bottom = side is not None or bool(histograms)
    heading = textwrap.wrap(title, 110)
    body = [part for line in lines for part in textwrap.wrap(line, 160)]
    head = 0.05 + _LINE * (len(heading) + len(body))
    heights = [head] + [_PANEL] * len(panels) + [_BOTTOM] * has_bottom
    figure = empty_figure(_WIDTH, sum(heights) + 0.5)
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    _draw_head(figure.add_subplot(grid[0], label="head"), heading, body)
    shared: Axes | None = None
    for i, panel in enumerate(panels, 1):
        shared = figure.add_subplot(grid[i], sharex=shared, label=f"panel {i - 1}")
        _draw_panel(shared, panel)
        shared.margins(x=0.015)
        shared.tick_params(labelbottom=i == len(panels))
    if shared is not None:
        _name_ticks(shared, ticks, numbers, axis)
    if has_bottom:
        widths = [1.6] * (side is not None) + [1.0] * len(histograms)
        below = iter(grid[-1].subgridspec(1, len(widths), width_ratios=widths))
        if side is not None:
            beside = figure.add_subplot(next(below), label="side")
            _draw_panel(beside, side)
            beside.locator_params(axis="x", nbins=6, integer=True)
        for i, bars in enumerate(histograms):
            _draw_bars(figure.add_subplot(next(below), label=f"histogram {i}"), bars)
    return figure


def empty_figure(width: float, height: float) -> Figure:
    """A figure of that many inches, without pyplot."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise FaninError(
            "plot: pictures are drawn by matplotlib. Got an environment without it. Install it: "
            "pip install 'fanin[report]'."
        ) from error
    return Figure(figsize=(width, height), dpi=100, layout="constrained")


def png_bytes(figure: Figure) -> bytes:
    """The picture as the content of a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def plain_text(text: str) -> str:
    """Text whose dollar signs matplotlib does not read as mathematics."""
    return text.replace("$", r"\$")


def shortened(name: str, *, most: int = 28) -> str:
    """A long name without its middle."""
    half = most // 2
    return name if len(name) <= most else f"{name[: half - 1]}…{name[-half:]}"


def _draw_head(axes: Axes, title: Sequence[str], lines: Sequence[str]) -> None:
    """Title and lines, in axes that show nothing else."""
    axes.axis("off")
    for i, line in enumerate([*title, *lines]):
        text = axes.annotate(
            plain_text(line),
            (0.0, 1.0),
            xycoords="axes fraction",
            xytext=(0, -i * _LINE * 72),
            textcoords="offset points",
            va="top",
            fontsize=12 if i < len(title) else 9,
            fontweight="bold" if i < len(title) else "normal",
        )
        text.set_in_layout(False)  # or a wide line would make the panels narrow


def _draw_panel(axes: Axes, panel: Panel) -> None:
    axes.set_yscale("log")
    axes.set_ylabel(plain_text(panel.label))
    axes.set_title(plain_text(panel.title), fontsize=9, loc="left")
    axes.grid(True, color=_GREY, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    _fit_axis(axes, panel)
    named = [(_draw_curve(axes, curve), curve.label) for curve in panel.curves]
    named += _draw_edges(axes, panel.curves)
    shown = [(handle, plain_text(shortened(label, most=60))) for handle, label in named if label]
    if shown:
        longest = max(len(label) for _, label in shown)
        axes.legend(
            [handle for handle, _ in shown],
            [label for _, label in shown],
            fontsize=_SMALL,
            ncols=min(len(shown), 1 + 100 // (longest + 8)),
            loc="lower right",
            bbox_to_anchor=(1.0, 1.0),
            frameon=False,
            borderaxespad=0.2,
        )


def _draw_curve(axes: Axes, curve: Curve) -> Artist:
    """The curve where it can be drawn on a logarithmic axis: gaps elsewhere."""
    y = [value if 0 < value < math.inf else math.nan for value in curve.y]
    marker, dash = _MARKERS[curve.colour % len(_MARKERS)], _DASHES[curve.dash % len(_DASHES)]
    styles: dict[str, dict[str, Any]] = {
        "line": {"marker": marker, "markersize": 4, "linestyle": dash},
        "dashes": {"linestyle": "--"},
        "dots": {"marker": "o", "markersize": 3.5, "linestyle": "", "markerfacecolor": "none"},
        "strokes": {"marker": "_", "markersize": 10, "markeredgewidth": 2, "linestyle": ""},
    }
    colour = _COLOURS[curve.colour % len(_COLOURS)]
    (line,) = axes.plot(curve.x, y, color=colour, linewidth=1.4, **styles[curve.kind])
    return line


def _draw_edges(axes: Axes, curves: Sequence[Curve]) -> list[tuple[Artist, str]]:
    """Triangles below and crosses above for points that a logarithmic axis lacks."""
    drawn: dict[str, Artist] = {}
    lines = [curve for curve in curves if curve.kind == "line"]
    for curve in curves:
        colour = _COLOURS[curve.colour % len(_COLOURS)]
        points = list(zip(curve.x, curve.y, strict=True))
        if zeros := [x for x, y in points if y == 0]:
            drawn["exactly 0"] = _draw_on_edge(axes, zeros, 0.0, "v", colour)
        if lost := [x for x, y in points if not math.isfinite(y)]:
            # Runs that break at the same layer lie below each other.
            height = 1 - 0.06 * (lines.index(curve) % 8 if curve in lines else 0)
            drawn["not finite"] = _draw_on_edge(axes, lost, height, "x", colour)
            axes.axvline(min(lost), color=colour, linewidth=0.8, linestyle=":")
    return [(artist, label) for label, artist in drawn.items()]


def _draw_on_edge(
    axes: Axes, x: Sequence[float], height: float, marker: str, colour: str
) -> Artist:
    """Markers at a height from 0 to 1 of the axes, whatever their scale; what a legend shows."""
    from matplotlib.lines import Line2D

    style: dict[str, Any] = {"marker": marker, "markersize": 5, "linestyle": ""}
    edge = axes.get_xaxis_transform()
    axes.plot(x, [height] * len(x), transform=edge, clip_on=False, zorder=5, color=colour, **style)
    return Line2D([], [], color=_GREY, **style)


def _fit_axis(axes: Axes, panel: Panel) -> None:
    """Limits around what can be drawn, and the level lines that lie near."""
    values = [value for curve in panel.curves for value in curve.y if 0 < value < math.inf]
    low, high = (math.log10(f(values)) for f in (min, max)) if values else (0.0, 0.0)
    spare = max((_SPAN - (high - low)) / 2, 0.06 * (high - low))
    low, high = low - spare, high + spare
    for name, limit in panel.limits:
        if low - _SPAN < math.log10(limit) < high + _SPAN:
            low, high = min(low, math.log10(limit) - 1), max(high, math.log10(limit) + 1)
            axes.axhline(limit, color=_GREY, linewidth=1, linestyle=":")
            axes.annotate(
                plain_text(name),
                (0.0, limit),
                xycoords=axes.get_yaxis_transform(),
                xytext=(3, -2 if limit > 1 else 2),
                textcoords="offset points",
                va="top" if limit > 1 else "bottom",
                fontsize=_SMALL,
                color=_GREY,
            )
    low, high = max(low, -307.0), min(high, 308.0)
    axes.set_ylim(10.0**low, 10.0**high)
    if not values:
        axes.set_yticks([])
        axes.minorticks_off()
    if high - low > 2 * _FAR:  # matplotlib's own ticks would overflow
        axes.set_yticks([10.0**i for i in range(-6 * _FAR, 7 * _FAR, _FAR) if low <= i <= high])
        axes.minorticks_off()


def _name_ticks(
    axes: Axes, ticks: Sequence[tuple[float, str]], numbers: Sequence[int], axis: str
) -> None:
    """Every so many names, the first among them; what they all begin with goes below the axis."""
    start = _common_start([name for _, name in ticks])
    axes.set_xlabel(plain_text(", ".join(filter(None, [axis, f"{start}*" if start else ""]))))
    step = max(math.ceil(len(ticks) / _MOST_TICKS), 1)
    if not ticks:
        return
    names = [shortened(name.removeprefix(start)) for _, name in ticks[::step]]
    if numbers:
        names = [f"{i} ({name})" for i, name in zip(numbers[::step], names, strict=True)]
    axes.set_xticks([at for at, _ in ticks[::step]])
    axes.set_xticklabels(
        [plain_text(name) for name in names],
        rotation=90 if max(map(len, names)) > 3 else 0,
        fontsize=_SMALL,
    )


def _common_start(names: Sequence[str]) -> str:
    """``"layers."``: the components that all names begin with; each keeps its last."""
    if len(names) < 2:
        return ""
    columns = zip(*(name.split(".")[:-1] for name in names), strict=False)
    shared = takewhile(lambda column: len(set(column)) == 1, columns)
    return "".join(f"{column[0]}." for column in shared)


def _draw_bars(axes: Axes, bars: Bars) -> None:
    """Shares of the bins; a single value gets a bin of some width."""
    low, high, count = bars.low, bars.high, len(bars.counts)
    if low == high:
        width = abs(low) / 2 or 0.5
        low, high = low - width, high + width
    edges = [low * (1 - i / count) + high * (i / count) for i in range(count + 1)]
    total = max(sum(bars.counts), 1)
    axes.stairs(
        [each / total for each in bars.counts], edges, fill=True, color=_COLOURS[0], alpha=0.85
    )
    axes.set_title(plain_text(shortened(bars.title, most=36)), fontsize=_SMALL)
    axes.set_yticks([])
    axes.set_ylim(bottom=0)
    axes.locator_params(axis="x", nbins=4)
    axes.tick_params(labelsize=_SMALL)
