"""From the rules that match a parameter to its fill, part by part where it is packed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fanin.errors import ArgumentError, FaninError, LayoutError, PlanError, one_of
from fanin.fills import Fill, Part, packed
from fanin.geometry import Layout
from fanin.initializers import Initializer
from fanin.model import Site, layout_of, missing_adapter, module_type
from fanin.planning.rules import Keep, Rule

__all__ = ["chooses_by_site", "resolve_fill", "resolve_layout", "winners"]


def resolve_layout(site: Site, rules: Sequence[Rule]) -> Layout | None:
    """The axes that the last rule with a layout states, else those that the adapter does."""
    if site.is_lazy:
        return None
    stated = next((rule.layout for rule in reversed(rules) if rule.layout is not None), None)
    shape = tuple(site.shape)
    if stated is None:
        layout = layout_of(site)
        advice = f"Correct the adapter of {module_type(site.module).__name__}."
    else:
        layout = stated if isinstance(stated, Layout) else _stated(site, stated)
        layout = layout if layout.is_shaped else layout.with_shape(shape)
        advice = "Leave the shape out of the rule's layout, or correct it."
    if layout is not None and layout.shape != shape:
        raise LayoutError(
            f"plan: a layout has the shape of its parameter. Got {layout!r} for {site.name!r} of "
            f"shape {shape}. {advice}"
        )
    return layout


def _stated(site: Site, state: Callable[[Site], Any]) -> Layout:
    """What a rule's function says of the axes."""
    layout = state(site)
    if not isinstance(layout, Layout):
        raise LayoutError(
            f"plan: layout= is a Layout, or a function from a Site to one. Got {layout!r} for "
            f"{site.name!r}."
        )
    return layout


def winners(site: Site, rules: Sequence[Rule], layout: Layout | None) -> dict[str, Rule]:
    """The last rule for each part of a parameter; for all of it under the name "".

    Raises:
        PlanError: when a rule is for a part that the parameter does not have, or a part has none.
    """
    if site.is_lazy or all(rule.part is None for rule in rules):
        return {"": rules[-1]}
    parts = [name for name, _ in layout.parts] if layout is not None else []
    for rule in rules:
        if not any(rule.covers(part) for part in parts) and rule.part is not None:
            known = one_of(rule.part, parts) if parts else "It is not packed: state layout=."
            raise PlanError(
                f"plan: a rule for a part fits a part. Got {rule.part!r} in {str(rule)!r} for "
                f"{site.name!r}. {known}"
            )
    chosen: dict[str, Rule] = {}
    for part in parts:
        covering = [rule for rule in rules if rule.covers(part)]
        if not covering:
            raise PlanError(
                f"plan: every part needs a rule. Got none for part {part!r} of {site.name!r}. "
                f"Add one for the whole parameter before it, or rule(..., part={part!r})."
            )
        chosen[part] = covering[-1]
    only_one = {id(rule) for rule in chosen.values()}
    return {"": chosen[parts[0]]} if len(only_one) == 1 else chosen


def resolve_fill(site: Site, chosen: Mapping[str, Rule], layout: Layout | None) -> Fill | None:
    """What the winning rules ask for; None where all of it is kept."""
    if "" in chosen:
        return _resolved(site, chosen[""], layout)
    assert layout is not None
    parts = []
    for name, start, stop, piece in layout.split():
        fill = _resolved(site, chosen[name], piece)
        if fill is not None:
            parts.append(Part(name, start, stop, fill))
    return packed(layout.part_dim, parts, size=layout.shape[layout.part_dim]) if parts else None


def chooses_by_site(rule: Rule) -> bool:
    """Whether the rule's initializer is a function, which may choose another one for each site."""
    return not isinstance(rule.initializer, Initializer | Keep)


def _resolved(site: Site, rule: Rule, layout: Layout | None) -> Fill | None:
    """The initializer's fill; where axes are missing, the error says for what and what to do."""
    content = rule.initializer
    if not isinstance(content, Initializer | Keep):
        content = _chosen(site, rule, content)
    if isinstance(content, Keep):
        return None
    try:
        return content.resolve(layout or Layout.vector(*site.shape))
    except LayoutError as error:
        advice = f"\nNo adapter knows it. {missing_adapter(site)}" if layout is None else ""
        raise LayoutError(f"{error}\nThis was asked for {site.name!r}.{advice}") from error
    except ArgumentError as error:
        where = f"for {site.name!r} by rule {rule.where!r}"
        raise ArgumentError(f"{error}\nThis was asked {where}.") from error


def _chosen(site: Site, rule: Rule, choose: Callable[[Site], Any]) -> Initializer | Keep:
    """What a rule's function chooses for a site."""
    advice = (
        "A function in a rule gets a Site and returns an initializer, such as zeros(). One that "
        "fills a tensor goes into from_function(...)."
    )
    where = f"for {site.name!r}, from the function of rule {str(rule)!r}"
    try:
        content = choose(site)
    except FaninError:
        raise
    except Exception as error:
        raise PlanError(
            f"plan: an initializer was asked for. Got {type(error).__name__}: {error} {where}. "
            f"{advice}"
        ) from error
    if isinstance(content, Initializer | Keep):
        return content
    raise PlanError(f"plan: an initializer was asked for. Got {content!r} {where}. {advice}")
