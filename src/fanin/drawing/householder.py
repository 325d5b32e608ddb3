"""Haar-distributed orthonormal columns, as a product of Householder reflections of normal vectors.

Vector ``x_k`` is elements ``k…m−1`` of row ``k`` of an ``(n, m)`` standard normal, ``m ≥ n``. With
``s = x₀/|x₀|`` (1 when ``x₀ = 0``) and ``v = (x + s‖x‖e)/(x₀ + s‖x‖)``, which cannot cancel,
``H_k = I − τ v vᴴ``, ``τ = 1 + |x₀|/‖x‖``, maps ``x_k`` to ``−s‖x‖e``. Column ``k`` of
``H_0 H_1 … H_{n−1}`` times ``−s_k`` is column ``k`` of ``Q``: the Q of a QR factorisation whose R
has a positive diagonal, without the half of the work that makes R. A vector of length 1 has
``H = I`` and factor ``s``, a zero vector ``H = I`` and factor 1.

Reflections are applied in blocks: ``H_a … H_{b−1} = I − V S⁻¹ Vᴴ`` with ``S`` the strict upper
triangle of ``VᴴV`` plus ``diag(1/τ)``, so that all the work is matrix products. For a small matrix
that is some forty calls of torch, more than the work: there C++ applies them one by one.

Source: Stewart 1980, doi:10.1137/0717034 (Haar); Puglisi 1992, SIAM J. Sci. Stat. Comput. 13
(``S``).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fanin import stream
from fanin.drawing.elementwise import draw_elementwise
from fanin.drawing.indices import beside
from fanin.fills import Normal
from fanin.geometry import Region
from fanin.stream import Key, native

__all__ = ["Vectors", "is_small", "write_block", "write_columns", "write_small"]

# Reflections applied together. 64 to 256 are within a few percent of each other at n = 4096:
# fewer make thin products, more spend flops on S (share of the work: about block/n).
_BLOCK = 128
# Of vectors so long that more of them would be larger than two slabs. Twice as many are 8 % faster
# for 512 columns of 131,072 rows, and slower for 8 of them.
_THIN_BLOCK = 16
# Elements of a matrix that one thread of C++ makes in less time than torch: at 256² in half of it.
_SMALL = 2**16
# Elements of the slabs of vectors that are drawn at a time: 4 MiB of float32. Four times as many
# take 1.4 times as long at (8192, 2048), and as much more memory.
_SLAB = 2**20


@dataclass(frozen=True)
class Vectors:
    """The normal vectors of one matrix, drawn piece by piece.

    Args:
        key: of the stream.
        shape: ``(batch, n, m)`` of the normal whose upper trapezoid they are, ``m >= n``.
        batch: which ``(n, m)`` slab of it is this matrix.
        dtype: float32, float64, complex64 or complex128.
        device: where they are drawn and multiplied.
    """

    key: Key
    shape: tuple[int, int, int]
    batch: int
    dtype: torch.dtype
    device: torch.device

    def block(self, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
        """Vectors ``rows`` at coordinates ``columns``, one a row, zero before their start."""
        region = Region(self.shape, (((self.batch, self.batch + 1),), (rows,), (columns,)))
        x = torch.empty(region.local_shape, dtype=self.dtype, device=self.device)
        draw_elementwise(Normal(), self.key, region, x)
        return x[0].triu_(rows[0] - columns[0])

    def slabs(self, stop: int) -> list[tuple[int, int]]:
        """Ranges of coordinates below ``stop`` over which all vectors together are one slab."""
        width = max(1, _SLAB // self.shape[1])
        cuts = [*range(0, stop, width), stop]
        return list(itertools.pairwise(cuts))


class _Reflections(NamedTuple):
    """Scalars of consecutive reflections, in float64 or complex128."""

    scale: Tensor  # 1/(x₀ + s‖x‖), or 0 where H = I
    inverse_tau: Tensor  # 1/τ, real; 1 where H = I (v is 0 there)
    factor: Tensor  # what column k of the product is multiplied by

    @classmethod
    def of(cls, first: Tensor, norm: Tensor, last: bool) -> _Reflections:
        """From first elements and norms; ``last`` says that the last vector has length 1."""
        s = torch.sgn(first)
        s = torch.where(s == 0, 1, s)
        trivial = norm == 0
        if last:
            trivial[-1].fill_(True)  # an assignment would copy its value to a GPU, and wait
        scale = torch.where(trivial, 0, 1 / torch.where(trivial, 1, first + s * norm))
        inverse_tau = torch.where(trivial, 1, norm / torch.where(trivial, 1, norm + first.abs()))
        return cls(scale, inverse_tau, torch.where(trivial, s, -s))

    def adjoint(self, x: Tensor, offset: int) -> Tensor:
        """``Vᴴ`` from the vectors' block ``x``, in place; ``offset`` as of ``x.diagonal``."""
        vh = x.conj_physical_().mul_(self.scale.conj().to(x.dtype)[: len(x), None])
        diagonal = vh.diagonal(offset)
        start = max(0, -offset)
        diagonal.copy_(self.scale[start : start + len(diagonal)] != 0)
        return vh


