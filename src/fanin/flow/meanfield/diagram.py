"""`phase_diagram`: order and chaos over the plane of σ_w and σ_b, as numbers and as a picture."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fanin.errors import ArgumentError
from fanin.flow.meanfield.edge import Critical, attracts, edge_curve
from fanin.flow.meanfield.field import LARGEST, MeanField, checked_number
from fanin.flow.meanfield.moments import Moments, Nonlinearity, Param, moments_of, worked_out
from fanin.gains.quadrature import Array
from fanin.report.figure import empty_figure, plain_text, png_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["PhaseDiagram", "phase_diagram"]

_FINER = 20  # steps between two nodes of the table
_DEPTHS = (3, 10, 30, 100)
_EDGE_COLOUR = "#D55E00"
_EDGE = tuple(10.0 ** (i / 24) for i in range(-24 * 6, 24 * 6 + 1))


def phase_diagram(
    nonlinearity: Nonlinearity,
    *,
    sigma_w: tuple[float, float] = (0.0, 3.0),
    sigma_b: tuple[float, float] = (0.0, 1.0),
    steps: int = 160,
    start: float = 1.0,
    param: Param = None,
) -> PhaseDiagram:
    """Fixed length and χ₁ over a rectangle of σ_w and σ_b, and the edge of chaos in it.

    Args:
        nonlinearity: as for `fanin.mean_field`.
        sigma_w: from and to, the axis to the right.
        sigma_b: from and to, the axis upwards.
        steps: points on each axis.
        start: mean square that lengths start from.
        param: of the named function.

    Returns:
        A `PhaseDiagram`, to plot or to save. Its lengths are good to three digits, its edge to
        ten.

    Raises:
        ArgumentError: for a range without extent; and as for `fanin.mean_field`.

    Example:
        >>> diagram = phase_diagram("tanh", steps=8)
        >>> diagram.q.shape
        (8, 8)
    """
    start = checked_number("phase_diagram", "start", start, lowest=0.0, may_be_lowest=False)
    ranges = {"sigma_w": sigma_w, "sigma_b": sigma_b}
    for name, ends in ranges.items():
        is_pair = isinstance(ends, tuple) and len(ends) == 2
        is_real = is_pair and all(isinstance(end, Real) for end in ends)
        if not is_real or not 0 <= ends[0] < ends[1] <= LARGEST:
            raise ArgumentError(
                f"phase_diagram: {name} is a pair (from, to) of numbers, 0 or more and at most "
                f"{LARGEST:g}. Got {ends!r} for {name}. Write for instance {name}=(0.0, 2.0)."
            )
    if not isinstance(steps, int) or steps < 2:
        raise ArgumentError(f"phase_diagram: steps is 2 or more. Got {steps!r} for steps.")
    moments = moments_of(nonlinearity, param)
    w, b = (np.linspace(*ends, steps) for ends in (sigma_w, sigma_b))
    q, chi = worked_out(lambda: _plane(moments, w, b, start))
    edge = worked_out(lambda: edge_curve(moments, _EDGE))
    attracting = worked_out(lambda: tuple(attracts(moments, point.q) for point in edge))
    return PhaseDiagram(moments.f.label, start, w, b, q, chi, edge, attracting)


@dataclass(frozen=True, eq=False)
class PhaseDiagram:
    """Fixed lengths over a grid of σ_w and σ_b.

    Args:
        nonlinearity: its name.
        start: mean square that lengths start from.
        sigma_w: of the columns.
        sigma_b: of the rows.
        q: fixed mean squares, (rows, columns); infinity where lengths grow without bound.
        chi: χ₁ there.
        edge: points of the edge of chaos, by their length; also those outside the rectangle.
        attracting: for each of them, whether lengths come closer to its own.
    """

    nonlinearity: str
    start: float
    sigma_w: Array
    sigma_b: Array
    q: Array
    chi: Array
    edge: tuple[Critical, ...]
    attracting: tuple[bool, ...]

    def plot(self, mark: MeanField | None = None) -> Figure:
        """The picture: q in colour, the edge as a line, depth scales of gradients as contours.

        Args:
            mark: a point to show.

        Raises:
            FaninError: without matplotlib.
        """
        figure = empty_figure(8.0, 5.6)
        axes = figure.add_subplot()
        mesh = _draw_lengths(axes, self)
        figure.colorbar(mesh, ax=axes, label="q*: mean square at which outputs settle")
        _draw_depths(axes, self)
        _draw_edge(axes, self)
        _name_phases(axes, self)
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8)
        if mark is not None:
            point = ([mark.sigma_w], [mark.sigma_b])
            axes.plot(*point, "o", markersize=9, color="white", markeredgecolor="black", zorder=6)
        axes.set_xlim(self.sigma_w[0], self.sigma_w[-1])
        axes.set_ylim(self.sigma_b[0], self.sigma_b[-1])
        axes.set_xlabel("σ_w: std of a weight, times √fan_in")
        axes.set_ylabel("σ_b: std of a bias")
        title = (
            f"Wide random networks of {self.nonlinearity}, from a mean square of {self.start:.3g}"
        )
        axes.set_title(plain_text(title), loc="left")
        return figure

    def save(self, path: str | Path, mark: MeanField | None = None) -> None:
        """Write the picture as a PNG file.

        Args:
            path: of the file.
            mark: a point to show.

        Raises:
            FaninError: without matplotlib.
        """
        Path(path).write_bytes(png_bytes(self.plot(mark)))


def _plane(moments: Moments, w: Array, b: Array, start: float) -> tuple[Array, Array]:
    """q and χ₁ at every pair, from the table of moments: nothing is integrated here."""
    table = moments.table
    logs = np.log(table.q)
    fine = np.linspace(logs[0], logs[-1], _FINER * (len(logs) - 1) + 1)
    lengths = np.exp(fine)
    ratio, slope = (_between(each) for each in (table.ratio, table.slope))
    # A start beyond the table goes on as its end does.
    first = min(max(int(np.searchsorted(lengths, start)), 1), len(lengths) - 1)
    q, chi = np.empty((len(b), len(w))), np.empty((len(b), len(w)))
    for row, sigma_b in enumerate(b):
        # (columns, lengths): how much longer a length becomes, relative to itself.
        change = np.outer(w**2, ratio) + sigma_b**2 / lengths - 1
        grows = change > 0
        ends = ~grows[:, first:]  # on the way up
        begins = grows[:, :first][:, ::-1]  # on the way down
        up = np.where(ends.any(1), first + ends.argmax(1), len(fine) - 1)
        down = np.where(begins.any(1), first - begins.argmax(1), 1)
        is_up = grows[:, first]
        right = np.where(is_up, up, down)
        # The zero between two lengths, by a straight line.
        before, after = (
            np.take_along_axis(change, i[:, None], 1)[:, 0] for i in (right - 1, right)
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.clip(np.nan_to_num(before / (before - after)), 0.0, 1.0)
        at = fine[right - 1] + share * (fine[right] - fine[right - 1])
        is_lost = is_up & ~ends.any(1)
        is_dead = ~is_up & ~begins.any(1)
        q[row] = np.where(is_lost, math.inf, np.where(is_dead, 0.0, np.exp(at)))
        chi[row] = w**2 * np.where(is_lost, slope[-1], np.interp(at, fine, slope))
    return q, chi


def _between(values: Array) -> Array:
    """Evenly spaced values with `_FINER` steps for one, on cubics through four neighbours."""
    padded = np.concatenate([values[:1], values, values[-1:]])
    a, b, c, d = (padded[i : len(padded) - 3 + i, None] for i in range(4))
    t = np.arange(_FINER) / _FINER
    # Catmull and Rom 1974: through b and c, with the slopes (c - a)/2 and (d - b)/2.
    cubic = b + t * (
        (c - a) / 2 + t * (a - 2.5 * b + 2 * c - d / 2 + t * (d - a + 3 * (b - c)) / 2)
    )
    found: Array = np.append(cubic.ravel(), values[-1])
    return found


def _draw_lengths(axes: Axes, diagram: PhaseDiagram) -> Any:
    """Colours from 1e-3 to 1e2; grey where there is no fixed length."""
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm

    colours = colormaps["viridis"].with_extremes(bad="0.85", under=colormaps["viridis"](0.0))
    shown = np.ma.masked_invalid(np.where(np.isinf(diagram.q), np.nan, np.maximum(diagram.q, 1e-6)))
    norm = LogNorm(vmin=1e-3, vmax=1e2)
    return axes.pcolormesh(
        diagram.sigma_w, diagram.sigma_b, shown, cmap=colours, norm=norm, shading="nearest"
    )


def _draw_depths(axes: Axes, diagram: PhaseDiagram) -> None:
    """Where gradients change by a factor of e in 3, 10, 30, 100 layers, on both sides."""
    from matplotlib.lines import Line2D

    with np.errstate(divide="ignore"):
        growth = np.ma.masked_where(np.isinf(diagram.q), np.log(diagram.chi))
    if growth.mask.all():
        return
    style: dict[str, Any] = {"linewidths": 0.8, "linestyles": "dotted"}
    levels = sorted({sign / depth for depth in _DEPTHS for sign in (-1, 1)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a level that the rectangle does not have
        lines = axes.contour(
            diagram.sigma_w, diagram.sigma_b, growth, levels=levels, colors="white", **style
        )
    axes.clabel(lines, fmt=lambda level: f"{1 / abs(level):.0f}", fontsize=8)
    name = "gradients change by a factor e in so many layers"
    axes.add_line(Line2D([], [], color="0.4", linewidth=0.8, linestyle=":", label=name))


def _draw_edge(axes: Axes, diagram: PhaseDiagram) -> None:
    """A line, dashed where lengths leave it; a star where it is a point."""
    points = np.array([(point.sigma_w, point.sigma_b) for point in diagram.edge]).reshape(-1, 2)
    attracting = np.array(diagram.attracting, dtype=bool)
    name = "edge of chaos, χ₁ = 1"
    if len(points) and np.ptp(points, axis=0).max() < 1e-6:
        axes.plot(*points[0], "*", markersize=14, color=_EDGE_COLOUR, label=name, clip_on=False)
    else:
        kinds = ((attracting, "-", name), (~attracting, "--", "the same, where lengths leave q*"))
        for chosen, dash, label in kinds:
            if chosen.any():
                shown = np.where(chosen[:, None], points, np.nan)
                axes.plot(*shown.T, dash, color=_EDGE_COLOUR, linewidth=2.0, label=label)


def _name_phases(axes: Axes, diagram: PhaseDiagram) -> None:
    """Each region's name at the middle of what it covers."""
    unbounded = np.isinf(diagram.q)
    regions = {
        "ordered": ~unbounded & (diagram.chi < 1),
        "chaotic": ~unbounded & (diagram.chi > 1),
        "lengths grow\nwithout bound": unbounded,
    }
    for name, covered in regions.items():
        if covered.mean() < 0.02:
            continue
        rows, columns = np.nonzero(covered)
        row = int(np.median(rows))
        place = columns[rows == row] if (rows == row).any() else columns
        axes.text(
            diagram.sigma_w[int(np.median(place))],
            diagram.sigma_b[row],
            name,
            ha="center",
            va="center",
            color="black" if name.startswith("lengths") else "white",
            fontsize=11,
            fontweight="bold",
        )
