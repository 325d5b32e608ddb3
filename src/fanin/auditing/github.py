"""An audit as commands of GitHub's workflows, which show them beside the code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fanin.auditing.finding import Finding, Severity
from fanin.auditing.source import Source

if TYPE_CHECKING:
    from fanin.auditing.findings import Audit

__all__ = ["github_text"]

_COMMANDS: dict[Severity, str] = {"error": "error", "warning": "warning", "note": "notice"}


def github_text(audit: Audit, *, source: Source | None = None) -> str:
    """A line for each finding.

    Args:
        audit: whose findings they are.
        source: the file and line to show them at.

    Source: GitHub Docs, Workflow commands for GitHub Actions.
    """
    return "".join(f"{_line(finding, source)}\n" for finding in audit.findings)


def _line(finding: Finding, source: Source | None) -> str:
    place = {"file": source.path, "line": str(source.line)} if source is not None else {}
    properties = {**place, "title": f"{finding.code} {finding.name}"}
    stated = ",".join(f"{key}={_escaped(value, ':,')}" for key, value in properties.items())
    text = f"{finding.place}: {finding.observed}; expected {finding.expected}. Fix: {finding.fix}"
    return f"::{_COMMANDS[finding.severity]} {stated}::{_escaped(text)}"


def _escaped(text: str, more: str = "") -> str:
    for character in "%\r\n" + more:
        text = text.replace(character, f"%{ord(character):02X}")
    return text
