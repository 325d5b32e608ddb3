"""FAN106: units of one layer that start equal."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from fanin.auditing.evidence import Evidence
from fanin.auditing.finding import Check, Symptom
from fanin.auditing.matrices import Matrix, matrices
from fanin.auditing.plausible import is_trained, is_written, varies
from fanin.auditing.remedy import redraw

__all__ = ["UNIT_CHECKS", "repeated_rows"]

_COLUMNS = 4  # of each row are hashed
_ROWS = 2**16  # are looked at
_VERIFIED = 2**22  # entries that are compared afterwards
_CHANCE = 1e-12  # that two rows of random entries are equal, anywhere in a weight


def _repeated(evidence: Evidence) -> Iterator[Symptom]:
    places: dict[tuple[int, int, int, int], list[str]] = {}
    for weight in evidence.weights:
        for matrix in matrices(weight) if is_trained(weight) and is_written(weight) else ():
            found = repeated_rows(matrix)
            if found is not None:
                repeated, distinct, _ = found
                block = _shared_in_blocks(matrix, repeated, distinct)
                places.setdefault((*found, block), []).append(matrix.name)
    for (repeated, distinct, seen, block), names in places.items():
        plural = "s" if distinct > 1 else ""
        aside = f", {block} in a row: as ICNR starts a sub-pixel convolution" if block else ""
        yield Symptom(
            tuple(names),
            f"{repeated} of {seen} units repeat {distinct} other{plural}{aside}",
            "units that differ",
            redraw(names),
            {"repeated": repeated, "units": seen, "distinct": distinct},
            "note" if block else "error" if repeated >= seen / 2 else None,
        )


def repeated_rows(matrix: Matrix) -> tuple[int, int, int] | None:
    """How many rows repeat another one, how many those are, and how many were looked at.

    None where no row repeats another, but for zeros; and where chance could make equal rows of so
    few entries.
    """
    batches, rows, columns = matrix.counts
    numbers = matrix.numbers
    if rows < 2 or not varies(numbers) or not columns:
        return None
    if rows**2 / 2 * batches * _chance_of_equal(numbers.sample) ** columns > _CHANCE:
        return None
    seen = min(rows * batches, _ROWS)
    places = torch.linspace(0, rows * batches - 1, seen, dtype=torch.float64).long()
    batch, row = places // rows, places % rows
    few = torch.linspace(0, columns - 1, min(columns, _COLUMNS), dtype=torch.float64).long()
    hashes = _hash(matrix.entries(batch[:, None], row[:, None], few).cpu(), batch)
    _, group, counts = torch.unique(hashes, return_inverse=True, return_counts=True)
    alike = (counts[group] > 1).nonzero().flatten()
    if not alike.numel():
        return None
    order = alike[torch.argsort(group[alike], stable=True)][: max(_VERIFIED // columns, 2)]
    whole = matrix.entries(batch[order, None], row[order, None], torch.arange(columns)).cpu()
    has_content = (whole != 0).any(1)
    same = (whole[1:] == whole[:-1]).all(1) & (batch[order][1:] == batch[order][:-1])
    same &= has_content[1:]
    repeated = int(same.sum())
    starts = same & ~torch.cat([torch.zeros(1, dtype=torch.bool), same[:-1]])
    return (repeated, int(starts.sum()), seen) if repeated else None


def _chance_of_equal(sample: Tensor) -> float:
    """That two entries are equal, from those that are; a float's 16 bits at least are random."""
    _, counts = torch.unique(sample[:8192], return_counts=True)
    seen = int(counts.sum())
    pairs = float((counts * (counts - 1)).sum())
    return max(pairs / max(seen * (seen - 1), 1), 2.0**-16)


def _hash(entries: Tensor, batch: Tensor) -> Tensor:
    """Equal for rows of equal entries: a weighted sum of their bits, which wraps around."""
    bits = entries.contiguous().to(torch.float64).view(torch.int64)
    odd = torch.tensor(
        [0x9E3779B97F4A7C1, 0x2545F4914F6CDD1D, 0x5851F42D4C957F2D, 0x14057B7EF767814F]
    )
    hashed: Tensor = (bits * odd[: bits.shape[1]]).sum(1) ^ (batch * 0x632BE59BD9B4E019)
    return hashed


def _shared_in_blocks(matrix: Matrix, repeated: int, distinct: int) -> int:
    """How many rows share an entry where all do, in blocks of a square or cube; 0 elsewhere."""
    _, rows, columns = matrix.counts
    module = matrix.weight.module
    kernel = len(matrix.weight.shape) - 2
    if not isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) or repeated + distinct != rows:
        return 0
    size = rows // distinct
    side = round(size ** (1 / kernel))
    if side < 2 or side**kernel != size or size * distinct != rows:
        return 0
    every = torch.arange(rows)
    first = every // size * size
    few = torch.arange(min(columns, _COLUMNS))
    same = matrix.entries(0, every[:, None], few) == matrix.entries(0, first[:, None], few)
    return size if math.prod(same.shape) == int(same.sum()) else 0


UNIT_CHECKS = (
    Check(
        "FAN106",
        "duplicated-units",
        "warning",
        "units of one layer have equal weights",
        "Equal units compute the same and, where the next layer treats them alike, learn the same.",
        _repeated,
    ),
)
