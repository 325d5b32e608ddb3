"""The bytes of a stored tensor, in order, a piece at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from fanin import fills
from fanin.checkpoint.contents import Stored
from fanin.checkpoint.safetensors import tensor_chunks
from fanin.geometry import Region
from fanin.planning import Step

__all__ = ["PIECE", "Buffers", "chunks", "is_piecewise", "try_drawing"]

# Bytes drawn at a time. Large enough that a call costs nothing beside its work; three such buffers
# and the interpreter are all the memory that a checkpoint of elementwise fills takes.
PIECE = 16 << 20

_PIECEWISE = (
    fills.Constant,
    fills.Dirac,
    fills.Eye,
    fills.Normal,
    fills.TruncNormal,
    fills.Uniform,
)


class Buffers:
    """Memory for pieces, used in turn: a piece lives until ``count - 1`` others were asked for."""

    def __init__(self, count: int) -> None:
        self._memory = [torch.empty(PIECE, dtype=torch.uint8, device="cpu") for _ in range(count)]
        self._at = 0

    def take(self, shape: tuple[int, ...], dtype: torch.dtype, nbytes: int) -> Tensor:
        """The next one, as a tensor."""
        self._at = (self._at + 1) % len(self._memory)
        return self._memory[self._at][:nbytes].view(dtype).view(shape)


def chunks(stored: Stored, buffers: Buffers) -> Iterator[Tensor]:
    """The elements of a tensor, row-major, as contiguous pieces on the CPU.

    A structure (orthogonal, sparse) is drawn whole; a fill whose elements can be had alone takes a
    buffer for each piece.
    """
    step = stored.step
    if step is None:
        assert stored.value is not None
        yield from tensor_chunks(stored.value)
    elif step.fill is not None and is_piecewise(step.fill):
        for _, region in Region.whole(stored.shape).split(PIECE // stored.dtype.itemsize):
            if region.numel:
                nbytes = region.numel * stored.dtype.itemsize
                out = buffers.take(region.local_shape, stored.dtype, nbytes)
                step.draw_region(region, out)
                yield out
    else:
        whole = torch.empty(stored.shape, dtype=stored.dtype, device="cpu")
        step.draw_region(Region.whole(stored.shape), whole)
        yield from tensor_chunks(whole)


def is_piecewise(fill: fills.Fill) -> bool:
    """Whether a piece of the fill costs no more than its share of the whole."""
    match fill:
        case fills.Mapped() | fills.Rearranged():
            return is_piecewise(fill.base)
        case fills.Packed():
            return all(is_piecewise(part.fill) for part in fill.parts)
    return isinstance(fill, _PIECEWISE)


def try_drawing(step: Step) -> None:
    """Draw no element: what a dtype or a shape refuses is refused before anything is written."""
    if step.fill is None or not is_piecewise(step.fill):
        return
    nothing = Region.block(step.shape, [slice(0, 0)] * len(step.shape))
    if nothing.shape:
        step.draw_region(nothing, torch.empty(nothing.local_shape, dtype=step.dtype, device="cpu"))
