"""`draw`: execute a fill on a tensor, whatever its device, layout or dtype."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from fanin import fills
from fanin.drawing.delta_orthogonal import draw_delta_orthogonal
from fanin.drawing.elementwise import draw_elementwise
from fanin.drawing.functions import draw_from_function, draw_mapped
from fanin.drawing.orthogonal import draw_orthogonal
from fanin.drawing.sparse import draw_sparse
from fanin.drawing.structured import draw_constant, draw_dirac, draw_eye
from fanin.drawing.targets import (
    check_writable,
    drawing_device,
    has_numbers,
    is_plain,
    is_reachable,
)
from fanin.errors import ArgumentError
from fanin.geometry import Region, is_dtensor, local_tensor
from fanin.stream import Key

__all__ = ["draw"]

CHUNK = 1 << 20  # elements drawn before they are copied to a tensor that is not plain memory
CHUNK_ON_DEVICE = 1 << 26  # where a launch costs more than the memory

_STRUCTURED: dict[type[fills.Fill], Callable[[Any, Key, Region, Tensor], None]] = {
    fills.Constant: draw_constant,
    fills.DeltaOrthogonal: draw_delta_orthogonal,
    fills.Dirac: draw_dirac,
    fills.Eye: draw_eye,
    fills.FromFunction: draw_from_function,
    fills.Orthogonal: draw_orthogonal,
    fills.Sparse: draw_sparse,
}


def draw(fill: fills.Fill, key: Key, region: Region, out: Tensor) -> None:
    """Write a fill into a tensor.

    Element ``i`` of the logical tensor (row-major, whole shape ``region.shape``) depends on the
    fill, the key and ``i`` alone: not on the region around it, the device, the memory layout or
    the number of threads.

    Args:
        fill: what to write.
        key: the stream of this parameter.
        region: which elements of the logical tensor ``out`` holds.
        out: a tensor of shape ``region.local_shape``: any floating-point or complex dtype, any
            device, any strides. A meta or fake tensor has nothing to write. Of a DTensor it is the
            local tensor that is written, and no other process takes part.

    Raises:
        ArgumentError: when the shape is not the region's.
        DtypeError: when the dtype cannot hold the fill.
        WriteError: when the tensor cannot be written in place.

    Example:
        >>> whole, rows = torch.empty(4, 6), torch.empty(2, 6)
        >>> key = Key(0, "weight")
        >>> draw(fills.Normal(0.0, 1.0), key, Region.whole((4, 6)), whole)
        >>> draw(fills.Normal(0.0, 1.0), key, Region.block((4, 6), [slice(1, 3), slice(6)]), rows)
        >>> torch.equal(rows, whole[1:3])
        True
    """
    if is_dtensor(out):
        draw(fill, key, region, local_tensor(out, region.local_shape))
        increment_version(out)
        return
    if tuple(out.shape) != region.local_shape:
        raise ArgumentError(
            f"draw: the tensor's shape is the region's local shape. Got {tuple(out.shape)} for a "
            f"region of {region.local_shape}."
        )
    if not has_numbers(out):
        return
    check_writable(fill.name, out)
    with torch.no_grad():
        if isinstance(fill, fills.Rearranged):
            _draw_rearranged(fill, key, region, out)
        elif isinstance(fill, fills.Packed):
            _draw_packed(fill, key, region, out)
        elif isinstance(fill, fills.Mapped):
            draw_mapped(fill, key, region, out, draw)
        elif structured := _STRUCTURED.get(type(fill)):
            structured(fill, key, region, out)
        elif is_plain(out) or is_reachable(out):
            draw_elementwise(fill, key, region, out)
            increment_version(out)
        else:
            _draw_and_copy(fill, key, region, out)


def _draw_and_copy(fill: fills.Fill, key: Key, region: Region, out: Tensor) -> None:
    device = drawing_device(out)
    for piece, part in region.split(CHUNK if device.type == "cpu" else CHUNK_ON_DEVICE):
        buffer = torch.empty(part.local_shape, dtype=out.dtype, device=device)
        draw_elementwise(fill, key, part, buffer)
        out[piece].copy_(buffer)


def _draw_rearranged(fill: fills.Rearranged, key: Key, region: Region, out: Tensor) -> None:
    """Draw the base on a permuted view, group by group where dim 0 is split into groups."""
    if fill.groups == 1:
        view = Region(
            tuple(region.shape[dim] for dim in fill.dims),
            tuple(region.runs[dim] for dim in fill.dims),
        )
        draw(fill.base, key, view, out.permute(fill.dims))
        return
    size = region.shape[0] // fill.groups
    for group in range(fill.groups):
        for local, (start, stop) in region.overlaps(0, group * size, (group + 1) * size):
            runs = (((group, group + 1),), ((start, stop),), *region.runs[1:])
            shape = (fill.groups, size, *region.shape[1:])
            view = Region(
                tuple(shape[dim] for dim in fill.dims), tuple(runs[dim] for dim in fill.dims)
            )
            draw(fill.base, key, view, out[local].unsqueeze(0).permute(fill.dims))


def _draw_packed(fill: fills.Packed, key: Key, region: Region, out: Tensor) -> None:
    """Draw each part with a key of its own, in its own index space."""
    dim = fill.dim
    for part in fill.parts:
        shape = (*region.shape[:dim], part.stop - part.start, *region.shape[dim + 1 :])
        for local, run in region.overlaps(dim, part.start, part.stop):
            held = Region(shape, (*region.runs[:dim], (run,), *region.runs[dim + 1 :]))
            piece = out.narrow(dim, local.start, local.stop - local.start)
            draw(part.fill, key.part(part.name), held, piece)
