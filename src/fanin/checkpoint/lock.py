"""One run at a time writes a process's share of a folder."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType

from fanin.checkpoint.errors import CheckpointError

__all__ = ["locked"]

_WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


@contextmanager
def locked(folder: Path, rank: int) -> Iterator[None]:
    """Keep other runs of this rank out of the folder while the block runs.

    A lock ends with its process: a killed one leaves an empty file, which the next run removes.
    Where the system or the file system has no locks, nobody is kept out.

    Raises:
        CheckpointError: when another run has the lock.
    """
    try:
        fcntl = import_module("fcntl")
    except ModuleNotFoundError:  # Windows
        yield
        return
    path = folder / f".fanin.{rank}.lock"
    descriptor = _lock(path, fcntl)
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            path.unlink()  # before the lock ends, so that it is nobody else's
        os.close(descriptor)


def _lock(path: Path, fcntl: ModuleType) -> int:
    """A descriptor of the locked file, which is still the one of that name."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _flock(descriptor, path.parent, fcntl)
            if _is_at(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # who had the lock has removed the file meanwhile


def _flock(descriptor: int, folder: Path, fcntl: ModuleType) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise CheckpointError(
            f"write_checkpoint: one run at a time writes to a folder. Got {str(folder)!r}, and "
            "another process writes this folder. Wait until it has ended, or stop it."
        ) from error
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
