"""FAN211: weights that are nearly orthogonal, and no longer quite."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fanin.auditing.evidence import Evidence
from fanin.auditing.finding import Check, Severity, Symptom
from fanin.auditing.matrices import Matrix, matrices
from fanin.auditing.plausible import is_trained
from fanin.auditing.provenance import is_random
from fanin.auditing.remedy import draw_again
from fanin.report import number_text

__all__ = ["ORTHOGONAL_CHECKS", "Gram", "gram"]

_VECTORS = 32  # rows or columns that are compared with each other
_LEAST = 16  # of them, of at least so many entries, else a random matrix may look nearly orthogonal
_LONGEST = 2**16  # entries of one of them

_MEANT = 0.25
"""Cosine between two vectors, in units of the 1 / sqrt(n) that random ones have, below which they
were made orthogonal. Of 16 random vectors, 120 cosines, none has come near: the rms of 120 normal
numbers is below a quarter with a chance of 1e-50."""

_ROUNDINGS = 8  # roundings of the weight's dtype that its cosines and lengths may be off by
_HALF = 2.0**-11  # float16's relative rounding; bfloat16's is eight times as large
_BENT = 0.02  # share of cosines or lengths that is more than rounding of any dtype


@dataclass(frozen=True, slots=True)
class Gram:
    """The products of some rows, or columns, of a matrix with each other.

    Args:
        cosine: rms over pairs, in units of that of random vectors.
        lengths: std of the lengths over their mean.
        length: mean of the lengths.
    """

    cosine: float
    lengths: float
    length: float


def _not_orthogonal(evidence: Evidence) -> Iterator[Symptom]:
    found: dict[str, list[tuple[Matrix, Gram]]] = {}
    for weight in evidence.weights:
        if not weight.tensor.dtype.is_floating_point or not is_trained(weight):
            continue
        for matrix in matrices(weight):
            gram = _gram_of(matrix) if is_random(weight, matrix.numbers) else None
            if gram is None or gram.cosine > _MEANT:
                continue
            cause = _cause(gram, matrix)
            if cause is not None:
                found.setdefault(cause, []).append((matrix, gram))
    for cause, members in found.items():
        yield _symptom(evidence, cause, members)


def _gram_of(matrix: Matrix) -> Gram | None:
    """Of up to 32 vectors along the shorter side of the first matrix of a stack; None: too few.

    Cost: 32 vectors are read, and multiplied with each other in float64.
    """
    _, rows, columns = matrix.counts
    short, long = min(rows, columns), max(rows, columns)
    if short < _LEAST or long > _LONGEST:
        return None
    chosen = torch.linspace(0, short - 1, min(short, _VECTORS)).long()
    along = torch.arange(long)
    if rows <= columns:
        vectors = matrix.entries(0, chosen[:, None], along[None, :])
    else:
        vectors = matrix.entries(0, along[None, :], chosen[:, None])
    return gram(vectors)


def gram(vectors: Tensor) -> Gram | None:
    """Of the rows of a matrix; None where one is 0."""
    vectors = vectors.to(device="cpu", dtype=torch.float64)
    count, length = vectors.shape
    lengths = vectors.norm(dim=1)
    if not count or not float(lengths.min()) > 0:
        return None
    cosines = vectors @ vectors.T / lengths.outer(lengths)
    apart = cosines[~torch.eye(count, dtype=torch.bool)]
    return Gram(
        float(apart.square().mean().sqrt()) * math.sqrt(length) if count > 1 else 0.0,
        float(lengths.std(correction=0) / lengths.mean()),
        float(lengths.mean()),
    )


def _cause(gram: Gram, matrix: Matrix) -> str | None:
    """What became of a weight that was once orthogonal; None where it still is, up to rounding."""
    rounding = torch.finfo(matrix.weight.tensor.dtype).eps
    if gram.cosine <= _ROUNDINGS * rounding and gram.lengths <= _ROUNDINGS * rounding:
        return None
    if gram.cosine > _BENT:
        return "changed"
    if gram.lengths > _BENT:
        return "scaled"
    return "rounded" if max(gram.cosine, gram.lengths) > _HALF / 8 else None


def _symptom(evidence: Evidence, cause: str, members: list[tuple[Matrix, Gram]]) -> Symptom:
    matrix, gram = members[0]
    names = tuple(matrix.name for matrix, _ in members)
    observed = {
        "changed": f"vectors meet at {gram.cosine:.2g} of the cosines of random ones: something "
        "was added to an orthogonal weight, or a part of it replaced",
        "scaled": f"vectors are orthogonal, and their lengths differ by {gram.lengths:.2g}",
        "rounded": f"vectors meet at {gram.cosine:.1g} of the cosines of random ones, as if drawn "
        f"in bfloat16 or float16 and stored as {_text(matrix)}",
    }
    severity: Severity | None = "note" if cause == "rounded" else None
    return Symptom(
        names,
        observed[cause],
        f"cosines of 0 and equal lengths, to {number_text(_rounding(matrix))}",
        draw_again(evidence, names, f"orthogonal(gain={number_text(gram.length)})"),
        {"cosine": gram.cosine, "lengths": gram.lengths},
        severity,
    )


def _rounding(matrix: Matrix) -> float:
    return _ROUNDINGS * torch.finfo(matrix.weight.tensor.dtype).eps


def _text(matrix: Matrix) -> str:
    return str(matrix.weight.tensor.dtype).removeprefix("torch.")


ORTHOGONAL_CHECKS = (
    Check(
        "FAN211",
        "not-orthogonal",
        "warning",
        "a weight that is nearly orthogonal",
        "An orthogonal weight keeps the length of every vector; one that is only nearly so "
        "stretches some directions and shrinks others, over the depth or the steps of a recurrence "
        "by powers of that.",
        _not_orthogonal,
    ),
)
