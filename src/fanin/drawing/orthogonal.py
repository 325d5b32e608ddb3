"""Orthogonal fills: which matrices a region touches, and how to draw only that part of them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fanin.drawing.householder import Vectors, write_block, write_columns
from fanin.drawing.precision import exact_products
from fanin.drawing.targets import drawing_device, is_plain, is_reachable
from fanin.errors import LayoutError
from fanin.fills import Orthogonal
from fanin.geometry import Region
from fanin.stream import Key
from fanin.stream.narrow import FORMATS, float_format

__all__ = ["compute_dtype", "draw_orthogonal"]

_PIECE = 2**20  # elements that are put in order at a time


def draw_orthogonal(fill: Orthogonal, key: Key, region: Region, out: Tensor) -> None:
    """Fill ``out`` with the region's part of Haar matrices times ``gain``.

    The shorter side of each matrix is orthonormal; a wide one is the transpose of a tall one.
    Computed in float32 or better (complex64 for complex) and rounded once.

    Raises:
        DtypeError: when the tensor holds no random numbers.
        LayoutError: when no column dim follows the batch and row dims.
    """
    first_row, first_column = fill.batch_dims, fill.batch_dims + fill.row_dims
    if len(region.shape) <= first_column:
        raise LayoutError(
            f"orthogonal: a matrix has two or more dims, {fill.row_dims} of them rows, after "
            f"{fill.batch_dims} batch dims. Got shape {region.shape}. Match it with another "
            "initializer, or state its batch and row dims."
        )
    dtype = compute_dtype(out.dtype)
    if region.numel == 0:
        return
    device = drawing_device(out)
    direct = (is_plain(out) or (is_reachable(out) and out.is_contiguous())) and out.dtype == dtype
    buffer = out if direct else torch.empty(region.local_shape, dtype=dtype, device=device)

    batches, batch_count = _flat_indices(region, 0, first_row)
    rows, row_count = _flat_indices(region, first_row, first_column)
    columns, column_count = _flat_indices(region, first_column, len(region.shape))
    short, long = sorted((row_count, column_count))
    matrices = buffer.view(len(batches), len(rows), len(columns))
    with exact_products(device):
        for batch, matrix in zip(batches.tolist(), matrices, strict=True):
            vectors = Vectors(key, (batch_count, short, long), batch, dtype, device)
            if row_count >= column_count:
                _draw_tall(vectors, rows, columns, fill.gain, matrix)
            else:
                _draw_tall(vectors, columns, rows, fill.gain, matrix.mT)
    if not direct:
        if out.dtype in FORMATS:
            largest = torch.finfo(out.dtype).max
            buffer.clamp_(-largest, largest)
        out.copy_(buffer if out.device == device else buffer.to(out.dtype))


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """What a tensor of this dtype is computed in: float32 or better, complex64 or better.

    Raises:
        DtypeError: for a dtype that holds no random numbers.
    """
    if dtype.is_complex:
        return torch.promote_types(dtype, torch.complex64)
    if dtype in (torch.float32, torch.float64):
        return dtype
    float_format(dtype)
    return torch.float32


def _draw_tall(vectors: Vectors, rows: Tensor, columns: Tensor, gain: float, out: Tensor) -> None:
    """Write ``gain·Q[rows][:, columns]``, the way that needs less memory."""
    _, n, m = vectors.shape
    holds_all_rows = torch.equal(rows, torch.arange(m, device="cpu"))
    if not holds_all_rows and n * n <= m * len(columns):
        write_block(vectors, rows, columns, gain, out)
        return
    whole = out
    if not holds_all_rows:
        whole = torch.empty(m, len(columns), dtype=out.dtype, device=out.device)
    ascending, order = columns.sort()
    write_columns(vectors, ascending, gain, whole)
    if holds_all_rows and torch.equal(ascending, columns):
        return
    rows, order = (which.to(out.device, non_blocking=True) for which in (rows, order))
    step = max(1, _PIECE // len(columns))
    for start in range(0, len(rows), step):
        out[start : start + step, order] = whole[rows[start : start + step]]


def _flat_indices(region: Region, start: int, stop: int) -> tuple[Tensor, int]:
    """Row-major index within these dims of every local element of them, and how many exist."""
    shape = region.shape[start:stop]
    part = Region(shape, region.runs[start:stop])
    count = math.prod(shape)
    if part.is_whole:
        return torch.arange(count, device="cpu"), count
    return part.linear_indices().reshape(-1), count
