"""Where two tensors that should be equal differ first."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fanin import fills
from fanin.geometry import Region

__all__ = ["Difference", "first_difference", "tolerance"]

_PRODUCTS = 4e-6  # what products of orthogonal matrices may differ by, times their gain: the stream


@dataclass(frozen=True, slots=True)
class Difference:
    """One element that is not as planned; a whole tensor where ``index`` is None."""

    name: str
    index: tuple[int, ...] | None
    expected: str
    found: str

    def __str__(self) -> str:
        place = f" at {list(self.index)}" if self.index is not None else ""
        return f"{self.name}{place}: expected {self.expected}, found {self.found}"


def first_difference(
    name: str, region: Region, expected: Tensor, found: Tensor, *, allowed: float
) -> Difference | None:
    """The first element, row-major, whose bits differ; by more than what is allowed, if any is."""
    expected_bits, found_bits = _bits(expected), _bits(found)
    if torch.equal(expected_bits, found_bits):  # which costs far less than finding a place
        return None
    apart = (expected_bits != found_bits).any(-1)
    if allowed and apart.any():
        apart &= ~_is_close(expected.reshape(-1), found.reshape(-1), allowed)
    places = apart.nonzero()
    if not len(places):
        return None
    at = int(places[0, 0])
    index = torch.unravel_index(torch.tensor(at), expected.shape)
    globally = tuple(int(region.indices(dim)[i]) for dim, i in enumerate(index))
    values = (repr(tensor.reshape(-1)[at].item()) for tensor in (expected, found))
    return Difference(name, globally, *values)


def tolerance(fill: fills.Fill) -> float:
    """By how much a fill's values may differ between machines; 0 for equal bits."""
    match fill:
        case fills.Orthogonal(gain=gain) | fills.DeltaOrthogonal(gain=gain):
            return _PRODUCTS * abs(gain)
        case fills.Rearranged():
            return tolerance(fill.base)
        case fills.Packed():
            return max(tolerance(part.fill) for part in fill.parts)
    return 0.0


def _is_close(expected: Tensor, found: Tensor, allowed: float) -> Tensor:
    """Within the tolerance and one rounding to the dtype; never for NaN."""
    eps = torch.finfo(expected.dtype).eps
    wide = torch.complex128 if expected.is_complex() else torch.float64
    expected, found = expected.to(wide), found.to(wide)
    near: Tensor = (expected - found).abs() <= allowed + eps * expected.abs()
    return near


def _bits(tensor: Tensor) -> Tensor:
    """A row of bytes for each element."""
    return tensor.reshape(-1).view(torch.uint8).view(tensor.numel(), tensor.element_size())
