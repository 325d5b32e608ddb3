"""The cells of pixels that upsampling makes of one pixel, and the pattern it leaves in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["Cells", "cells_of", "explained_by_position"]


@dataclass(frozen=True, slots=True)
class Cells:
    """How a layer upsamples; the fields are those of `LayerMaps`."""

    size: tuple[int, int] = (1, 1)
    taps: tuple[int, int] | None = None
    margin: tuple[int, int] = (0, 0)


def cells_of(layer: nn.Module, given: Tensor, returned: Tensor) -> Cells:
    """What the type of a layer says of strides and overlap."""
    if isinstance(layer, nn.ConvTranspose2d):
        strides = _pair(layer.stride)
        kernels, dilations = _pair(layer.kernel_size), _pair(layer.dilation)
        axes = [_taps(*axis) for axis in zip(kernels, strides, dilations, strict=True)]
        taps = (axes[0][0] * axes[1][0], axes[0][1] * axes[1][1])
        margin = _pair([d * (k - 1) for k, d in zip(kernels, dilations, strict=True)])
        return Cells(strides, taps, margin)
    if isinstance(layer, nn.MaxUnpool2d | nn.Upsample | nn.PixelShuffle):
        sides = zip(returned.shape[2:], given.shape[2:], strict=True)
        return Cells(_pair([max(out // into, 1) for out, into in sides]))
    return Cells()


def explained_by_position(
    channels: Tensor, cell: tuple[int, int], margin: tuple[int, int]
) -> float:
    """The share of the variance between positions in a cell, away from the border."""
    inner = channels.double()
    for dim, (period, border) in enumerate(zip(cell, margin, strict=True), 1):
        spare = border if inner.shape[dim] >= 2 * (border + period) else 0
        whole = (inner.shape[dim] - 2 * spare) // period * period
        inner = inner.narrow(dim, spare, whole)
    total = inner.flatten(1).var(1, correction=0).sum()
    rounding = torch.finfo(torch.float32).eps ** 2 * inner.square().mean((1, 2)).sum()
    if cell == (1, 1) or total <= 16 * rounding:  # a constant map, up to sums in another order
        return 0.0
    count, height, width = inner.shape
    cells = inner.reshape(count, height // cell[0], cell[0], width // cell[1], cell[1])
    between = cells.mean((1, 3)).flatten(1).var(1, correction=0).sum()
    return float(between / total)


def _taps(kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """The fewest and the most weights along one axis that meet in a pixel."""
    met = [sum(k * dilation % stride == p for k in range(kernel)) for p in range(stride)]
    return min(met), max(met)


def _pair(value: Sequence[int] | int) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