def is_small(count: int, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether `write_small` is there for a matrix of so many elements, and the faster way."""
    return (
        count <= _SMALL
        and dtype in (torch.float32, torch.float64)
        and device.type == "cpu"
        and stream.native_is_active()
    )


def write_small(vectors: Vectors, gain: float, out: Tensor) -> None:
    """Write ``gain·Q`` into ``out`` (m, n), reflection by reflection."""
    _, n, m = vectors.shape
    native.orthonormal(vectors.block((0, n), (0, m)), gain, out)


def write_columns(vectors: Vectors, columns: Tensor, gain: float, out: Tensor) -> None:
    """Write ``gain·Q[:, columns]`` (``columns`` ascending) into ``out`` (m, columns).

    Column ``j`` costs reflections ``0…j``; all of them cost what LAPACK's orgqr does.
    """
    m = vectors.shape[2]
    out.zero_()
    stop = int(columns[-1]) + 1
    block = min(_BLOCK, max(_THIN_BLOCK, 2 * _SLAB // m))
    for start in reversed(range(0, stop, block)):
        rows = (start, min(start + block, stop))
        x = vectors.block(rows, (start, m))
        norm = _norms(x)
        reflections = _Reflections.of(x.diagonal().to(_wide(x.dtype)), norm, rows[1] == m)
        vh = reflections.adjoint(x, 0)

        begin, end = torch.searchsorted(columns, torch.tensor(rows, device="cpu")).tolist()
        held = beside(columns[begin:end], out.device)
        factors = (gain * reflections.factor[held - start]).to(out.dtype)
        out[held, torch.arange(begin, end, device=out.device)] = factors

        s = _with_diagonal(vh @ vh.mH, reflections)
        identity = torch.eye(len(vh), dtype=vh.dtype, device=vh.device)
        inverse = torch.linalg.solve_triangular(s, identity, upper=True)
        live = out[start:, begin:]
        live.addmm_(vh.mH, inverse @ (vh @ live), alpha=-1)
        del x, vh  # else two blocks are held while the next is drawn


def write_block(vectors: Vectors, rows: Tensor, columns: Tensor, gain: float, out: Tensor) -> None:
    """Write ``gain·Q[rows][:, columns]`` into ``out``, in ``n²`` floats of working memory.

    ``Q = (I − V S⁻¹ Vᴴ)·diag(factors)`` with one ``S`` of all reflections: about ``m·n²`` flops
    whatever the share of rows, where `write_columns` would hold all ``m`` of them.
    """
    _, n, m = vectors.shape
    reflections = _all_reflections(vectors)
    s = torch.zeros(n, n, dtype=vectors.dtype, device=vectors.device)
    for slab in vectors.slabs(m):
        vh = _adjoint_slab(vectors, reflections, slab)
        for start in range(0, len(vh), _BLOCK):
            stop = start + _BLOCK
            s[start:stop, start : len(vh)].addmm_(vh[start:stop], vh[start:].mH)
    _solve_in_place(vectors, reflections, _with_diagonal(s, reflections))
    columns = beside(columns, s.device)
    step = max(1, _SLAB // n)
    for start in range(0, n, step):
        piece = s[start : start + step]
        piece[:, : len(columns)] = piece[:, columns]
    right = s[:, : len(columns)]
    factors = (gain * reflections.factor[columns]).to(out.dtype)

    for slab, held in _held(vectors.slabs(m), rows):
        here = beside(rows[held], s.device)
        vh = _adjoint_slab(vectors, reflections, slab)[:, here - slab[0]]
        identity = (here[:, None] == columns).to(out.dtype)
        out[beside(held, out.device)] = identity.addmm_(vh.mH, right[: len(vh)], alpha=-1).mul_(
            factors
        )


def _solve_in_place(vectors: Vectors, reflections: _Reflections, s: Tensor) -> None:
    """``S⁻¹ V₀ᴴ`` in place of ``S``, where ``V₀`` is the first ``n`` rows of ``V``.

    Both are upper triangular, and so is the solution: its columns from ``start`` on need nothing
    of ``S`` beyond them, so that from the right to the left they can take its place.
    """
    blocks = [(at, min(at + _BLOCK, len(s))) for at in range(0, len(s), _BLOCK)]
    for last, (start, stop) in reversed([*enumerate(blocks)]):
        x = reflections.adjoint(vectors.block((0, stop), (start, stop)), -start)
        for top, bottom in reversed(blocks[: last + 1]):
            piece = x[top:bottom].addmm_(s[top:bottom, bottom:stop], x[bottom:stop], alpha=-1)
            diagonal = s[top:bottom, top:bottom]
            x[top:bottom] = torch.linalg.solve_triangular(diagonal, piece, upper=True)
        s[:stop, start:stop] = x


def _all_reflections(vectors: Vectors) -> _Reflections:
    _, n, m = vectors.shape
    wide = _wide(vectors.dtype)
    first = torch.zeros(n, dtype=wide, device=vectors.device)
    squares = torch.zeros(n, dtype=torch.float64, device=vectors.device)
    for start, stop in vectors.slabs(m):
        x = vectors.block((0, min(n, stop)), (start, stop))
        squares[: len(x)] += _norms(x).square()
        diagonal = x.diagonal(-start) if start < len(x) else x[:0, 0]
        first[start : start + len(diagonal)] = diagonal.to(wide)
    return _Reflections.of(first, squares.sqrt(), n == m)


def _adjoint_slab(vectors: Vectors, reflections: _Reflections, slab: tuple[int, int]) -> Tensor:
    """``Vᴴ`` at these coordinates, without the vectors that start beyond them."""
    x = vectors.block((0, min(vectors.shape[1], slab[1])), slab)
    return reflections.adjoint(x, -slab[0])


def _held(slabs: list[tuple[int, int]], indices: Tensor) -> list[tuple[tuple[int, int], Tensor]]:
    """The slabs that hold any of these indices, and which of the indices they hold."""
    pairs = []
    for slab in slabs:
        held = ((indices >= slab[0]) & (indices < slab[1])).nonzero()[:, 0]
        if len(held):
            pairs.append((slab, held))
    return pairs


def _with_diagonal(gram: Tensor, reflections: _Reflections) -> Tensor:
    """``S``, in place of ``VᴴV``; what lies below its diagonal is never read."""
    gram.diagonal().copy_(reflections.inverse_tau)
    return gram


def _norms(x: Tensor) -> Tensor:
    """Of each row, in double precision.

    A few rows at a time on the CPU, where torch converts what it sums; on a GPU it does not.
    """
    wide, step = _wide(x.dtype), 4 if x.is_cpu else max(1, len(x))
    return torch.cat(
        [torch.linalg.vector_norm(rows, dim=1, dtype=wide) for rows in torch.split(x, step)]
    )


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float64)
