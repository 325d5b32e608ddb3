"""Orthogonal fills: which matrices a region touches, and how to draw only that part of them."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from fanin.drawing.householder import (
    Vectors,
    is_small,
    write_block,
    write_columns,
    write_small,
)
from fanin.drawing.indices import beside
from fanin.drawing.precision import exact_products
from fanin.drawing.targets import drawing_device, is_plain, is_reachable
from fanin.errors import LayoutError
from fanin.fills import Orthogonal
from fanin.geometry import Region
from fanin.stream import Key
from fanin.stream.laws import require_finite
from fanin.stream.narrow import FORMATS, float_format

__all__ = ["compute_dtype", "draw_orthogonal", "fill_plain_matrix"]

_PIECE = 2**20  # elements that are put in order at a time


def draw_orthogonal(fill: Orthogonal, key: Key, region: Region, out: Tensor) -> None:
    """Fill ``out`` with the region's part of Haar matrices times ``gain``.

    The shorter side of each matrix is orthonormal; a wide one is the transpose of a tall one.
    Computed in float32 or better (complex64 for complex) and rounded once.

    Raises:
        ArgumentError: for a gain that is not finite in the arithmetic.
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
    dtype = compute_dtype(out.dtype, fill.gain)
    if region.numel == 0:
        return
    device = drawing_device(out)
    direct = (is_plain(out) or (is_reachable(out) and out.is_contiguous())) and out.dtype == dtype
    buffer = out if direct else torch.empty(region.local_shape, dtype=dtype, device=device)

    batches, rows, columns = (
        Region(region.shape[start:stop], region.runs[start:stop])
        for start, stop in itertools.pairwise((0, first_row, first_column, len(region.shape)))
    )
    matrices = buffer.view(batches.numel, rows.numel, columns.numel)
    if math.prod(rows.shape) < math.prod(columns.shape):
        rows, columns, matrices = columns, rows, matrices.mT
    shape = (math.prod(batches.shape), math.prod(columns.shape), math.prod(rows.shape))
    vectors = [Vectors(key, shape, batch, dtype, device) for batch in _flat(batches).tolist()]
    if rows.is_whole and columns.is_whole and is_small(math.prod(shape[1:]), dtype, device):
        for each, matrix in zip(vectors, matrices, strict=True):
            write_small(each, fill.gain, matrix)
        increment_version(buffer)
    else:
        with exact_products(device):
            held = _flat(rows), _flat(columns)
            for each, matrix in zip(vectors, matrices, strict=True):
                _draw_tall(each, *held, fill.gain, matrix)
    if not direct:
        if out.dtype in FORMATS:
            largest = torch.finfo(out.dtype).max
            buffer.clamp_(-largest, largest)
        out.copy_(buffer if out.device == device else buffer.to(out.dtype))


def fill_plain_matrix(gain: float, key: Key, tensor: Tensor) -> None:
    """Write a whole matrix, dim 0 by the others, that `is_plain` and `is_small`: the least cost."""
    matrix = tensor.view(len(tensor), -1)
    matrix = matrix if len(matrix) >= matrix.shape[1] else matrix.mT
    m, n = matrix.shape
    write_small(Vectors(key, (1, n, m), 0, tensor.dtype, tensor.device), gain, matrix)
    increment_version(tensor)


def compute_dtype(dtype: torch.dtype, gain: float) -> torch.dtype:
    """What a tensor of this dtype is computed in: float32 or better, complex64 or better.

    Raises:
        ArgumentError: for a gain that is not finite there.
        DtypeError: for a dtype that holds no random numbers.
    """
    if dtype.is_complex:
        computed = torch.promote_types(dtype, torch.complex64)
    elif dtype in (torch.float32, torch.float64):
        computed = dtype
    else:
        float_format(dtype)
        computed = torch.float32
    require_finite("orthogonal", computed.to_real(), gain=gain)
    return computed


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
    rows, order = (beside(which, out.device) for which in (rows, order))
    step = max(1, _PIECE // len(columns))
    for start in range(0, len(rows), step):
        out[start : start + step, order] = whole[rows[start : start + step]]


def _flat(region: Region) -> Tensor:
    """Row-major index of every local element."""
    if region.is_whole:
        return torch.arange(region.numel, device="cpu")
    return region.linear_indices().reshape(-1)
