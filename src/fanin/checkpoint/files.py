"""A file that appears whole or not at all."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

__all__ = ["leftovers", "sync_directory", "whole_file"]


@contextmanager
def whole_file(path: Path, *, writer: int | None = None) -> Iterator[IO[bytes]]:
    """Open a temporary file beside ``path`` that takes its place when the block succeeds.

    The content reaches the disk before the name does, and the name before the block ends. After
    any exception, an interrupt included, there is no temporary file and ``path`` is as it was.
    Only a killed process leaves one: `leftovers` finds it, and by ``writer`` whose it is.

    Raises:
        OSError: when the file cannot be written.
    """
    start = f".{path.name}." if writer is None else f".{path.name}.{writer}."
    temporary = path.with_name(f"{start}{secrets.token_hex(8)}.partial")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_directory(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def leftovers(path: Path, *, rank: int = 0, count: int = 1) -> list[Path]:
    """Temporary files that killed processes left when they wrote ``path``.

    Of ``count`` processes each finds those of the writers that are its rank, modulo ``count``:
    another one may be about to rename its own.
    """
    pattern = re.compile(rf"\.{re.escape(path.name)}\.(?:(\d+)\.)?[^.]+\.partial")
    found = (pattern.fullmatch(entry.name) for entry in os.scandir(path.parent))
    return [path.parent / m[0] for m in found if m and int(m[1] or 0) % count == rank]


def sync_directory(path: Path) -> None:
    """Bring a new name to the disk, where directories can be opened."""
    with suppress(PermissionError, IsADirectoryError):  # Windows has no such thing
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
