"""From a model and a recipe to a plan: which rule wins for each parameter, with what numbers."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from torch import nn

from fanin.errors import ArgumentError, PlanError
from fanin.fills import Fill
from fanin.geometry import Layout
from fanin.model import Entry, Site, entries, is_literal, layout_of, module_type
from fanin.model.construction import is_computed_at, is_lost_at
from fanin.planning.checks import check_dtype, check_parametrized
from fanin.planning.coverage import (
    every_parameter_has_a_rule,
    every_rule_fits,
    every_value_is_there,
    overridden_rules,
    streams_are_single,
    unused_rules,
)
from fanin.planning.filling import chooses_by_site, resolve_fill, resolve_layout, winners
from fanin.planning.following import Following
from fanin.planning.plan import Plan
from fanin.planning.recipe import Derivation, Recipe
from fanin.planning.rules import Keep, Rule
from fanin.planning.selection import Selection, skipped_names
from fanin.planning.step import Step
from fanin.stream import Key
from fanin.stream.key import checked_seed

if TYPE_CHECKING:
    from fanin.flow import Trace

__all__ = ["make_plan"]

# What was resolved, by layout (or shape) and then by the ids of the rules that won.
_Fills: TypeAlias = dict[object, dict[tuple[int, ...], Fill | None]]


def make_plan(
    model: nn.Module,
    recipe: Recipe,
    *,
    seed: int,
    only: Selection = None,
    skip: Selection = None,
    prefix: str | None = None,
    trace: Trace | None = None,
) -> Plan:
    """Resolve a recipe for a model; nothing is written.

    Args:
        model: the module whose parameters are to be written.
        recipe: rules, of which the last that matches wins.
        seed: in ``[0, 2**64)``, of every stream.
        only: names or globs, or what `load_state_dict` returned; every other parameter stays as
            it is.
        skip: names or globs of parameters that stay as they are.
        prefix: the name of the model in a larger one, of which it is a part; rules by name may then
            be for another part. None: it is the whole.
        trace: what the model computes, for rules that depend on it.

    Returns:
        A plan with one step for each parameter, the kept and skipped ones included.

    Raises:
        PlanError: when no rule covers a parameter, a rule or pattern by name fits none, a stream
            is stated for several, a parameter cannot be written, a trace is needed and there is
            none, or what a constructor computed is gone (``to_empty``).
        LayoutError: when an initializer needs fans that no adapter states.
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"plan: a model is an nn.Module. Got {type(model).__name__}.")
    seed = checked_seed(seed)
    within = prefix or ""
    found = entries(model, ties=recipe.ties, prefix=prefix)
    skipped = skipped_names(model, found, only=only, skip=skip, prefix=within)
    derivation = _derived(model, recipe, trace, within)
    rules_in_order = (*derivation.rules, *recipe.rules)
    matched = _matched(rules_in_order, found, Following(trace, within) if trace else None)
    if prefix is None:
        every_rule_fits(rules_in_order, matched, found)
    kept: list[Entry] = []
    for entry, rules in zip(found, matched, strict=True):
        if entry.name in skipped:
            continue
        if _is_from_constructor(entry, rules):
            skipped[entry.name] = "from the constructor"
            kept.append(entry)
        elif rules and isinstance(rules[-1].initializer, Keep):
            kept.append(entry)
    every_value_is_there([e for e in kept if is_lost_at(e.owner.module, e.owner.attribute)])
    every_parameter_has_a_rule(
        [e for e, rules in zip(found, matched, strict=True) if not rules and e.name not in skipped]
    )
    steps: list[Step] = []
    won: set[int] = set()  # ids of rules
    fills: _Fills = {}
    for entry, rules in zip(found, matched, strict=True):
        if entry.name in skipped:
            steps.append(_kept(entry, skipped[entry.name], skipped[entry.name]))
            won.update(map(id, rules[-1:]))
            continue
        layout = resolve_layout(entry.owner, rules)
        chosen = winners(entry.owner, rules, layout)
        won.update(map(id, chosen.values()))
        steps.append(_step(entry, rules, chosen, layout, fills, seed=seed, ties=recipe.ties))
    streams_are_single(steps)
    own = {id(rule) for rule in recipe.rules}  # what is derived is overridden by design
    first_added = len(rules_in_order) - recipe.num_added
    listed = [
        rule
        for i, rule in enumerate(rules_in_order)
        if i >= first_added or (prefix is not None and rule.must_match)
    ]
    return Plan(
        tuple(steps),
        seed,
        str(recipe),
        overridden=overridden_rules([[r for r in rules if id(r) in own] for rules in matched], won),
        unused=unused_rules(listed, matched),
        prefix=within,
        is_traced=recipe.derived is not None,
        notes=derivation.notes,
    )


