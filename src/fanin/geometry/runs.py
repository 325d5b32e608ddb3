"""Runs: which indices along one dim are held, as ``(start, stop)`` pairs in local order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

__all__ = ["Runs", "chunked", "cut", "joined", "length"]

Runs: TypeAlias = tuple[tuple[int, int], ...]


def length(runs: Runs) -> int:
    """How many indices are held."""
    return sum(stop - start for start, stop in runs)


def cut(runs: Runs, start: int, stop: int) -> Runs:
    """What local indices ``start`` to ``stop`` hold.

    Example:
        >>> cut(((0, 2), (5, 9)), 1, 4)
        ((1, 2), (5, 7))
    """
    kept, at = [], 0
    for first, last in runs:
        begin, end = max(start - at, 0), min(stop - at, last - first)
        if begin < end:
            kept.append((first + begin, first + end))
        at += last - first
        if at >= stop:
            break
    return tuple(kept)


def chunked(runs: Runs, count: int, index: int) -> Runs:
    """Chunk ``index`` of ``count``, as `torch.chunk` cuts: equal ones, then a smaller, then none.

    Example:
        >>> [chunked(((0, 5),), 4, index) for index in range(4)]
        [((0, 2),), ((2, 4),), ((4, 5),), ()]
    """
    size = -(-length(runs) // count)
    return cut(runs, index * size, (index + 1) * size)


def joined(runs: Iterable[tuple[int, int]]) -> Runs:
    """The same indices in as few runs as there can be.

    Example:
        >>> joined(((0, 2), (2, 4), (4, 4), (1, 3)))
        ((0, 4), (1, 3))
    """
    kept: list[tuple[int, int]] = []
    for start, stop in runs:
        if start == stop:
            continue
        if kept and kept[-1][1] == start:
            kept[-1] = (kept[-1][0], stop)
        else:
            kept.append((start, stop))
    return tuple(kept)
