"""Which of several processes writes what."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from fanin.errors import ArgumentError

__all__ = ["Processes"]

Part = TypeVar("Part")


@dataclass(frozen=True, slots=True)
class Processes:
    """One of ``count`` processes.

    Example:
        >>> Processes(1, 3).share("abcde")
        ('b', 'e')
    """

    rank: int
    count: int

    @classmethod
    def of(cls, rank: int | None, world_size: int | None) -> Processes:
        """As given, both of them; else as torchrun says; else one process.

        Raises:
            ArgumentError: for one without the other, or a rank that is not below the size.
        """
        if rank is None and world_size is None:
            texts = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
            if texts == (None, None):
                return cls(0, 1)
            where = "the variables RANK and WORLD_SIZE"
            rank, world_size = (
                int(text) if text is not None and text.isdecimal() else None for text in texts
            )
        else:
            where = "rank and world_size (--rank, --world-size)"
        if rank is None or world_size is None or not 0 <= rank < world_size:
            raise ArgumentError(
                f"write_checkpoint: a rank from 0 to world_size - 1. Got {rank} of {world_size} "
                f"from {where}. Give both."
            )
        return cls(rank, world_size)

    def share(self, parts: Sequence[Part]) -> tuple[Part, ...]:
        """Every ``count``-th part, which are alike in size where parts are."""
        return tuple(parts[self.rank :: self.count])
