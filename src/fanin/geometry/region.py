"""Which elements of a logical tensor a local buffer holds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from fanin.errors import ArgumentError
from fanin.geometry.placements import dtensor_runs, is_dtensor
from fanin.geometry.runs import Runs, cut

__all__ = ["Region"]


@dataclass(frozen=True)
class Region:
    """A global shape and, for each dim, the runs of global indices that are held locally.

    Args:
        shape: of the whole logical tensor.
        runs: for each dim a tuple of ``(start, stop)`` pairs, in the order of the local buffer.

    Example:
        >>> Region.of(torch.empty(4, 6)).is_whole
        True
        >>> every_other_row = Region((4, 6), (((0, 1), (2, 3)), ((0, 6),)))
        >>> every_other_row.local_shape
        (2, 6)
    """

    shape: tuple[int, ...]
    runs: tuple[Runs, ...]

    def __post_init__(self) -> None:
        if len(self.runs) != len(self.shape):
            raise ArgumentError(
                f"Region: one tuple of runs for each dim. Got {len(self.runs)} for shape "
                f"{self.shape}."
            )
        if math.prod(self.shape) >= 2**63:
            raise ArgumentError(
                f"Region: indices are below 2**63 - 1. Got shape {self.shape}, of "
                f"{math.prod(self.shape)} elements."
            )
        for dim, (size, runs) in enumerate(zip(self.shape, self.runs, strict=True)):
            for start, stop in runs:
                if not 0 <= start <= stop <= size:
                    raise ArgumentError(
                        f"Region: a run is (start, stop) with 0 <= start <= stop <= size. "
                        f"Got {(start, stop)} for dim {dim} of size {size}."
                    )

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Region:
        """All of a tensor of this shape."""
        return cls(tuple(shape), tuple(((0, size),) for size in shape))

    @classmethod
    def of(cls, tensor: torch.Tensor) -> Region:
        """What this tensor holds of its logical tensor: all of it, for an ordinary one.

        Of a DTensor it is what the local tensor of this process holds. No process is asked.

        Raises:
            ArgumentError: for a DTensor with a partial placement.
        """
        if is_dtensor(tensor):
            return cls(tuple(tensor.shape), dtensor_runs(tensor))
        return cls.whole(tensor.shape)

    @classmethod
    def block(cls, shape: Sequence[int], slices: Sequence[slice]) -> Region:
        """The part ``tensor[slices]`` of a tensor of this shape; steps make interleaved runs."""
        runs: list[Runs] = []
        for size, part in zip(shape, slices, strict=True):
            indices = range(*part.indices(size))
            if indices.step == 1:
                runs.append(((indices.start, max(indices.start, indices.stop)),))
            else:
                runs.append(tuple((i, i + 1) for i in indices))
        return cls(tuple(shape), tuple(runs))

    @cached_property
    def local_shape(self) -> tuple[int, ...]:
        """Shape of the local buffer."""
        return tuple(sum(stop - start for start, stop in runs) for runs in self.runs)

    @cached_property
    def numel(self) -> int:
        """Elements held locally."""
        return math.prod(self.local_shape)

    @cached_property
    def is_whole(self) -> bool:
        """Whether every element is held, in order."""
        return all(runs == ((0, size),) for runs, size in zip(self.runs, self.shape, strict=True))

    def indices(self, dim: int) -> torch.Tensor:
        """Global indices along one dim, in local order (int64)."""
        pieces = [torch.arange(start, stop, device="cpu") for start, stop in self.runs[dim]]
        return torch.cat(pieces) if pieces else torch.empty(0, dtype=torch.int64, device="cpu")

    def linear_indices(self) -> torch.Tensor:
        """Row-major global index of every local element (int64, local shape)."""
        index = torch.zeros((), dtype=torch.int64, device="cpu")
        for dim, size in enumerate(self.shape):
            index = index.unsqueeze(-1) * size + self.indices(dim)
        return index.expand(self.local_shape) if not self.shape else index

    def with_parts(self, count: int) -> Region:
        """The region with a trailing dim of ``count`` that is held in full (complex: 2)."""
        return Region((*self.shape, count), (*self.runs, ((0, count),)))

    def narrow(self, dim: int, start: int, stop: int) -> Region:
        """Only local indices ``start`` to ``stop`` of one dim."""
        kept = cut(self.runs[dim], start, stop)
        return Region(self.shape, (*self.runs[:dim], kept, *self.runs[dim + 1 :]))

    def overlaps(self, dim: int, start: int, stop: int) -> Iterator[tuple[slice, tuple[int, int]]]:
        """What is held of global indices ``start`` to ``stop`` of a dim.

        Each piece is a slice of local indices and its run of indices counted from ``start``.
        """
        at = 0
        for first, last in self.runs[dim]:
            begin, end = max(first, start), min(last, stop)
            if begin < end:
                yield slice(at + begin - first, at + end - first), (begin - start, end - start)
            at += last - first

    def split(self, limit: int) -> Iterator[tuple[tuple[slice, ...], Region]]:
        """Cut into pieces of at most ``limit`` elements: (slices of the local buffer, region)."""
        yield from self._split(limit, 0, ())

    def _split(
        self, limit: int, dim: int, outer: tuple[slice, ...]
    ) -> Iterator[tuple[tuple[slice, ...], Region]]:
        if self.numel <= limit:
            yield outer, self
            return
        size = self.local_shape[dim]
        rows = max(limit * size // self.numel, 1)
        for start in range(0, size, rows):
            stop = min(start + rows, size)
            piece = self.narrow(dim, start, stop)
            yield from piece._split(limit, dim + 1, (*outer, slice(start, stop)))
