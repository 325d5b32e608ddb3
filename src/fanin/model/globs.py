"""Name patterns: `*` is one component, `**` any number of them, `re:` a regular expression."""

from __future__ import annotations

import re
from functools import cache

from fanin.errors import ArgumentError

__all__ = ["is_literal", "matches"]


def matches(pattern: str, name: str) -> bool:
    """Whether a dotted name fits a pattern.

    ``*`` and ``?`` stay within one component and ``[0-3]`` is a class of characters. A component
    ``**`` stands for any number of components, also none; at the end of a pattern for at least
    one. After ``re:`` comes a regular expression that must fit the whole name.

    Args:
        pattern: the glob or expression.
        name: a canonical name.

    Raises:
        ArgumentError: when the expression does not compile, or the pattern is empty.

    Example:
        >>> matches("blocks.*.weight", "blocks.0.weight"), matches("*", "blocks.0.weight")
        (True, False)
        >>> matches("**.weight", "weight"), matches("re:.*\\\\.(0|1)\\\\.weight", "blocks.1.weight")
        (True, True)
    """
    return _compiled(pattern).fullmatch(name) is not None


def is_literal(pattern: str) -> bool:
    """Whether a pattern is a name, which fits itself alone."""
    return not (pattern.startswith("re:") or any(mark in pattern for mark in "*?["))


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    source = pattern[3:] if pattern.startswith("re:") else _glob_source(pattern)
    if not source:
        raise ArgumentError(f"name pattern: it must not be empty. Got {pattern!r}.")
    try:
        return re.compile(source)
    except re.error as error:
        raise ArgumentError(
            f"name pattern: a glob, or a regular expression after 're:'. Got {pattern!r}: {error}."
        ) from error


def _glob_source(pattern: str) -> str:
    """A regular expression for a glob. Each component brings the dot before it."""
    if not pattern:
        return ""
    source = ""
    components = pattern.split(".")
    for i, component in enumerate(components):
        last = i == len(components) - 1
        if component == "**":
            source += r"[^.]+(?:\.[^.]+)*" if last else r"(?:[^.]+\.)*"
        else:
            source += _component_source(component) + ("" if last else r"\.")
    return source


def _component_source(component: str) -> str:
    pieces = re.split(r"(\*+|\?|\[[^\]]+\])", component)
    return "".join(_piece_source(piece) for piece in pieces)


def _piece_source(piece: str) -> str:
    if piece.startswith("*"):
        return "[^.]*"
    if piece == "?":
        return "[^.]"
    if piece.startswith("[") and piece.endswith("]"):
        inside = piece[1:-1].replace("\\", r"\\").replace("^", r"\^")
        return f"[^.{inside[1:]}]" if inside.startswith("!") else f"[{inside}]"
    return re.escape(piece)
