"""What one parameter will hold: data, with numbers in it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fanin.drawing.dispatch import draw
from fanin.errors import LayoutError
from fanin.fills import Constant, Fill, Packed
from fanin.geometry import Fans, Layout, Region, local_tensor
from fanin.planning.rules import Rule
from fanin.stream import Key

__all__ = ["Step"]


@dataclass(frozen=True, slots=True)
class Step:
    """What one parameter will hold, and why.

    Args:
        name: canonical name of the owner.
        aliases: other names of the same parameter.
        shape: of the logical tensor.
        dtype: of the parameter.
        layout: its axes; None where no adapter knows them.
        fill: what is drawn; None leaves the parameter as it is.
        key: the random stream; None likewise.
        rule: what the rule that won is called.
        reason: in words, with the rules that it overrides.
        note: what a parametrization makes of the value, where that is not the value itself.
        pending: the rules that match a parameter of a lazy module, whose shape is not known yet;
            the last wins once it is.
    """

    name: str
    aliases: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: torch.dtype
    layout: Layout | None
    fill: Fill | None
    key: Key | None
    rule: str
    reason: str = ""
    note: str = ""
    pending: tuple[Rule, ...] = ()

    @property
    def is_pending(self) -> bool:
        """Whether the step waits for the shape of a lazy parameter."""
        return bool(self.pending)

    @property
    def is_complete(self) -> bool:
        """Whether every element is written: not where parts of a packed parameter are kept."""
        if not isinstance(self.fill, Packed):
            return self.fill is not None
        written = sum(part.stop - part.start for part in self.fill.parts)
        return written == self.shape[self.fill.dim]

    def draw(self, out: Tensor) -> None:
        """Write what the step says into a tensor, or into what this process holds of a DTensor."""
        self.draw_region(Region.of(out), out)

    def draw_region(self, region: Region, out: Tensor) -> None:
        """Write a region of what the step says, an embedding's row of zeros included."""
        if self.fill is None or self.key is None:
            return
        draw(self.fill, self.key, region, out)
        row = self.padding_row
        if row is not None:
            for held, _ in region.overlaps(0, row, row + 1):
                local_tensor(out)[held].zero_()

    def drawn_like(self, tensor: Tensor) -> Tensor:
        """What the step says, in a new tensor of this one's shape, dtype and device."""
        drawn = torch.empty_like(tensor, memory_format=torch.contiguous_format)
        self.draw(drawn)
        return drawn

    @property
    def names(self) -> tuple[str, ...]:
        """Every name, the owner's first."""
        return (self.name, *self.aliases)

    @property
    def numel(self) -> int:
        """Elements of the logical tensor."""
        return math.prod(self.shape)

    @property
    def padding_row(self) -> int | None:
        """The row of an embedding that is set to zero after the draw, counted from 0."""
        if self.layout is None or self.layout.padding_idx is None:
            return None
        if self.fill is None or self.fill == Constant(0.0):
            return None
        return self.layout.padding_idx % self.shape[0]

    @property
    def fans(self) -> Fans | None:
        """Fans of the layout; None for a parameter that has none, or whose parts differ."""
        try:
            return self.layout.fans if self.layout is not None else None
        except LayoutError:
            return None

    @property
    def moments(self) -> tuple[float, float] | None:
        """Mean and std that the entries are expected to have; None where that is not known."""
        if self.fill is None:
            return None
        mean, std = self.fill.moments(self.shape)
        if math.isnan(std):
            return None
        if self.padding_row is None:
            return mean, std
        share = 1 - 1 / self.shape[0]
        square = share * (std * std + mean * mean)
        return share * mean, math.sqrt(max(square - (share * mean) ** 2, 0.0))
