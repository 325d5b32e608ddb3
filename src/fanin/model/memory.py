"""Where tensors lie in memory, and which of them share some of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

import torch
from torch import Tensor, nn

from fanin.drawing.targets import has_numbers

__all__ = ["address", "shared"]


def address(tensor: Tensor) -> int | None:
    """Where the first element lies; None where there is no memory of its own to compare."""
    if nn.parameter.is_lazy(tensor) or tensor.layout != torch.strided or not has_numbers(tensor):
        return None
    try:
        return (tensor.data_ptr() or None) if tensor.numel() else None
    except RuntimeError:  # a wrapper subclass has no pointer
        return None


def shared(tensors: Sequence[Tensor]) -> tuple[int, int] | None:
    """The places in the sequence of two tensors that have a byte in common; None without such.

    Columns side by side in one table have none, although they begin and end in between.
    """
    spans = [span for i, tensor in enumerate(tensors) if (span := _span(i, tensor)) is not None]
    spans.sort(key=attrgetter("device", "start"))
    reaching: list[_Span] = []  # those that end after the start of the next one
    for span in spans:
        reaching = [o for o in reaching if o.device == span.device and o.end > span.start]
        for other in reaching:
            if _meet(other, span):
                return other.place, span.place
        reaching.append(span)
    return None


@dataclass(frozen=True, slots=True)
class _Span:
    """The memory of a tensor, in bytes from its first element to the end of its last one."""

    place: int
    tensor: Tensor
    device: str
    start: int
    end: int

    @property
    def has_gaps(self) -> bool:
        return self.end - self.start != self.tensor.nbytes


def _span(place: int, tensor: Tensor) -> _Span | None:
    start = address(tensor)
    if start is None:
        return None
    nbytes = tensor.nbytes
    if not tensor.is_contiguous():
        dims = zip(tensor.shape, tensor.stride(), strict=True)
        nbytes = (1 + sum((size - 1) * stride for size, stride in dims)) * tensor.element_size()
    return _Span(place, tensor, str(tensor.device), start, start + nbytes)


def _meet(first: _Span, second: _Span) -> bool:
    """Whether tensors have a byte in common, where the second starts within the first."""
    if not (first.has_gaps or second.has_gaps):
        return True
    distance = second.start - first.start
    unit = math.gcd(distance, first.tensor.element_size(), second.tensor.element_size())
    length = (max(first.end, second.end) - first.start) // unit
    taken = torch.zeros(length, dtype=torch.bool, device="cpu")
    _units(taken, first.tensor, unit, 0).fill_(True)
    return bool(_units(taken, second.tensor, unit, distance // unit).any())


def _units(taken: Tensor, tensor: Tensor, unit: int, start: int) -> Tensor:
    """The places of a tensor among places of ``unit`` bytes each."""
    width = tensor.element_size() // unit
    dims = zip(tensor.shape, tensor.stride(), strict=True)
    steps = [(size, stride * width) for size, stride in dims if stride]  # 0: the same place again
    sizes, strides = zip(*steps, (width, 1), strict=True)
    return taken.as_strided(sizes, strides, start)
