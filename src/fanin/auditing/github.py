"""An audit as commands of GitHub's workflows, which show them beside the code."""

from __future__ import annotations

from fanin.auditing.finding import Finding, Severity
from fanin.auditing.findings import Audit
from fanin.auditing.source import Source

__all__ = ["github_text"]

_COMMANDS: dict[Severity, str] = {"error": "error", "warning": "warning", "note": "notice"}


def github_text(audit: Audit, *, source: Source | None = None) -> str:
    """A line for each finding, and the summary for the log.

    Args:
        audit: whose findings they are.
        source: the place to show them at.

    Source: GitHub Docs, Workflow commands for GitHub Actions; the escapes are those of the
    package ``@actions/core``.
    """
    lines = [_line(finding, source) for finding in audit.findings]
    return "".join(f"{line}\n" for line in [*lines, _logged(audit.summary)])


def _line(finding: Finding, source: Source | None) -> str:
    properties = {"title": f"{finding.code} {finding.name}"}
    if source is not None:
        place = {"file": source.path, "line": str(source.line or 1)}
        properties = {**place, **properties}
    stated = ",".join(f"{key}={_escaped(value, ':,')}" for key, value in properties.items())
    text = f"{finding.place}: {finding.observed}; expected {finding.expected}. Fix: {finding.fix}"
    return f"::{_COMMANDS[finding.severity]} {stated}::{_escaped(text)}"


def _escaped(text: str, more: str = "") -> str:
    for character in "%\r\n" + more:
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def _logged(text: str) -> str:
    """A line that is no command, whatever a model is called."""
    return text.replace("::", ": :").replace("\r", " ").replace("\n", " ")
