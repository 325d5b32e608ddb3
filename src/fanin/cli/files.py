"""Where output goes: a file that one may write, in words about the option that names it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from fanin.checkpoint.files import whole_file as replacing
from fanin.errors import PlanError

__all__ = ["check_target", "whole_file"]


def check_target(path: Path, *, force: bool, option: str = "--out") -> None:
    """Refuse early what `whole_file` would refuse after the work is done."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:  # too long a name, a loop of links
        raise PlanError(
            f"{option}: cannot write {str(path)!r}: {error.strerror or error}."
        ) from error
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
    try:
        with replacing(target) as file:
            yield file
            check_target(path, force=force, option=option)
    except OSError as error:
        raise PlanError(
            f"{option}: cannot write {str(path)!r}: {error.strerror or error}."
        ) from error
