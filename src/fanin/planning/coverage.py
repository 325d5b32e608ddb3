"""Nothing is silent: every rule fits something, every parameter has a rule, skipping is by name."""

from __future__ import annotations

import difflib
from collections.abc import Container, Iterable, Sequence

from fanin.errors import PlanError
from fanin.fills import Constant
from fanin.model import Entry, module_type
from fanin.planning.rules import Rule
from fanin.planning.step import Step

__all__ = [
    "every_parameter_has_a_rule",
    "every_rule_fits",
    "every_value_is_there",
    "near_names",
    "overridden_rules",
    "streams_are_single",
    "unused_rules",
]


def every_rule_fits(
    rules: Sequence[Rule], matched: Sequence[Sequence[Rule]], found: Sequence[Entry]
) -> None:
    """Refuse a rule that selects by name and fits no parameter."""
    used = {id(rule) for chosen in matched for rule in chosen}
    for rule in rules:
        if rule.must_match and id(rule) not in used:
            near = near_names(rule.match.name or "", found)
            raise PlanError(
                f"plan: a rule that selects by name fits at least one parameter. Got none for "
                f"{str(rule)!r}. {near} Correct the name; or say that it may fit none, by the "
                "option of the recipe that the rule is from, or with rule(..., optional=True)."
            )


def every_parameter_has_a_rule(uncovered: Sequence[Entry]) -> None:
    """Refuse parameters without a rule, and name them all."""
    if uncovered:
        listed = "\n".join(
            f"  {entry.name}  {_shape(entry)} of {module_type(entry.owner.module).__name__}"
            for entry in uncovered
        )
        raise PlanError(
            f"plan: every parameter needs a rule. Got none for\n{listed}\n{_advice(uncovered)}"
        )


def every_value_is_there(lost: Sequence[Entry]) -> None:
    """Refuse to keep what a constructor computed where it is no longer, and name it all."""
    if lost:
        listed = "\n".join(f"  {entry.name}  {_shape(entry)}" for entry in lost)
        raise PlanError(
            "plan: what a constructor computed under deferred() is kept where it was made, or "
            "where .to and sharding have copied it. Got other memory, with other numbers, for\n"
            f"{listed}\nModule.to_empty does that. Leave it out: fanin.initialize(model, "
            "device=...) gives memory to what has none. If these are values of yours, name them "
            "in skip=."
        )


def _advice(uncovered: Sequence[Entry]) -> str:
    if uncovered[0].owner.is_buffer:  # they come last, so there are no others
        return (
            "These are buffers on the meta device, whose values the constructor did not compute. "
            "Build the model under fanin.deferred() instead: its buffers are real then."
        )
    site = uncovered[0].owner
    if site.attribute not in ("weight", "bias"):  # names that modules of every kind have
        alike = [entry for entry in uncovered if entry.owner.attribute == site.attribute]
        name = f"**.{site.attribute}" if len(alike) > 1 else alike[0].name
        return f"Add one, as in recipe + {{{name!r}: ...}}, or leave it with keep()."
    kind = module_type(site.module).__name__
    content = "ones()" if site.attribute == "weight" and "norm" in kind.lower() else "..."
    return (
        f"Add one, as in recipe + rule(None, {content}, type_name={kind!r}, "
        f"parameter={site.attribute!r}), or leave it with keep()."
    )


def _shape(entry: Entry) -> str:
    return "of no shape yet" if entry.owner.is_lazy else str(tuple(entry.owner.shape))


def unused_rules(rules: Sequence[Rule], matched: Sequence[Sequence[Rule]]) -> tuple[str, ...]:
    """Rules that fit no parameter, in order."""
    used = {id(rule) for chosen in matched for rule in chosen}
    return tuple(str(rule) for rule in rules if id(rule) not in used)


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


def near_names(pattern: str, found: Sequence[Entry]) -> str:
    """Names that a pattern may have been meant for, as part of a message."""
    names = [name for entry in found for name in entry.names]
    near = difflib.get_close_matches(pattern.removeprefix("re:"), names, n=3, cutoff=0.5)
    if near:
        return f"Near: {', '.join(near)}."
    return f"Names look like: {', '.join(names[:3])}." if names else "The model has no parameters."
