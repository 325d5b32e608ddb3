"""Writing to a file, and on to the disk, while the next piece is drawn."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import IO

from torch import Tensor

from fanin.checkpoint.safetensors import as_bytes

__all__ = ["NUM_BUFFERS", "BackgroundWriter", "background_writer"]

NUM_BUFFERS = 3  # one being drawn, one being written, one waiting

# Bytes brought to the disk at a time; two such stretches at most wait in the system's cache. Left
# to itself, a large file fills the memory until the system stops the writer, drives out what others
# have cached, and takes fresh pages all the way, which a virtual machine must get from its host.
_STRETCH = 64 << 20


class BackgroundWriter:
    """Writes pieces in their order on a thread of its own; errors come out of the next call."""

    def __init__(self, file: IO[bytes], writes: ThreadPoolExecutor, syncs: ThreadPoolExecutor):
        self._file, self._writes, self._syncs = file, writes, syncs
        self._pending: deque[Future[None]] = deque()
        self._stretch_start = file.tell()
        self._syncing: Future[None] | None = None

    def write(self, piece: Tensor) -> None:
        """Hand over a piece, which may change once ``NUM_BUFFERS - 1`` others were handed over."""
        self._pending.append(self._writes.submit(self._write, piece))
        while len(self._pending) >= NUM_BUFFERS:
            self._pending.popleft().result()

    def finish(self) -> None:
        """Wait until all is written."""
        while self._pending:
            self._pending.popleft().result()
        self._wait_for_disk()

    def _write(self, piece: Tensor) -> None:
        self._file.write(as_bytes(piece))
        start, stop = self._stretch_start, self._file.tell()
        if stop - start >= _STRETCH:
            self._wait_for_disk()
            self._syncing = self._syncs.submit(_bring_to_disk, self._file.fileno(), start, stop)
            self._stretch_start = stop

    def _wait_for_disk(self) -> None:
        """Wait for the last stretch: the system reports a failure once, and not again to fsync."""
        if self._syncing is not None:
            self._syncing.result()


def _bring_to_disk(descriptor: int, start: int, stop: int) -> None:
    """Write a stretch to the disk and out of the cache, where the system can be asked to."""
    if hasattr(os, "fdatasync") and hasattr(os, "posix_fadvise"):
        os.fdatasync(descriptor)
        os.posix_fadvise(descriptor, start, stop - start, os.POSIX_FADV_DONTNEED)


@contextmanager
def background_writer(file: IO[bytes]) -> Iterator[BackgroundWriter]:
    """A writer that has written everything when the block ends without an error."""
    with (
        ThreadPoolExecutor(1, thread_name_prefix="fanin-sync") as syncs,
        ThreadPoolExecutor(1, thread_name_prefix="fanin-write") as writes,
    ):
        writer = BackgroundWriter(file, writes, syncs)
        yield writer
        writer.finish()
