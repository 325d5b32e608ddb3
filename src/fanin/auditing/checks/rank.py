"""FAN107: matrices of less than full rank."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from fanin.auditing.checks.units import repeated_rows
from fanin.auditing.evidence import Evidence
from fanin.auditing.finding import Check, Symptom
from fanin.auditing.matrices import Matrix, matrices
from fanin.auditing.plausible import is_trained, is_written, varies
from fanin.auditing.remedy import redraw

__all__ = ["RANK_CHECKS"]

_SIDE = 128
"""Rows and columns of the block that is decomposed: its rank bounds from below that of all."""

_LEAST = 16
"""Smaller matrices are left alone."""

_MISSING, _FEWEST = 8, 4
"""One of 8 singular values must be missing, and 4. Of the 128 of a random square block of bfloat16
0.6 are below what rounding leaves, of 16 less than 0.1, and they repel each other."""

_COARSE = 0.01
"""Epsilon of dtypes whose rounding hides the rank."""

_DENSE = 0.5
"""Sparse patterns lose rank by themselves; they are drawn on purpose."""


def _deficient(evidence: Evidence) -> Iterator[Symptom]:
    found: dict[tuple[int, int, int, int], list[str]] = {}
    for weight in evidence.weights:
        if not is_trained(weight) or not is_written(weight) or weight.tensor.is_complex():
            continue
        eps = torch.finfo(weight.tensor.dtype).eps
        for matrix in matrices(weight) if eps < _COARSE else ():
            block = _block(matrix)
            if block is None:
                continue
            side = min(block.shape)
            rank = _rank(block, eps)
            if rank > side - max(side // _MISSING, _FEWEST) or repeated_rows(matrix) is not None:
                continue
            _, rows, columns = matrix.counts
            found.setdefault((rank, side, rows, columns), []).append(matrix.name)
    for (rank, side, rows, columns), names in found.items():
        is_part = side < min(rows, columns)
        yield Symptom(
            tuple(names),
            f"rank {rank}"
            + (
                f" in {side} of its rows and columns"
                if is_part
                else f" of a {rows}×{columns} matrix"
            ),
            f"rank {side}",
            redraw(names),
            {"rank": rank, "side": side, "rows": rows, "columns": columns},
        )


def _block(matrix: Matrix) -> Tensor | None:
    """Some rows and columns, evenly spread, of a dense weight that varies."""
    batches, rows, columns = matrix.counts
    numbers = matrix.numbers
    if min(rows, columns) < _LEAST or not varies(numbers) or numbers.zeros > 1 - _DENSE:
        return None
    chosen = [
        torch.linspace(0, count - 1, min(count, _SIDE), dtype=torch.float64).long()
        for count in (rows, columns)
    ]
    block = matrix.entries(batches // 2, chosen[0][:, None], chosen[1]).to("cpu", torch.float64)
    # Inflated kernels repeat columns, a padded layer has zeros: neither is a product of factors.
    block = torch.unique(block[block.any(1)][:, block.any(0)], dim=1)
    return block if min(block.shape) >= _LEAST else None


def _rank(block: Tensor, eps: float) -> int:
    """Singular values above what rounding the entries leaves: ``2·√side`` times its rms.

    Rows and columns count whatever their size: those that decay took down are still there.
    """
    for dim in (1, 0):
        block = block / torch.linalg.vector_norm(block, dim=dim, keepdim=True)
    floor = 2 * eps * math.sqrt(max(block.shape) / min(block.shape))
    return int((torch.linalg.svdvals(block) > floor).sum())


RANK_CHECKS = (
    Check(
        "FAN107",
        "rank-deficient",
        "warning",
        "a weight is a product of thinner ones, or repeats itself",
        "The layer passes fewer directions than it has units, and training adds few in its time.",
        _deficient,
    ),
)
