"""The page of a check, which ships with the package."""

from __future__ import annotations

from importlib.resources import files

from fanin.auditing.checks import CHECKS
from fanin.auditing.selection import chosen_checks
from fanin.errors import UnknownNameError

__all__ = ["explain"]


def explain(code: str) -> str:
    """What a check finds, why it matters, an example, and how to mend it.

    Args:
        code: ``"FAN104"``, in any case, or the check's name.

    Returns:
        A page of Markdown.

    Raises:
        UnknownNameError: when no check has that code or name.

    Example:
        >>> explain("constant-weight").splitlines()[0]
        '# FAN104 constant-weight'
    """
    found = chosen_checks(CHECKS, select=[code])
    if len(found) > 1:
        codes = ", ".join(check.code for check in found)
        raise UnknownNameError(f"explain: one code or name. Got {code!r}, which begins {codes}.")
    page = files("fanin.auditing") / "pages" / f"{found[0].code}.md"
    return page.read_text(encoding="utf-8")
