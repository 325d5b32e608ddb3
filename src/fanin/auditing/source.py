"""`Source`: where a finding is shown in code, since weights have no lines."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Source", "source_of"]


@dataclass(frozen=True, slots=True)
class Source:
    """A place in a project.

    Args:
        path: of a file, from the project's folder on, with slashes.
        line: in it, from 1; None is the file.
    """

    path: str
    line: int | None = None

    @classmethod
    def at(cls, file: str | Path, line: int | None = None) -> Source | None:
        """The place, if it is below the current folder."""
        place, here = Path(file).resolve(), Path.cwd().resolve()
        return cls(place.relative_to(here).as_posix(), line) if here in place.parents else None


def source_of(thing: Any) -> Source | None:
    """Where a class or a function is written, if that is below the current folder.

    Example:
        >>> source_of(len) is None
        True
    """
    try:
        thing = inspect.unwrap(thing)
        file, line = inspect.getsourcefile(thing), inspect.getsourcelines(thing)[1]
    except (OSError, TypeError, ValueError):  # builtins, partials, and what was typed at a prompt
        return None
    return Source.at(file, max(line, 1)) if file is not None else None
