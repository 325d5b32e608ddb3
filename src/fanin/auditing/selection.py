"""Which checks run: codes, beginnings of codes, names."""

from __future__ import annotations

from collections.abc import Sequence

from fanin.auditing.finding import Check
from fanin.errors import ArgumentError, UnknownNameError, one_of

__all__ = ["chosen_checks"]


def chosen_checks(
    checks: Sequence[Check], *, select: Sequence[str] | None = None, ignore: Sequence[str] = ()
) -> tuple[Check, ...]:
    """The checks that are selected and not ignored, in their order.

    Args:
        checks: to choose from.
        select: codes, beginnings of codes, or names; None selects all.
        ignore: likewise; it wins.

    Raises:
        UnknownNameError: when one fits no check.
    """
    wanted = _matching("select", select, checks) if select is not None else {c.code for c in checks}
    unwanted = _matching("ignore", ignore, checks)
    return tuple(check for check in checks if check.code in wanted - unwanted)


def _matching(option: str, patterns: Sequence[str], checks: Sequence[Check]) -> set[str]:
    if isinstance(patterns, str):
        raise ArgumentError(
            f"audit: {option}= is a list of codes or names. Got {patterns!r}. Write [{patterns!r}]."
        )
    found: set[str] = set()
    for pattern in patterns:
        fits = {c.code for c in checks if _fits(pattern, c)}
        if not fits:
            known = [name for check in checks for name in (check.code, check.name)]
            raise UnknownNameError(
                f"audit: {option}= takes codes, beginnings of codes, or names of checks. Got "
                f"{pattern!r}. {one_of(pattern, known)}"
            )
        found |= fits
    return found


def _fits(pattern: str, check: Check) -> bool:
    is_code = len(pattern) >= 3 and check.code.startswith(pattern.upper())  # FAN is all of them
    return is_code or pattern == check.name
