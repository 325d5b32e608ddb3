"""The page of a check, which ships with the package."""

from __future__ import annotations

from importlib.resources import files

from fanin.auditing.checks import CHECKS
from fanin.auditing.selection import chosen_checks, nearest
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
        >>> print(explain("constant-weight")[:24])
        # FAN104 constant-weight
    """
    try:
        found = chosen_checks(CHECKS, select=[code])
    except UnknownNameError as error:
        raise UnknownNameError(
            f"explain: a code or a name of a check. Got {code!r}. {nearest(code, CHECKS)}"
        ) from error
    if len(found) > 1:
        codes = ", ".join(check.code for check in found)
        raise UnknownNameError(f"explain: one code or name. Got {code!r}, which begins {codes}.")
    (check,) = found
    page = files("fanin.auditing") / "pages" / f"{check.code}.md"
    heading, _, rest = page.read_text(encoding="utf-8").partition("\n")
    return f"{heading}\n\n**{check.severity}**: {check.summary}.\n{rest}"
