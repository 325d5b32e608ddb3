"""Nothing is silent: every rule fits something, every parameter has a rule, skipping is by name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from fanin.errors import ArgumentError, PlanError
from fanin.model import Entry
from fanin.planning.globs import matches
from fanin.planning.rules import Rule

__all__ = [
    "every_parameter_has_a_rule",
    "every_rule_fits",
    "overridden_rules",
    "skipped_names",
    "streams_are_single",
]

Patterns = str | Iterable[str] | None


def skipped_names(found: Sequence[Entry], *, only: Patterns, skip: Patterns) -> dict[str, str]:
    """Names of the entries to leave alone, each with the reason. A pattern must fit something."""
    wanted = _fitting("only", only, found)
    unwanted = _fitting("skip", skip, found)
    reasons = (
        {} if only is None else {e.name: "not in only=" for e in found if e.name not in wanted}
    )
    return reasons | dict.fromkeys(unwanted, "in skip=")


def every_rule_fits(
    rules: Sequence[Rule], matched: Sequence[Sequence[Rule]], found: Sequence[Entry]
) -> None:
    """Refuse a rule that selects by name and fits no parameter."""
    used = {id(rule) for chosen in matched for rule in chosen}
    for rule in rules:
        if rule.must_match and id(rule) not in used:
            near = _near(rule.match.name or "", found)
            raise PlanError(
                f"plan: a rule that selects by name fits at least one parameter. Got none for "
                f"{str(rule)!r}. {near} Say rule(..., optional=True) if it may fit none."
            )


def every_parameter_has_a_rule(uncovered: Sequence[Entry]) -> None:
    """Refuse parameters without a rule, and name them all."""
    if uncovered:
        listed = "\n".join(
            f"  {entry.name}  {tuple(entry.tensor.shape)} of {type(entry.owner.module).__name__}"
            for entry in uncovered
        )
        raise PlanError(
            f"plan: every parameter needs a rule. Got none for\n{listed}\n"
            f"Add one, as in recipe + {{{uncovered[0].name!r}: zeros()}}, or leave it with keep()."
        )


def streams_are_single(winners: Sequence[tuple[Entry, Rule]]) -> None:
    """Refuse a rule that states its stream and wins several parameters: they would be equal."""
    owner_of: dict[str, str] = {}
    for entry, rule in winners:
        if rule.stream is None:
            continue
        if rule.stream in owner_of:
            raise PlanError(
                f"plan: a stream feeds one parameter. Got {rule.stream!r} for "
                f"{owner_of[rule.stream]!r} and {entry.name!r}. Write a rule for each."
            )
        owner_of[rule.stream] = entry.name


def overridden_rules(matched: Sequence[Sequence[Rule]]) -> tuple[str, ...]:
    """Rules that matched and never won, in order of first appearance."""
    winners = {id(chosen[-1]) for chosen in matched if chosen}
    losers = {
        id(rule): rule.where for chosen in matched for rule in chosen if id(rule) not in winners
    }
    return tuple(losers.values())


def _fitting(option: str, patterns: Patterns, found: Sequence[Entry]) -> set[str]:
    names: set[str] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns or ():
        if not isinstance(pattern, str):
            raise ArgumentError(f"plan: {option}= takes names and name patterns. Got {pattern!r}.")
        fitting = {e.name for e in found if any(matches(pattern, name) for name in e.names)}
        if not fitting:
            raise PlanError(
                f"plan: {option}= names parameters of the model. Got {pattern!r}, which fits none. "
                f"{_near(pattern, found)}"
            )
        names |= fitting
    return names


def _near(pattern: str, found: Sequence[Entry]) -> str:
    names = [name for entry in found for name in entry.names]
    near = difflib.get_close_matches(pattern.removeprefix("re:"), names, n=3, cutoff=0.5)
    if near:
        return f"Near: {', '.join(near)}."
    return f"Names look like: {', '.join(names[:3])}." if names else "The model has no parameters."
