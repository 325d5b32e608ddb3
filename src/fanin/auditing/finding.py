"""`Check`, what an audit looks for, and `Finding`, where it found it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from fanin.auditing.evidence import Evidence

__all__ = ["SEVERITIES", "Check", "Finding", "Need", "Severity", "Symptom"]

Severity: TypeAlias = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

Need: TypeAlias = Literal["weights", "inputs", "plan"]


@dataclass(frozen=True, slots=True)
class Symptom:
    """What a check saw at one place.

    Args:
        where: names of the parameters or modules, the one to look at first; ``""`` is the model.
        observed: what is there, with numbers.
        expected: what should be there, with numbers.
        fix: the remedy as code.
        numbers: those behind the texts, for machines.
        severity: where it differs from the check's own.
        why: likewise.
    """

    where: tuple[str, ...]
    observed: str
    expected: str
    fix: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    severity: Severity | None = None
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that an audit looks for.

    Args:
        code: never given to another check: ``"FAN104"``. Its first digit is its group: 1 values,
            2 scales and distributions, 3 particular layers, 4 signals, 5 against a plan.
        name: the code in words: ``"constant-weight"``.
        severity: ``"error"`` for what keeps a model from learning as meant, ``"warning"`` for what
            costs, ``"note"`` for what is worth knowing.
        summary: what it finds, one line.
        why: why that matters, one sentence.
        run: yields the symptoms that the evidence shows.
        needs: what the audit must be given for it.
        is_statistical: whether it can be wrong by chance, and takes its share of the false alarms
            that an audit allows itself.
    """

    code: str
    name: str
    severity: Severity
    summary: str
    why: str
    run: Callable[[Evidence], Iterable[Symptom]]
    needs: Need = "weights"
    is_statistical: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """A symptom, under the code of the check that saw it.

    Args:
        code: of the check.
        name: of the check.
        severity: of the symptom, or else of the check.
        where: names of parameters or modules; ``""`` is the model itself.
        observed: what is there.
        expected: what should be.
        why: why it matters; of the symptom, or else of the check.
        fix: as code.
        numbers: behind the texts.
    """

    code: str
    name: str
    severity: Severity
    where: tuple[str, ...]
    observed: str
    expected: str
    why: str
    fix: str
    numbers: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, check: Check, symptom: Symptom) -> Finding:
        """What a check saw, as a finding."""
        return cls(
            check.code,
            check.name,
            symptom.severity or check.severity,
            symptom.where,
            symptom.observed,
            symptom.expected,
            symptom.why or check.why,
            symptom.fix,
            dict(symptom.numbers),
        )

    @property
    def place(self) -> str:
        """The first name, and how many more there are: ``"layers.0.weight and 11 more"``."""
        first = self.where[0] or "(model)" if self.where else "(model)"
        more = len(self.where) - 1
        return f"{first} and {more} more" if more > 0 else first

    @property
    def text(self) -> str:
        """All of it over some lines: place first, as linters do."""
        return "\n".join(
            [
                f"{self.place}: {self.code} {self.name} ({self.severity})",
                f"    observed  {self.observed}",
                f"    expected  {self.expected}",
                f"    why       {self.why}",
                f"    fix       {self.fix}",
            ]
        )

    def __str__(self) -> str:
        return f"{self.place}: {self.code} {self.observed}; expected {self.expected}"
