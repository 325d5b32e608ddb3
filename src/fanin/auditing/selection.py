"""Which checks run: codes, beginnings of codes, names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from fanin.auditing.finding import Check
from fanin.errors import ArgumentError, UnknownNameError

__all__ = ["chosen_checks", "nearest"]

_NEAREST = 3  # that a message names


def chosen_checks(
    checks: Sequence[Check],
    *,
    select: Sequence[str] | None = None,
    ignore: Sequence[str] = (),
    asked: str | None = None,
) -> tuple[Check, ...]:
    """The checks that are selected and not ignored, in their order.

    Args:
        checks: to choose from.
        select: codes, beginnings of codes, or names; None selects all.
        ignore: likewise; it wins.
        asked: how messages begin; ``"audit: select="`` or ``"audit: ignore="`` by default.

    Raises:
        UnknownNameError: when one fits no check.
        ArgumentError: when one of the two is no list of texts.
    """
    wanted = {check.code for check in checks}
    if select is not None:
        wanted = _matching(asked or "audit: select=", select, checks)
    unwanted = _matching(asked or "audit: ignore=", ignore, checks)
    return tuple(check for check in checks if check.code in wanted - unwanted)


def nearest(text: str, checks: Sequence[Check]) -> str:
    """The end of a message about an unknown code or name: what may be meant, where all are."""
    names = [check.name for check in checks]
    known = [check.code for check in checks] if text.upper().startswith("FAN") else names
    wanted = text.upper() if text.upper().startswith("FAN") else text.lower()
    close = get_close_matches(wanted, known, n=_NEAREST)
    close += [name for name in names if len(text) > 2 and wanted in name and name not in close]
    hint = f"Did you mean {' or '.join(close[:_NEAREST])}? " if close else ""
    return f"{hint}`fanin list checks` shows all."


def _matching(asked: str, patterns: Sequence[str], checks: Sequence[Check]) -> set[str]:
    if isinstance(patterns, str):
        raise ArgumentError(
            f"{asked} is a list of codes or names. Got {patterns!r}. Write [{patterns!r}]."
        )
    if not isinstance(patterns, Iterable) or not all(isinstance(each, str) for each in patterns):
        raise ArgumentError(
            f"{asked} is a list of codes or names. Got {patterns!r}. Write ['FAN104', 'FAN2']."
        )
    found: set[str] = set()
    for pattern in patterns:
        fits = {c.code for c in checks if _fits(pattern, c)}
        if not fits:
            raise UnknownNameError(
                f"{asked} takes codes, beginnings of codes, or names of checks. Got {pattern!r}. "
                f"{nearest(pattern, checks)}"
            )
        found |= fits
    return found


def _fits(pattern: str, check: Check) -> bool:
    is_code = len(pattern) >= 3 and check.code.startswith(pattern.upper())  # FAN is all of them
    return is_code or pattern == check.name
