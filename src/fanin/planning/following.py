"""What follows a parameter, for rules that ask and tables that show it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fanin.flow import Trace

__all__ = ["Following"]


class Following:
    """Looks up in a trace what the results of a parameter go into.

    Args:
        trace: of the model.
        prefix: of the names that are asked for, where the model is a part of a larger one.
    """

    def __init__(self, trace: Trace, prefix: str = "") -> None:
        self._trace = trace
        self._start = f"{prefix}." if prefix else ""
        self._known: dict[str, tuple[str, ...]] = {}

    def __call__(self, names: Iterable[str]) -> tuple[str, ...]:
        """For a parameter with these names: tied ones are in the trace under one of them."""
        found: dict[str, None] = {}  # a set in order
        for name in names:
            if name not in self._known:
                self._known[name] = self._trace.followed_by(name.removeprefix(self._start))
            found.update(dict.fromkeys(self._known[name]))
        return tuple(found)
