"""Fills made of fills: on another view of the tensor, or part by part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from fanin.fills.elementwise import Constant
from fanin.fills.fill import Fill

__all__ = ["Packed", "Part", "Rearranged", "packed"]


@dataclass(frozen=True, slots=True)
class Rearranged(Fill):
    """``base`` on another view of the tensor: for axes that are not stored in its order.

    The view is ``tensor.unflatten(0, (groups, -1))`` if ``groups > 1``, then ``permute(dims)``.
    ``base`` sees that view and counts its elements row-major in it.
    """

    base: Fill
    dims: tuple[int, ...]
    groups: int = 1
    name: ClassVar[str] = "rearranged"

    def view_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape in which ``base`` sees a tensor of this shape."""
        if self.groups > 1:
            shape = (self.groups, shape[0] // self.groups, *shape[1:])
        return tuple(shape[dim] for dim in self.dims)

    def moments(self, shape: tuple[int, ...]) -> tuple[float, float]:
        return self.base.moments(self.view_shape(shape))


@dataclass(frozen=True, slots=True)
class Part:
    """Positions ``start`` to ``stop`` along the dim of a `Packed`, and what they hold."""

    name: str
    start: int
    stop: int
    fill: Fill

    def to_json(self) -> dict[str, Any]:
        """Its fields, the fill as its own plain data."""
        return {
            "name": self.name,
            "start": self.start,
            "stop": self.stop,
            "fill": self.fill.to_json(),
        }


@dataclass(frozen=True, slots=True)
class Packed(Fill):
    """Parts that lie side by side along ``dim``, each drawn as a tensor of its own.

    A part's stream is ``key.part(name)``, and its elements are counted row-major in the part, so
    that a part's values do not depend on what it is packed with. Positions that no part covers stay
    as they are, and are not counted in the moments.
    """

    dim: int
    parts: tuple[Part, ...]
    name: ClassVar[str] = "packed"

    def moments(self, shape: tuple[int, ...]) -> tuple[float, float]:
        mean = square = 0.0
        total = sum(part.stop - part.start for part in self.parts)
        for part in self.parts:
            size = part.stop - part.start
            m, s = part.fill.moments((*shape[: self.dim], size, *shape[self.dim + 1 :]))
            share = size / max(total, 1)
            mean += share * m
            square += share * (s * s + m * m)
        return mean, math.sqrt(max(square - mean * mean, 0.0))


def packed(dim: int, parts: Sequence[Part], *, size: int) -> Fill:
    """Parts along a dim of this size; one constant where they all hold it and leave no gap."""
    contents = {part.fill for part in parts}
    is_full = sum(part.stop - part.start for part in parts) == size
    if is_full and len(contents) == 1 and isinstance(parts[0].fill, Constant):
        return parts[0].fill
    return Packed(dim, tuple(parts))
