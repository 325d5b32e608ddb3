"""A file that appears whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from fanin.errors import PlanError

__all__ = ["check_target", "whole_file"]


def check_target(path: Path, *, force: bool, option: str = "--out") -> None:
    """Refuse early what `whole_file` would refuse after the work is done."""
    try:
        path.resolve()
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, RuntimeError) as error:  # too long a name, a loop of links
        reason = getattr(error, "strerror", None) or error
        raise PlanError(f"{option}: cannot write {str(path)!r}: {reason}.") from error
    if path.is_dir():
        raise PlanError(
            f"{option}: a file. Got the directory {str(path)!r}. Add a file name to it."
        )
    if path.exists() and not path.is_file():
        raise PlanError(f"{option}: a regular file. Got {str(path)!r}. Choose another name.")
    if path.exists() and not force:
        raise PlanError(
            f"{option}: an existing file is not overwritten. Got {str(path)!r}. "
            "Say --force to do so."
        )
    if not path.parent.is_dir():
        raise PlanError(
            f"{option}: a file in a directory that exists. Got {str(path)!r}. "
            f"Create {str(path.parent)!r} first."
        )
    if not os.access(path.parent, os.W_OK):
        raise PlanError(f"{option}: a file in a directory one may write to. Got {str(path)!r}.")


@contextmanager
def whole_file(path: Path, *, force: bool, option: str = "--out") -> Iterator[IO[bytes]]:
    """Open a temporary file beside ``path`` that takes its place when the block succeeds.

    After any exception, an interrupt included, there is no temporary file and ``path`` is as it
    was.

    Raises:
        PlanError: when the file cannot be written, or exists and ``force`` is not given.
    """
    check_target(path, force=force, option=option)
    target = path.resolve()  # through a link, to what it points at
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(
            dir=target.parent, prefix=f".{target.name}.", delete=False
        ) as file:
            temporary = file.name
            yield file.file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        check_target(path, force=force, option=option)
        os.replace(temporary, target)
        temporary = None
    except OSError as error:
        raise PlanError(
            f"{option}: cannot write {str(path)!r}: {error.strerror or error}."
        ) from error
    finally:
        if temporary is not None:
            with suppress(FileNotFoundError):
                os.unlink(temporary)


def _umask() -> int:
    """The process's file mode mask, which can be read only by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
