"""From a model and a recipe to a plan: which rule wins for each parameter, with what numbers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.nn.parameter import is_lazy

from fanin.errors import LayoutError, PlanError
from fanin.fills import Fill
from fanin.geometry import Layout
from fanin.initializers import Initializer
from fanin.model import Entry, Site, entries, layout_of, missing_adapter
from fanin.planning.coverage import (
    Patterns,
    every_parameter_has_a_rule,
    every_rule_fits,
    overridden_rules,
    skipped_names,
    streams_are_single,
)
from fanin.planning.plan import Plan
from fanin.planning.recipe import Recipe
from fanin.planning.rules import Keep, Rule
from fanin.planning.step import Step
from fanin.stream import Key

__all__ = ["make_plan"]


def make_plan(
    model: nn.Module, recipe: Recipe, *, seed: int, only: Patterns = None, skip: Patterns = None
) -> Plan:
    """Resolve a recipe for a model; nothing is written.

    Args:
        model: the module whose parameters are to be written.
        recipe: rules, of which the last that matches wins.
        seed: in ``[0, 2**64)``, of every stream.
        only: names or globs; every other parameter stays as it is.
        skip: names or globs of parameters that stay as they are.

    Returns:
        A plan with one step for each parameter, the kept and skipped ones included.

    Raises:
        PlanError: when no rule covers a parameter, a rule or pattern by name fits none, a stream
            is stated for several, or a parameter cannot be written.
        LayoutError: when an initializer needs fans that no adapter states.
    """
    found = entries(model, ties=recipe.ties)
    skipped = skipped_names(found, only=only, skip=skip)
    matched = [[rule for rule in recipe.rules if rule.match(entry)] for entry in found]
    every_rule_fits(recipe.rules, matched, found)
    pairs = list(zip(found, matched, strict=True))
    every_parameter_has_a_rule([e for e, rules in pairs if not rules and e.name not in skipped])
    streams_are_single([(e, rules[-1]) for e, rules in pairs if rules and e.name not in skipped])
    steps = tuple(
        _kept(entry, "skipped", skipped[entry.name])
        if entry.name in skipped
        else _step(entry, rules, seed=seed, recipe=recipe)
        for entry, rules in pairs
    )
    return Plan(steps, seed, str(recipe), overridden_rules(matched))


def _step(entry: Entry, rules: Sequence[Rule], *, seed: int, recipe: Recipe) -> Step:
    """The step that the last of the matching rules asks for."""
    rule, reason = rules[-1], "the rule that matches"
    if len(rules) > 1:
        reason = f"the last rule that matches, over {', '.join(r.where for r in rules[:-1])}"
    content = rule.initializer
    if isinstance(content, Keep):
        return _kept(entry, rule.where, reason)
    _check_writable(entry, rule)
    layout = layout_of(entry.owner)
    initializer = content if isinstance(content, Initializer) else content(entry.owner)
    return Step(
        name=entry.name,
        aliases=entry.aliases,
        shape=tuple(entry.tensor.shape),
        dtype=entry.tensor.dtype,
        layout=layout,
        fill=_fill(initializer, layout, entry.owner),
        key=Key(seed, rule.stream or recipe.ties.get(entry.name, entry.name)),
        rule=rule.where,
        reason=reason,
    )


def _kept(entry: Entry, rule: str, reason: str) -> Step:
    shape = () if is_lazy(entry.tensor) else tuple(entry.tensor.shape)
    layout = None if is_lazy(entry.tensor) else layout_of(entry.owner)
    dtype = entry.tensor.dtype
    return Step(entry.name, entry.aliases, shape, dtype, layout, None, None, rule, reason)


def _fill(initializer: Initializer, layout: Layout | None, site: Site) -> Fill:
    """The initializer's fill; where axes are missing, the error says for what and what to do."""
    shape = tuple(site.tensor.shape)
    if layout is not None and layout.shape != shape:
        raise LayoutError(
            f"plan: a layout has the shape of its parameter. Got {layout!r} for {site.name!r} of "
            f"shape {shape}. Correct the adapter of {type(site.module).__name__}."
        )
    try:
        return initializer.resolve(layout or Layout.vector(*shape))
    except LayoutError as error:
        advice = f"\nNo adapter knows it. {missing_adapter(site)}" if layout is None else ""
        raise LayoutError(f"{error}\nThis was asked for {site.name!r}.{advice}") from error


def _check_writable(entry: Entry, rule: Rule) -> None:
    """Refuse what no draw can write, before anything is written."""
    where = f"for {entry.name!r}, matched by rule {rule.where!r}"
    if is_lazy(entry.tensor):
        raise PlanError(
            f"plan: a parameter has a shape. Got an uninitialized one {where}. "
            "Run one forward pass first: it gives lazy modules their shapes."
        )
    if entry.owner.is_parametrized:
        raise PlanError(
            "plan: a parametrized weight is not written through its original, which would have "
            f"another distribution. Got one {where}. Initialize before parametrizing, or leave it "
            "with keep()."
        )
    if not (entry.tensor.is_floating_point() or entry.tensor.is_complex()):
        raise PlanError(
            f"plan: numbers are drawn for floating point and complex dtypes. "
            f"Got {entry.tensor.dtype} {where}. Leave it with keep()."
        )
