"""Channels of images as small pictures in a grid, drawn by matplotlib from plain arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fanin.report.figure import empty_figure, plain_text, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Picture", "pictures_figure"]

_Array: TypeAlias = NDArray[np.floating[Any]]

_COLUMN, _ROW = 6.0, 2.5  # inches
_COLUMNS, _ROWS = 4, 2  # channels shown, side by side and above each other
_SMALL = 8  # points
_CROP = 24  # pixels of a channel that are magnified


@dataclass(frozen=True, slots=True)
class Picture:
    """Channels, and what stands above them.

    Args:
        title: above the channels.
        channels: (C, H, W); the first eight are drawn, on one scale from black to white.
        is_colour: whether three channels are one picture, of values from 0 to 1.
        is_magnified: whether the middle of the first channel is shown beside them, pixel by pixel:
            a pattern as fine as a pixel is lost in a small picture.
    """

    title: str
    channels: _Array
    is_colour: bool = False
    is_magnified: bool = False


def pictures_figure(
    rows: Sequence[Sequence[Picture]], *, title: str, labels: Sequence[str]
) -> Figure:
    """A grid of pictures.

    Args:
        rows: from the top down, each with the same number of pictures or with fewer.
        title: in bold.
        labels: of the rows, at the left.

    Returns:
        A figure of at most 12 inches in width, whose axes are labelled ``0,0``,
        ``0,0 magnified``, ….

    Raises:
        FaninError: without matplotlib.
    """
    widest = max(len(row) for row in rows)
    figure = empty_figure(_COLUMN * widest, 0.5 + _ROW * len(rows))
    figure.suptitle(plain_text(title), x=0.01, ha="left", fontsize=12, fontweight="bold")
    grid = figure.add_gridspec(len(rows), widest)
    for i, (row, label) in enumerate(zip(rows, labels, strict=True)):
        for j, picture in enumerate(row):
            widths = [2.1, 1.0] if picture.is_magnified else [1.0]
            cell = grid[i, j].subgridspec(1, len(widths), width_ratios=widths)
            axes = figure.add_subplot(cell[0], label=f"{i},{j}")
            _draw_picture(axes, picture)
            if j == 0:
                axes.set_ylabel(plain_text(shortened(label)), fontsize=9)
            if picture.is_magnified:
                _draw_crop(figure.add_subplot(cell[1], label=f"{i},{j} magnified"), picture)
    return figure


def _draw_picture(axes: Axes, picture: Picture) -> None:
    """The first channels as tiles with a gap between them."""
    count, height, width = picture.channels.shape
    scale = _scale(picture)
    tiles = [np.moveaxis(picture.channels, 0, 2)] if picture.is_colour else list(picture.channels)
    tiles = tiles[: _COLUMNS * _ROWS]
    columns = min(len(tiles), _COLUMNS)
    gap = max(height, width) * 0.06
    for i, tile in enumerate(tiles):
        left, top = i % columns * (width + gap), i // columns * (height + gap)
        axes.imshow(tile, extent=(left, left + width, top + height, top), **scale)
    lines = math.ceil(len(tiles) / columns)
    axes.set_xlim(-gap / 2, columns * (width + gap) - gap / 2)
    axes.set_ylim(lines * (height + gap) - gap / 2, -gap / 2)
    axes.set_title(plain_text(shortened(picture.title, most=60)), fontsize=9, loc="left")
    is_cut = len(tiles) < count and not picture.is_colour
    axes.set_xlabel(f"{len(tiles)} of {count} channels" if is_cut else "", fontsize=_SMALL)
    _bare(axes)


def _draw_crop(axes: Axes, picture: Picture) -> None:
    """The middle of the first channel, pixel by pixel."""
    height, width = picture.channels.shape[1:]
    top, left = (max(size - _CROP, 0) // 2 for size in (height, width))
    crop = picture.channels[0, top : top + _CROP, left : left + _CROP]
    axes.imshow(crop, interpolation="nearest", **_scale(picture))
    axes.set_title("middle of the first", fontsize=_SMALL, loc="left")
    _bare(axes)


def _bare(axes: Axes) -> None:
    """Neither ticks nor a frame, and aligned at the left."""
    axes.set_anchor("NW")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _scale(picture: Picture) -> dict[str, Any]:
    """Black to white over the middle 98 % of the values; orange where there is no number."""
    import matplotlib

    finite = picture.channels[np.isfinite(picture.channels)]
    low, high = np.percentile(finite, [1, 99]) if finite.size else (0.0, 1.0)
    shades = matplotlib.colormaps["gray"].with_extremes(bad="#D55E00")
    return {"cmap": shades, "vmin": low, "vmax": high if high > low else low + 1.0}
