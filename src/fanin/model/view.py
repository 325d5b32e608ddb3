"""What a model holds: each parameter once, under every canonical name it has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

import torch
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from fanin.errors import ArgumentError, PlanError
from fanin.model.cut_up import check_not_cut_up
from fanin.model.memory import address, shared
from fanin.model.parametrized import parametrized
from fanin.model.site import Entry, Site
from fanin.model.wrappers import wrapped_attribute

__all__ = ["buffers", "entries", "identity", "modules", "sites"]


def entries(
    model: nn.Module, *, ties: Mapping[str, str] | None = None, prefix: str | None = None
) -> tuple[Entry, ...]:
    """The parameters of a model in registration order, tied ones as one entry.

    Buffers that have no memory yet, on the meta device, follow them: they need values too. Two
    names are one entry when they reach the same tensor, or tensors that look at exactly the same
    memory.

    Args:
        model: any module.
        ties: alias to owner; without it the first name owns.
        prefix: the name of the module in a larger model of which it is a part; None: it is whole.

    Raises:
        PlanError: when two parameters have one canonical name, when parameters share memory
            only in part, when FSDP1 or ZeRO-3 has cut them up, or when two names are stated as
            tied and are not.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        >>> model[1].weight = model[0].weight
        >>> [entry.names for entry in entries(model)]
        [('0.weight', '1.weight'), ('0.bias',), ('1.bias',)]
    """
    owners: dict[object, Site] = {}
    others: dict[int, list[Site]] = {}  # those that share the tensor of a first one, by its id
    seen: dict[str, Site] = {}
    pending = (site for site in buffers(model, prefix=prefix or "") if site.tensor.is_meta)
    for site in (*sites(model, prefix=prefix), *pending):
        if site.name in seen:
            raise PlanError(
                f"plan: each parameter has a name of its own. Got two called {site.name!r} once "
                "wrappers are left out. Rename the attribute of one of them."
            )
        for held in _stored(site):
            check_not_cut_up(site, held)
        seen[site.name] = site
        first = owners.setdefault(identity(site), site)
        if first is not site:
            others.setdefault(id(first), []).append(site)
    found = tuple(
        _entry([site, *others[id(site)]], ties or {}) if id(site) in others else Entry(site)
        for site in owners.values()
    )
    _check_ties(found, ties or {})
    _check_overlap(found)
    return found


def sites(model: nn.Module, *, prefix: str | None = None) -> Iterator[Site]:
    """Every place where a parameter hangs, in registration order, shared ones at each place."""
    for place in _walk(model, _start(prefix or ""), "", ()):
        yield from _parameters(*place, in_part=prefix is not None)


def modules(model: nn.Module) -> tuple[tuple[str, nn.Module], ...]:
    """Canonical name and module of every place, in registration order, shared ones at each."""
    return tuple(
        (name.removesuffix("."), parents[-1]) for name, _, parents in _walk(model, "", "", ())
    )


def buffers(model: nn.Module, *, prefix: str = "") -> Iterator[Site]:
    """Every place where a buffer hangs, in registration order."""
    for name, path, parents in _walk(model, _start(prefix), "", ()):
        module = parents[-1]
        for attribute, tensor in module._buffers.items():
            if tensor is not None:
                place = name + attribute
                yield Site(place, module, attribute, parents, path, is_buffer=True)


# A module, as its canonical prefix, its prefix in the state dict, and the modules down to it.
Place: TypeAlias = tuple[str, str, tuple[nn.Module, ...]]


def _start(prefix: str) -> str:
    """What precedes the names in a module of this name, with or without a dot at its end."""
    if prefix == "":
        return ""
    parts = prefix.removesuffix(".").split(".") if isinstance(prefix, str) else [""]
    if not all(part and not set(part) & set(" *?[]") for part in parts):
        raise ArgumentError(
            f"plan: prefix= is the name of a module in a larger model. Got {prefix!r}. "
            "Write for instance prefix='model.layers.4'."
        )
    return f"{'.'.join(parts)}."


def _walk(
    module: nn.Module, name: str, path: str, parents: tuple[nn.Module, ...]
) -> Iterator[Place]:
    if any(module is parent for parent in parents):
        return
    parents = (*parents, module)
    yield name, path, parents
    if not module._modules:
        return
    wrapped = wrapped_attribute(module)
    for attribute, child in module._modules.items():
        if child is not None:
            below = name if attribute == wrapped else f"{name}{attribute}."
            yield from _walk(child, below, f"{path}{attribute}.", parents)


def _parameters(
    name: str, path: str, parents: tuple[nn.Module, ...], *, in_part: bool
) -> Iterator[Site]:
    """The parameters of a module; those that a parametrized weight is computed from are not."""
    module = parents[-1]
    held = parametrized(module)
    behind = {original for through in held.values() for original, _ in through.originals}
    for attribute, through in held.items():
        yield Site(name + attribute, module, attribute, parents, path, through, in_part=in_part)
    is_behind = isinstance(module, ParametrizationList)
    for attribute, tensor in module._parameters.items():
        if (
            tensor is None
            or attribute in behind
            or (is_behind and attribute.startswith("original"))
        ):
            continue
        yield Site(name + attribute, module, attribute, parents, path, in_part=in_part)


def identity(site: Site) -> object:
    """Equal for two places that hold the same tensor, or tensors that look at the same memory."""
    tensor = site.through.originals[0][1] if site.through is not None else site.tensor
    start = address(tensor)
    if start is None:
        return id(tensor)
    return (start, tensor.device, tensor.dtype, tensor.shape, tensor.stride())


def _entry(group: list[Site], ties: Mapping[str, str]) -> Entry:
    stated = {ties[site.name] for site in group if site.name in ties}
    owners = (site for site in group if site.name in stated and site.name not in ties)
    owner = next(owners, group[0])
    return Entry(owner, tuple(site for site in group if site is not owner))


def _check_ties(found: tuple[Entry, ...], ties: Mapping[str, str]) -> None:
    entry_of = {name: entry for entry in found for name in entry.names} if ties else {}
    for alias, owner in ties.items():
        apart = alias in entry_of and owner in entry_of and entry_of[alias] is not entry_of[owner]
        if apart:
            raise PlanError(
                f"plan: names stated as tied reach one parameter. Got {alias!r} and {owner!r} with "
                "a parameter each. Tie them in the model; or drop the pair from ties=, as recipes "
                "do with tied=False."
            )


def _check_overlap(found: tuple[Entry, ...]) -> None:
    """Refuse parameters that share some of their memory: each element has one writer."""
    held = [(entry, tensor) for entry in found for tensor in _stored(entry.owner)]
    meeting = shared([tensor for _, tensor in held])
    if meeting is not None:
        name, other = (held[place][0].name for place in meeting)
        raise PlanError(
            f"plan: each element has one writer. Got {name!r} and {other!r} over the same memory. "
            "Give one of them its own storage; or make them one parameter, of which forward takes "
            "the transpose or the part."
        )


def _stored(site: Site) -> tuple[torch.Tensor, ...]:
    """What is written for a site."""
    if site.through is None:
        return (site.tensor,)
    return tuple(original for _, original in site.through.originals)
