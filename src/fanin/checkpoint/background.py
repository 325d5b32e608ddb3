"""Writing to a file while the next piece is drawn."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import IO

from torch import Tensor

from fanin.checkpoint.safetensors import as_bytes

__all__ = ["NUM_BUFFERS", "BackgroundWriter", "background_writer"]

NUM_BUFFERS = 3  # one being drawn, one being written, one waiting


class BackgroundWriter:
    """Writes pieces in their order on a thread of its own; errors come out of the next call."""

    def __init__(self, file: IO[bytes], thread: ThreadPoolExecutor) -> None:
        self._file, self._thread = file, thread
        self._pending: deque[Future[int]] = deque()

    def write(self, piece: Tensor) -> None:
        """Hand over a piece, which may change once ``NUM_BUFFERS - 1`` others were handed over."""
        self._pending.append(self._thread.submit(self._file.write, as_bytes(piece)))
        while len(self._pending) >= NUM_BUFFERS:
            self._pending.popleft().result()

    def finish(self) -> None:
        """Wait until all is written."""
        while self._pending:
            self._pending.popleft().result()


@contextmanager
def background_writer(file: IO[bytes]) -> Iterator[BackgroundWriter]:
    """A writer that has written everything when the block ends without an error."""
    with ThreadPoolExecutor(1, thread_name_prefix="fanin-checkpoint") as thread:
        writer = BackgroundWriter(file, thread)
        yield writer
        writer.finish()
