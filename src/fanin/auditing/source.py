"""`Source`: where a finding is shown in code, since weights have no lines."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Source", "source_of"]


@dataclass(frozen=True, slots=True)
class Source:
    """A file, relative to the folder that it was asked from and with slashes, and a line."""

    path: str
    line: int


def source_of(thing: Any) -> Source | None:
    """Where a class or function is written, if that is below the current folder."""
    try:
        file, line = inspect.getsourcefile(thing), inspect.getsourcelines(thing)[1]
    except (OSError, TypeError):
        return None
    if file is None or not Path(file).resolve().is_relative_to(Path.cwd()):
        return None
    return Source(Path(file).resolve().relative_to(Path.cwd()).as_posix(), max(line, 1))
