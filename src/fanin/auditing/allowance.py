"""`Allowance`: findings that are meant, each with its reason."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fanin.auditing.checks import CHECKS
from fanin.auditing.finding import Finding
from fanin.auditing.findings import Audit
from fanin.auditing.selection import chosen_checks
from fanin.errors import ArgumentError
from fanin.model import matches

__all__ = ["Allowance", "allowed"]


@dataclass(frozen=True, slots=True)
class Allowance:
    """Findings of some codes about some names.

    Args:
        codes: codes, beginnings of codes, or names of checks.
        names: globs for the parameters or modules; ``"**"`` fits the model itself, too.
        reason: why that is meant.

    Raises:
        ArgumentError: for a name that is no glob.
    """

    codes: tuple[str, ...]
    names: tuple[str, ...]
    reason: str

    def __post_init__(self) -> None:
        for name in self.names:
            matches(name, "")  # refuses what is no pattern
            if not name.startswith("re:") and any(map(_is_open, name.split("."))):
                raise ArgumentError(
                    f"allowance: a glob closes its brackets. Got {name!r} for names. Write them as "
                    "in blocks.[0-3].weight."
                )


def allowed(audit: Audit, allowances: Sequence[Allowance]) -> Audit:
    """The audit without the findings that are allowed; of one about many names, the others stay.

    An allowance that fits no finding, although its checks ran, is a note.

    Raises:
        UnknownNameError: for a code that no check has.
    """
    kept, notes = list(audit.findings), list(audit.notes)
    ignored = audit.ignored
    for allowance in allowances:
        codes = {check.code for check in chosen_checks(CHECKS, select=allowance.codes)}
        before, kept = kept, []
        for finding in before:
            rest = _not_allowed(finding, allowance.names) if finding.code in codes else None
            if rest is None or rest == finding.where:
                kept.append(finding)
                continue
            ignored += not rest
            kept += [replace(finding, where=rest)] if rest else []
        if kept == before and codes & set(audit.checks):
            names = ", ".join(allowance.names)
            notes.append(f"allowed and not found: {', '.join(allowance.codes)} for {names}")
    return replace(audit, findings=tuple(kept), notes=tuple(notes), ignored=ignored)


def _is_open(component: str) -> bool:
    """Whether a bracket begins a class of characters that does not end."""
    return "[" in re.sub(r"\[[^\]]+\]", "", component)


def _not_allowed(finding: Finding, names: Sequence[str]) -> tuple[str, ...]:
    def is_allowed(name: str) -> bool:
        whole = name.partition("[")[0]  # of a packed part
        return any(pattern == "**" or matches(pattern, whole) for pattern in names)

    return tuple(name for name in finding.where if not is_allowed(name))