def _derived(model: nn.Module, recipe: Recipe, trace: Trace | None, prefix: str) -> Derivation:
    """The rules that a recipe derives from the trace of the model, and its notes."""
    if trace is None and recipe.needs_trace:
        asking = (str(rule) for rule in recipe.rules if rule.match.followed_by)
        raise PlanError(
            "plan: what depends on how the model computes needs inputs to trace it with. Got no "
            f"example_inputs for {next(asking, str(recipe))!r}. Pass "
            "fanin.plan(model, recipe, example_inputs=x), or to initialize: only shapes matter."
        )
    if recipe.derived is None or trace is None:
        return Derivation(())
    made = recipe.derived(model, trace)
    found = made if isinstance(made, Derivation) else Derivation(made)
    rules = _checked_rules(found.rules, recipe)
    return Derivation(tuple(_within(prefix, each) for each in rules), found.notes)


def _checked_rules(derived: Any, recipe: Recipe) -> tuple[Rule, ...]:
    """What a recipe's function returned, if it is rules."""
    rules = tuple(derived) if isinstance(derived, Iterable) else (derived,)
    wrong = [each for each in rules if not isinstance(each, Rule)]
    if wrong or not isinstance(derived, Iterable):
        raise PlanError(
            "plan: what a recipe derives from a trace is an iterable of rules. Got "
            f"{reprlib.repr(wrong[0] if wrong else derived)} from {str(recipe)!r}. Return a list "
            "of rule(...), which may be empty."
        )
    return rules


def _within(prefix: str, rule: Rule) -> Rule:
    """A rule by a name in a model, for the larger one that it is a part of."""
    name = rule.match.name
    if not prefix or name is None or not is_literal(name):
        return rule
    return replace(rule, match=replace(rule.match, name=f"{prefix}.{name}"))


def _matched(
    rules: Sequence[Rule], found: Sequence[Entry], following: Following | None
) -> list[list[Rule]]:
    """The rules that match each entry, in their order.

    Types are compared once for each kind of parameter, and names without a wildcard looked up.
    """
    by_name: dict[str, list[int]] = {}
    others: list[int] = []
    for i, rule in enumerate(rules):
        name = rule.match.name
        (by_name.setdefault(name, []) if name and is_literal(name) else others).append(i)
    shortlists: dict[tuple[type, str], list[Rule]] = {}
    matched = []
    for entry in found:
        kind, attribute = module_type(entry.owner.module), entry.owner.attribute
        shortlist = shortlists.get((kind, attribute))
        if shortlist is None:
            shortlist = [rules[i] for i in others if rules[i].match.fits_kind(kind, attribute)]
            shortlists[kind, attribute] = shortlist
        named = {i for name in entry.names for i in by_name.get(name, ())}
        if named:
            candidates = (rules[i] for i in sorted({*others, *named}))
            matched.append([rule for rule in candidates if rule.match(entry, following)])
        else:
            fitting = [rule for rule in shortlist if rule.match.fits_place(entry, following)]
            # One list for many: planning 10,000 parameters is half garbage collection.
            matched.append(shortlist if len(fitting) == len(shortlist) else fitting)
    return matched


