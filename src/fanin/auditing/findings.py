"""`Audit`: what an audit found, and every way to show or keep it."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fanin.auditing.finding import SEVERITIES, Finding, Severity
from fanin.auditing.source import Source
from fanin.errors import ArgumentError
from fanin.report import Column, Table

__all__ = ["Audit", "plain"]

_FORMAT = "fanin.audit/1"


@dataclass(frozen=True, repr=False)
class Audit:
    """The findings of one audit, errors first.

    Args:
        findings: in the order of severity, then of code.
        checks: codes of the checks that ran.
        title: what was audited.
        num_weights: how many parameters were read.
        notes: what there is to say besides.
        ignored: how many findings a configuration left out.

    Example:
        >>> from torch import nn
        >>> from fanin.auditing import audit
        >>> print(audit(nn.Linear(64, 32)))
        Linear: no findings in 2 parameters
    """

    findings: tuple[Finding, ...]
    checks: tuple[str, ...] = ()
    title: str = ""
    num_weights: int = 0
    notes: tuple[str, ...] = ()
    ignored: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether there is neither an error nor a warning."""
        return all(finding.severity == "note" for finding in self.findings)

    @property
    def has_errors(self) -> bool:
        """Whether there is an error."""
        return any(finding.severity == "error" for finding in self.findings)

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of one severity."""
        return tuple(finding for finding in self.findings if finding.severity == severity)

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes found, each once, in the order of the findings."""
        return tuple(dict.fromkeys(finding.code for finding in self.findings))

    @property
    def summary(self) -> str:
        """One line: how many findings of each severity."""
        counts = Counter(finding.severity for finding in self.findings)
        parts = [_plural(counts[each], each) for each in SEVERITIES if counts[each]]
        found = ", ".join(parts) or "no findings"
        more = f", {self.ignored} ignored" if self.ignored else ""
        return f"{self.title}: {found}{more} in {_plural(self.num_weights, 'parameter')}"

    def table(self) -> Table:
        """A row for each finding: code, severity, place, what is there, and what should be."""
        return Table(
            ("code", "severity", "where", "observed", Column("expected", optional=True)),
            tuple(
                (each.code, each.severity, each.place, each.observed, each.expected)
                for each in self.findings
            ),
        )

    def tables(self) -> tuple[Table, ...]:
        """The table of the findings."""
        return (self.table(),)

    def to_json(self) -> str:
        """The audit as JSON text; numbers that are not finite are texts, nan, inf or -inf."""
        content = plain({"format": _FORMAT, **asdict(self)})
        return json.dumps(content, indent=1, allow_nan=False) + "\n"

    def to_sarif(self, *, source: Source | None = None) -> str:
        """The audit as JSON text in SARIF 2.1.0.

        Args:
            source: the file and line to show findings at, since parameters have none.
        """
        from fanin.auditing.sarif import sarif_text

        return sarif_text(self, source=source)

    def to_github(self, *, source: Source | None = None) -> str:
        """A line for each finding, as GitHub's workflows take them.

        Args:
            source: as for `to_sarif`.
        """
        from fanin.auditing.github import github_text

        return github_text(self, source=source)

    @classmethod
    def from_json(cls, text: str) -> Audit:
        """The audit that `to_json` wrote.

        Args:
            text: JSON.

        Raises:
            ArgumentError: for text that is no audit.
        """
        try:
            content = json.loads(text)
            if content.pop("format") != _FORMAT:
                raise ValueError(f"not of format {_FORMAT!r}")
            findings = tuple(_finding(each) for each in content.pop("findings"))
            stated = {key: _tuples(value) for key, value in content.items()}
            return cls(findings, **stated)
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise ArgumentError(
                f"Audit.from_json: text that to_json wrote. Got something else: {error}."
            ) from error

    def __str__(self) -> str:
        notes = [f"note: {note}" for note in self.notes]
        end = "\n".join([*notes, self.summary])
        return "\n\n".join([*(finding.text for finding in self.findings), end])

    __repr__ = __str__


def plain(value: Any) -> Any:
    """Data that JSON has words for: numbers that are not finite become texts."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _finding(content: Mapping[str, Any]) -> Finding:
    stated = {key: _tuples(value) for key, value in content.items()}
    stated["numbers"] = {
        name: float(number) if isinstance(number, str) else number
        for name, number in stated["numbers"].items()
    }
    return Finding(**stated)


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
