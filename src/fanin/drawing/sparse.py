"""Sparse fills: normal numbers, with a fixed number of zeros in each slice of a matrix."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from fanin import stream
from fanin.drawing.elementwise import draw_elementwise
from fanin.drawing.indices import beside
from fanin.drawing.targets import drawing_device, is_plain, is_reachable
from fanin.errors import LayoutError
from fanin.fills import Normal, Sparse
from fanin.geometry import Region
from fanin.stream import Key

__all__ = ["draw_sparse"]

_CHUNK = 2**18  # entries of whole slices marked at a time, where only parts of them are held


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
    direct = is_plain(out) or is_reachable(out)
    buffer = out
    if not direct:
        buffer = torch.empty(region.local_shape, dtype=out.dtype, device=drawing_device(out))
    draw_elementwise(Normal(0.0, fill.std), key, region, buffer)

    across = 1 - fill.dim  # the dim that counts the slices
    at = 0
    for first, last in region.runs[across]:
        part = region.narrow(across, at, at + last - first)
        entries = buffer.narrow(across, at, last - first)
        _clear(fill, key, part, first, entries if fill.dim == 1 else entries.mT)
        at += last - first
    if direct:
        increment_version(out)
    else:
        out.copy_(buffer)


def _clear(fill: Sparse, key: Key, region: Region, first: int, slices: Tensor) -> None:
    """Write the zeros of consecutive slices, the rows of ``slices``."""
    length = region.shape[fill.dim]
    zeros = fill.num_zeros(length)
    if region.runs[fill.dim] == ((0, length),):
        stream.clear(key.value, first, zeros, slices)
        return
    held = beside(region.indices(fill.dim), slices.device)
    step = max(1, _CHUNK // length)
    for start in range(0, len(slices), step):
        piece = slices[start : start + step]
        piece = piece.view(torch.uint8) if piece.itemsize == 1 else piece  # zero is the byte 0
        kept = torch.ones(len(piece), length, dtype=torch.uint8, device=slices.device)
        stream.clear(key.value, first + start, zeros, kept)
        piece.masked_fill_(kept[:, held] == 0, 0)