def _is_from_constructor(entry: Entry, rules: Sequence[Rule]) -> bool:
    """Whether `deferred` left the value that a constructor computed, and it is to stay.

    It stays where no rule covers it. torch's own layers compute none: one that has a value was
    handed it (`Embedding.from_pretrained`), or is a class of its own that computes it (a table of
    sines). It keeps it unless a rule says its name, or is for that class and not for torch's.
    """
    site = entry.owner
    is_kept = site.through is None and is_computed_at(site.parents, site.attribute)
    if not is_kept or not rules:
        return is_kept
    kind, match = module_type(site.module), rules[-1].match
    return match.name is None and any(
        base is kind or (match.types and match.fits_kind(base, site.attribute))
        for base in kind.__mro__
        if base.__module__.startswith("torch.") and base is not nn.Module
    )


def _step(
    entry: Entry,
    rules: Sequence[Rule],
    chosen: Mapping[str, Rule],
    layout: Layout | None,
    fills: _Fills,
    *,
    seed: int,
    ties: Mapping[str, str],
) -> Step:
    """The step that the winning rules ask for; one that waits where there is no shape yet.

    ``fills`` remembers what was resolved: most layers of a model are like one before.
    """
    site = entry.owner
    where = _where(site, chosen)
    streams = (rule.stream for rule in reversed(rules) if rule.part is None)
    key = Key(seed, next(streams, None) or ties.get(entry.name, entry.name))
    if site.is_lazy and not isinstance(rules[-1].initializer, Keep):
        names, dtype = (entry.name, entry.aliases), site.dtype
        return Step(*names, (), dtype, None, None, key, where, pending=tuple(rules))
    shape = tuple(site.shape)
    known = fills.setdefault(layout or shape, {})
    won = tuple(map(id, chosen.values()))
    if won not in known or any(map(chooses_by_site, chosen.values())):
        known[won] = resolve_fill(site, chosen, layout)
    fill = known[won]
    if fill is None:
        return _kept(entry, where, _reason(rules))
    check_dtype(entry, fill, where)
    step = Step(
        name=entry.name,
        aliases=entry.aliases,
        shape=shape,
        dtype=site.dtype,
        layout=_with_padding(layout, entry),
        fill=fill,
        key=key,
        rule=where,
        reason=_reason(rules),
        note=site.through.note if site.through is not None else "",
    )
    check_parametrized(step, site)
    return step


def _with_padding(layout: Layout | None, entry: Entry) -> Layout | None:
    """The layout with the row that any of the tied modules keeps at zero."""
    if layout is None or layout.padding_idx is not None:
        return layout
    for site in entry.others:
        other = layout_of(site)
        if other is not None and other.padding_idx is not None:
            return replace(layout, padding_idx=other.padding_idx)
    return layout


def _kept(entry: Entry, rule: str, reason: str) -> Step:
    shape = () if entry.owner.is_lazy else tuple(entry.owner.shape)
    layout = resolve_layout(entry.owner, ())
    dtype = entry.owner.dtype
    return Step(entry.name, entry.aliases, shape, dtype, layout, None, None, rule, reason)


def _reason(rules: Sequence[Rule]) -> str:
    if len(rules) == 1:
        return "the rule that matches"
    return f"the last rule that matches, over {', '.join(rule.where for rule in rules[:-1])}"


def _where(site: Site, chosen: Mapping[str, Rule]) -> str:
    """The rules that won, each with the parts that it won: ``linear weight (q, k)``."""
    if "" in chosen:
        return chosen[""].where_at(site)
    parts_of: dict[str, list[str]] = {}
    for part, rule in chosen.items():
        parts_of.setdefault(rule.where_at(site), []).append(part)
    return "; ".join(f"{where} ({', '.join(parts)})" for where, parts in parts_of.items())
