"""Which layers or parameters `only` and `skip` choose."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias, TypeGuard

from fanin.errors import ArgumentError, one_of
from fanin.model import is_literal, matches

__all__ = ["Names", "left_out"]

Names: TypeAlias = str | Iterable[str] | None


def left_out(names: Sequence[str], *, only: Names, skip: Names, what: str) -> dict[str, str]:
    """Why each of those that are to be left alone is.

    Args:
        names: of all there are.
        only: names or globs of those that are wanted; None: all.
        skip: names or globs of those that are not.
        what: they are, for messages.

    Raises:
        ArgumentError: when a pattern fits none, or is no text.
    """
    wanted = set(names) if only is None else _fitting("only", only, names, what)
    unwanted = set() if skip is None else _fitting("skip", skip, names, what)
    notes = {name: "not in only=" for name in names if name not in wanted}
    return notes | {name: "in skip=" for name in names if name in unwanted}


def _fitting(
    argument: str, chosen: str | Iterable[str], names: Sequence[str], what: str
) -> set[str]:
    """The names that patterns fit; each fits one at least."""
    fitting: set[str] = set()
    patterns: list[object] = list(chosen) if _is_several(chosen) else [chosen]
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise ArgumentError(
                f"calibrate: {argument}= is a name or a glob, or several. Got {pattern!r}. Write "
                f"for instance {argument}='head'."
            )
        found = {
            name
            for name in names
            if name == pattern or (not is_literal(pattern) and matches(pattern, name))
        }
        if not found:
            raise ArgumentError(
                f"calibrate: {argument}= names {what}. Got {pattern!r}, which fits none. "
                f"{one_of(pattern, names)}"
            )
        fitting |= found
    return fitting


def _is_several(chosen: object) -> TypeGuard[Iterable[object]]:
    return isinstance(chosen, Iterable) and not isinstance(chosen, str)
