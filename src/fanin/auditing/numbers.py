"""`Numbers`: what an audit knows of the entries of a tensor, read once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

__all__ = ["SAMPLE", "SOME", "Numbers", "numbers_of"]

SAMPLE = 2**16
"""Entries that are looked at of a tensor with more than twice as many: its std is then known to
0.3 %."""

SOME = 2**12  # entries that are told apart
_CHUNK = 2**22  # entries converted at a time
_GOLDEN = 0.6180339887498949  # multiples of it, modulo 1, fill the unit interval evenly


@dataclass(frozen=True, eq=False)
class Numbers:
    """Of the entries of a tensor, or of a part of it.

    Args:
        count: of all entries; those of a complex tensor are its real and imaginary parts.
        low: the smallest of all entries, NaN apart.
        high: the largest.
        not_finite: how many of all are NaN or infinite.
        sample: float64, one-dimensional: the finite entries; `SAMPLE` of more than twice as
            many, spread evenly.
        mean: of the sample.
        std: of the sample, about its mean.
        zeros: share of the sample.
    """

    count: int
    low: float
    high: float
    not_finite: int
    sample: Tensor
    mean: float
    std: float
    zeros: float

    @property
    def is_constant(self) -> bool:
        """Whether all entries are one number."""
        return self.count > 0 and not self.not_finite and self.low == self.high

    @property
    def is_zero(self) -> bool:
        """Whether all entries are 0."""
        return self.is_constant and self.low == 0

    @property
    def rms(self) -> float:
        """Root of the mean square of the sample."""
        return math.hypot(self.mean, self.std)

    @property
    def seen(self) -> int:
        """How many entries the sample has."""
        return self.sample.numel()

    @cached_property
    def variety(self) -> int:
        """How many values there are among the first 4,096 of the sample."""
        return len(torch.unique(self.sample[:SOME]))


def numbers_of(tensor: Tensor) -> Numbers:
    """Read a tensor: its extremes over all entries, the rest from a sample.

    Memory: some chunks, whatever the size; a copy of one that is not contiguous.
    """
    flat = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
    flat = flat.detach().reshape(-1)
    low, high, not_finite = _extremes(flat)
    sample = flat[_spread(flat.numel(), flat.device)].to(device="cpu", dtype=torch.float64)
    if not_finite:
        sample = sample[sample.isfinite()]
    mean = float(sample.mean()) if sample.numel() else math.nan
    std = float((sample - mean).square().mean().sqrt()) if sample.numel() else math.nan
    zeros = float((sample == 0).double().mean()) if sample.numel() else math.nan
    if low == high:  # whatever was rounded on the way
        mean, std = low, 0.0
    return Numbers(flat.numel(), low, high, not_finite, sample, mean, std, zeros)


def _extremes(flat: Tensor) -> tuple[float, float, int]:
    """The smallest and the largest entry but for NaN, and how many are not finite."""
    low, high, not_finite = math.inf, -math.inf, 0
    for chunk in torch.split(flat, _CHUNK):
        values = chunk if chunk.dtype in _ORDERED else chunk.float()
        least, most = (float(end) for end in torch.aminmax(values)) if chunk.numel() else (0.0, 0.0)
        if not (math.isfinite(least) and math.isfinite(most)):
            not_finite += int((~values.isfinite()).sum())
            values = values[~values.isnan()]
            least, most = (
                (float(values.min()), float(values.max()))
                if values.numel()
                else (math.inf, -math.inf)
            )
        low, high = min(low, least), max(high, most)
    return low, high, not_finite


def _spread(count: int, device: torch.device) -> Tensor | slice:
    """Which entries are looked at: one of each of `SAMPLE` equal stretches, at places in them that
    no pattern of rows or channels could share. Neighbours are 0.6 stretches apart or more, so that
    all are different ones.
    """
    if count <= 2 * SAMPLE:
        return slice(None)
    stretches = torch.arange(SAMPLE, dtype=torch.float64, device="cpu")
    places = (stretches + stretches.mul(_GOLDEN).frac()) * (count / SAMPLE)
    return places.long().clamp(max=count - 1).to(device)


# Dtypes whose extremes torch finds on every device; others go through float32.
_ORDERED = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
