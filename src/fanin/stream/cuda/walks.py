"""Regions as walks: sizes and steps, which a kernel can follow without a table.

Along a dim the runs of a region mostly have one length and one distance: a shard, every other row,
the blocks of a strided shard. Those are one walk; runs that differ are as many walks as there are
stretches of equal ones.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fanin.geometry.region import Region
from fanin.geometry.runs import Runs, joined

__all__ = ["Step", "Walk", "walks"]


class Step(NamedTuple):
    """One dim of a walk: how many places, and how far apart in the stream and in memory."""

    size: int
    in_stream: int
    in_memory: int


@dataclass(frozen=True, slots=True)
class Walk:
    """Places counted row by row, the last step being the innermost.

    Args:
        first: index in the stream of the first place.
        memory: where it is, in elements.
        steps: none for a single place.
    """

    first: int
    memory: int
    steps: tuple[Step, ...]

    @property
    def count(self) -> int:
        """How many places."""
        return math.prod(step.size for step in self.steps)

    def by_memory(self) -> Walk:
        """The same places, neighbours in memory one after another."""
        steps = sorted(self.steps, key=lambda step: step.in_memory, reverse=True)
        return Walk(self.first, self.memory, merged(steps))

    def shorter(self, dims: int) -> Iterator[Walk]:
        """The same places in walks of at most so many dims: the outermost are walked here."""
        if len(self.steps) <= dims:
            yield self
            return
        outer, *inner = self.steps
        for i in range(outer.size):
            first, memory = self.first + i * outer.in_stream, self.memory + i * outer.in_memory
            yield from Walk(first, memory, tuple(inner)).shorter(dims)


def walks(region: Region, strides: Sequence[int]) -> Iterator[Walk]:
    """The walks over a region held in a buffer with these strides.

    Example:
        >>> every_other_row = Region((6, 5), (((0, 1), (2, 3), (4, 5)), ((0, 5),)))
        >>> list(walks(every_other_row, (5, 1)))
        [Walk(first=0, memory=0, steps=(Step(size=3, in_stream=10, in_memory=5), \
Step(size=5, in_stream=1, in_memory=1)))]
    """
    distance = 1
    dims: list[list[Walk]] = []
    for size, runs, stride in reversed([*zip(region.shape, region.runs, strides, strict=True)]):
        dims.append(list(_along(runs, distance, stride)))
        distance *= size
    for parts in itertools.product(*reversed(dims)):
        yield Walk(
            sum(part.first for part in parts),
            sum(part.memory for part in parts),
            merged(step for part in parts for step in part.steps),
        )


def _along(runs: Runs, distance: int, stride: int) -> Iterator[Walk]:
    """The walks along one dim whose neighbours are so far apart in the stream and in memory."""
    left, held = list(joined(runs)), 0
    while left:
        start, stop = left[0]
        length, step, count = stop - start, 0, 1
        if len(left) > 1:
            step = left[1][0] - start
        while count < len(left) and left[count] == (start + count * step, stop + count * step):
            count += 1
        steps = Step(count, step * distance, length * stride), Step(length, distance, stride)
        yield Walk(start * distance, held * stride, steps)
        held += count * length
        del left[:count]


def merged(steps: Iterable[Step]) -> tuple[Step, ...]:
    """The same walk in fewer steps: without those of one place, and with those that continue."""
    kept: list[Step] = []
    for step in steps:
        if step.size == 1:
            continue
        whole = Step(0, step.size * step.in_stream, step.size * step.in_memory)
        if kept and kept[-1][1:] == whole[1:]:
            kept[-1] = Step(kept[-1].size * step.size, step.in_stream, step.in_memory)
        else:
            kept.append(step)
    return tuple(kept)
