"""`Weight`: what an audit knows of one parameter or buffer, read once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fanin.errors import LayoutError
from fanin.geometry import Layout
from fanin.model import Entry, Site, layout_of, module_type

__all__ = ["SAMPLE", "Numbers", "Weight", "numbers_of", "weight_of"]

SAMPLE = 2**16
"""Entries that are looked at of a larger tensor: its std is then known to 0.3 %."""

_CHUNK = 2**22  # entries converted at a time
_GOLDEN = 0.6180339887498949  # multiples of it, modulo 1, fill the unit interval evenly


@dataclass(frozen=True, slots=True, eq=False)
class Numbers:
    """Of the entries of a tensor, or of a part of it.

    Args:
        count: of all entries; those of a complex tensor are its real and imaginary parts.
        low: the smallest of all entries, NaN apart.
        high: the largest.
        not_finite: how many of all are NaN or infinite.
        sample: float64, one-dimensional: the finite entries; of more than `SAMPLE` so many, spread
            evenly.
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


@dataclass(frozen=True, slots=True, eq=False)
class Weight:
    """A parameter, or a buffer, and the numbers in it.

    Args:
        name: canonical; the owner's, for tied ones.
        aliases: its other names.
        tensor: detached; of a parametrized weight, the value.
        numbers: of all of it.
        site: where it hangs; None for a tensor of a checkpoint that was read without its model.
        layout: None where no adapter knows the axes.
        parts: name, layout and numbers of the parts that are packed in it (q, k, v; gates).
    """

    name: str
    aliases: tuple[str, ...]
    tensor: Tensor
    numbers: Numbers
    site: Site | None = None
    layout: Layout | None = None
    parts: tuple[tuple[str, Layout, Numbers], ...] = ()

    @property
    def module(self) -> nn.Module | None:
        """The module whose parameter it is."""
        return self.site.module if self.site is not None else None

    @property
    def kind(self) -> type[nn.Module] | None:
        """That module's class, as it was before wrappers and parametrizations."""
        return module_type(self.site.module) if self.site is not None else None

    @property
    def attribute(self) -> str:
        """Its own name in its module: ``"weight"``."""
        return self.name.rpartition(".")[2]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor."""
        return tuple(self.tensor.shape)

    @property
    def is_matrix(self) -> bool:
        """Whether it has in and out axes: outputs are sums over inputs, or rows of a table."""
        layout = self.layout
        return layout is not None and bool(layout.in_axes and layout.out_axes)

    @property
    def is_lookup(self) -> bool:
        """Whether it is the table of an embedding."""
        return self.layout is not None and self.layout.is_lookup

    def pieces(self) -> Iterator[tuple[str, Layout | None, Numbers]]:
        """Its parts, each under a name of its own; itself, where nothing is packed."""
        if not self.parts:
            yield self.name, self.layout, self.numbers
        for part, layout, numbers in self.parts:
            yield f"{self.name}[{part}]", layout, numbers


def weight_of(entry: Entry) -> Weight:
    """Read a parameter that has memory."""
    site = entry.owner
    tensor = entry.tensor.detach()
    try:
        layout = layout_of(site)
    except LayoutError:  # of an adapter of the user's; a plan would say so
        layout = None
    if layout is not None and layout.shape != tuple(tensor.shape):
        layout = None
    parts = layout.split() if layout is not None else ()
    return Weight(
        site.name,
        entry.aliases,
        tensor,
        numbers_of(tensor),
        site,
        layout,
        tuple(
            (part, own, numbers_of(tensor.narrow(layout.part_dim, start, stop - start)))
            for part, start, stop, own in parts
            if layout is not None
        ),
    )


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
    """Which entries are looked at: no pattern that rows or channels could share."""
    if count <= SAMPLE:
        return slice(None)
    places = torch.arange(1, SAMPLE + 1, dtype=torch.float64, device="cpu").mul(_GOLDEN).frac()
    return places.mul(count).long().clamp(max=count - 1).to(device)


# Dtypes whose extremes torch finds on every device; others go through float32.
_ORDERED = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
