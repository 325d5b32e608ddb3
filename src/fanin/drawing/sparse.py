"""Sparse fills: normal numbers, with a fixed number of zeros in each slice of a matrix."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from fanin.drawing.elementwise import draw_elementwise
from fanin.drawing.targets import is_plain
from fanin.errors import LayoutError
from fanin.fills import Normal, Sparse
from fanin.geometry import Region
from fanin.stream import Key, choose

__all__ = ["draw_sparse"]

_CHUNK = 2**15  # zeros written at a time: the indices stay in cache


def draw_sparse(fill: Sparse, key: Key, region: Region, out: Tensor) -> None:
    """Fill ``out`` with the region's part of ``N(0, std²)`` with zeros.

    The normal numbers are those of `Normal`. Slice ``s`` along ``dim`` (column ``s`` for
    ``dim=0``) then loses ``num_zeros`` of its ``length`` entries: ``k = min(num_zeros,
    length − num_zeros)`` places are chosen from purpose 2 of the stream, as
    `fanin.stream.choice` defines, and are the zeros, or what is kept when that is fewer.

    Raises:
        LayoutError: when the tensor is no matrix.
    """
    if len(region.shape) != 2:
        raise LayoutError(
            f"sparse: slices are the columns (dim=0) or rows (dim=1) of a matrix. Got shape "
            f"{region.shape}. Match a tensor with two dims, or use another initializer."
        )
    if region.numel == 0:
        return
    plain = is_plain(out)
    buffer = out if plain else torch.empty(region.local_shape, dtype=out.dtype, device="cpu")
    draw_elementwise(Normal(0.0, fill.std), key, region, buffer)

    across = 1 - fill.dim  # the dim that counts the slices
    # scatter_ knows no float8; zero is the byte 0 in all of them.
    entries = buffer.view(torch.uint8) if buffer.itemsize == 1 else buffer
    step = max(1, _CHUNK // max(1, fill.num_zeros(region.shape[fill.dim])))
    for start in range(0, region.local_shape[across], step):
        stop = min(start + step, region.local_shape[across])
        part = region.narrow(across, start, stop)
        _clear(fill, key, part, entries.narrow(across, start, stop - start))
    if not plain:
        out.copy_(buffer)


def _clear(fill: Sparse, key: Key, region: Region, entries: Tensor) -> None:
    """Write the zeros of the region's slices."""
    length, held = region.shape[fill.dim], region.local_shape[fill.dim]
    zeros = fill.num_zeros(length)
    count = min(zeros, length - zeros)
    chosen = [
        choose(key.value, first, last - first, length, count)
        for first, last in region.runs[1 - fill.dim]
    ]
    places = chosen[0] if len(chosen) == 1 else torch.cat(chosen)
    target = entries
    if region.runs[fill.dim] != ((0, length),):
        # Places that are not held fall on a spare entry at the end of the slice.
        local = torch.full((length,), held, device="cpu")
        local[region.indices(fill.dim)] = torch.arange(held, device="cpu")
        places = local[places]
        target = pad(entries, (0, 1) if fill.dim == 1 else (0, 0, 0, 1))

    index = places if fill.dim == 1 else places.mT
    if count == zeros:
        target.scatter_(fill.dim, index, 0)
    else:
        kept = target.gather(fill.dim, index)
        target.zero_().scatter_(fill.dim, index, kept)
    if target is not entries:
        entries.copy_(target.narrow(fill.dim, 0, held))
