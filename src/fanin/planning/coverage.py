"""Nothing is silent: every rule fits something, every parameter has a rule, skipping is by name."""

from __future__ import annotations

import difflib
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from fanin.errors import ArgumentError, PlanError
from fanin.fills import Constant
from fanin.model import Entry, matches
from fanin.planning.rules import Rule
from fanin.planning.step import Step

__all__ = [
    "every_parameter_has_a_rule",
    "every_rule_fits",
    "overridden_rules",
    "skipped_names",
    "streams_are_single",
]


class LoadResult(Protocol):
    """What `load_state_dict(strict=False)` returns."""

    missing_keys: list[str]


Selection: TypeAlias = str | Iterable[str] | LoadResult | None


def skipped_names(found: Sequence[Entry], *, only: Selection, skip: Selection) -> dict[str, str]:
    """Names of the entries to leave alone, each with the reason. A pattern must fit something."""
    missing = _missing_keys(only)
    if missing is not None:
        # One name is enough: tied parameters are often stored once.
        is_loaded = (e for e in found if any(name not in missing for name in e.stored))
        reasons = {e.name: "loaded, not in missing_keys" for e in is_loaded}
    elif only is not None:
        wanted = _fitting("only", only, found)
        reasons = {e.name: "not in only=" for e in found if e.name not in wanted}
    else:
        reasons = {}
    return reasons | dict.fromkeys(_fitting("skip", skip, found), "in skip=")


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
                f"{str(rule)!r}. {near} Correct the name; or say that it may fit none, by the "
                "option of the recipe that the rule is from, or with rule(..., optional=True)."
            )


def every_parameter_has_a_rule(uncovered: Sequence[Entry]) -> None:
    """Refuse parameters without a rule, and name them all."""
    if uncovered:
        listed = "\n".join(
            f"  {entry.name}  {tuple(entry.tensor.shape)} of {type(entry.owner.module).__name__}"
            for entry in uncovered
        )
        raise PlanError(
            f"plan: every parameter needs a rule. Got none for\n{listed}\n{_advice(uncovered)}"
        )


def _advice(uncovered: Sequence[Entry]) -> str:
    if uncovered[0].owner.is_buffer:  # they come last, so there are no others
        return (
            "These are buffers on the meta device, whose values the constructor did not compute. "
            "Build the model under fanin.deferred() instead: its buffers are real then."
        )
    return f"Add one, as in recipe + {{{uncovered[0].name!r}: zeros()}}, or leave it with keep()."


def streams_are_single(steps: Iterable[Step]) -> None:
    """Refuse two parameters of one stream: they would be equal."""
    owner_of: dict[str, str] = {}
    for step in steps:
        if step.key is None or isinstance(step.fill, Constant):
            continue
        other = owner_of.setdefault(step.key.name, step.name)
        if other != step.name:
            raise PlanError(
                f"plan: a stream feeds one parameter. Got {step.key.name!r} for {other!r} and "
                f"{step.name!r}. State another stream= in the rule of one of them."
            )


def overridden_rules(matched: Sequence[Sequence[Rule]], won: Container[int]) -> tuple[str, ...]:
    """Rules that matched and won nothing, in order of first appearance; ``won`` has ids."""
    losers = {id(rule): rule.where for rules in matched for rule in rules if id(rule) not in won}
    return tuple(losers.values())


def _missing_keys(selection: Any) -> frozenset[str] | None:
    """The keys that a load left out; None for what is no result of a load."""
    if isinstance(selection, Mapping):  # what transformers calls loading info
        keys = selection.get("missing_keys")
    else:
        keys = getattr(selection, "missing_keys", None)
    return None if keys is None else frozenset(keys)


def _fitting(option: str, patterns: Any, found: Sequence[Entry]) -> set[str]:
    names: set[str] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns or ():
        if not isinstance(pattern, str):
            raise ArgumentError(f"plan: {option}= takes names and name patterns. Got {pattern!r}.")
        fitting = {
            e.name for e in found if any(matches(pattern, name) for name in e.names + e.stored)
        }
        if not fitting:
            is_module = any(name.startswith(f"{pattern}.") for e in found for name in e.names)
            advice = f"For all of a module write '{pattern}.**'." if is_module else ""
            raise PlanError(
                f"plan: {option}= names parameters of the model. Got {pattern!r}, which fits none. "
                f"{advice or _near(pattern, found)}"
            )
        names |= fitting
    return names


def _near(pattern: str, found: Sequence[Entry]) -> str:
    names = [name for entry in found for name in entry.names]
    near = difflib.get_close_matches(pattern.removeprefix("re:"), names, n=3, cutoff=0.5)
    if near:
        return f"Near: {', '.join(near)}."
    return f"Names look like: {', '.join(names[:3])}." if names else "The model has no parameters."
