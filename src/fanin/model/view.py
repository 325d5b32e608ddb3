"""What a model holds: each parameter once, under every canonical name it has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from fanin.errors import PlanError
from fanin.model.wrappers import wrapped_attribute

__all__ = ["Entry", "Site", "entries", "sites"]


@dataclass(frozen=True, eq=False, slots=True)
class Site:
    """One place where a parameter hangs.

    Args:
        name: canonical name; a wrapper such as DDP contributes no component to it.
        module: the module that registered the parameter.
        attribute: under which name it did.
        parents: the modules from the root down to ``module``, both included.
        tensor: the parameter.
    """

    name: str
    module: nn.Module
    attribute: str
    parents: tuple[nn.Module, ...]
    tensor: nn.Parameter

    @property
    def is_parametrized(self) -> bool:
        """Whether the tensor is what a parametrization computes a weight from."""
        return isinstance(self.module, ParametrizationList)


@dataclass(frozen=True, eq=False, slots=True)
class Entry:
    """One parameter: the site that owns it, and the other names it is reached by."""

    owner: Site
    aliases: tuple[str, ...]

    @property
    def name(self) -> str:
        """Canonical name of the owner."""
        return self.owner.name

    @property
    def names(self) -> tuple[str, ...]:
        """Every name, the owner's first."""
        return (self.owner.name, *self.aliases)

    @property
    def tensor(self) -> nn.Parameter:
        """The parameter itself."""
        return self.owner.tensor


def entries(model: nn.Module, *, ties: Mapping[str, str] | None = None) -> tuple[Entry, ...]:
    """The parameters of a model in registration order, tied ones as one entry.

    Two names are one entry when they reach the same `Parameter`, or two parameters that look at
    exactly the same memory.

    Args:
        model: any module.
        ties: alias to owner; without it the first name owns.

    Raises:
        PlanError: when two parameters have one canonical name, when parameters share memory
            only in part, or when two names are stated as tied and are not.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        >>> model[1].weight = model[0].weight
        >>> [entry.names for entry in entries(model)]
        [('0.weight', '1.weight'), ('0.bias',), ('1.bias',)]
    """
    groups: dict[object, list[Site]] = {}
    seen: dict[str, Site] = {}
    for site in sites(model):
        if site.name in seen:
            raise PlanError(
                f"plan: each parameter has a name of its own. Got two called {site.name!r} once "
                "wrappers are left out. Rename the attribute of one of them."
            )
        seen[site.name] = site
        groups.setdefault(_identity(site.tensor), []).append(site)
    found = tuple(_entry(group, ties or {}) for group in groups.values())
    _check_ties(found, ties or {})
    _check_overlap(found)
    return found


def sites(model: nn.Module) -> Iterator[Site]:
    """Every place where a parameter hangs, in registration order, shared ones at each place."""
    yield from _walk(model, "", ())


def _walk(module: nn.Module, prefix: str, parents: tuple[nn.Module, ...]) -> Iterator[Site]:
    if any(module is parent for parent in parents):
        return
    parents = (*parents, module)
    for attribute, tensor in module._parameters.items():
        if tensor is not None:
            yield Site(prefix + attribute, module, attribute, parents, tensor)
    wrapped = wrapped_attribute(module)
    for name, child in module._modules.items():
        if child is not None:
            yield from _walk(child, prefix if name == wrapped else f"{prefix}{name}.", parents)


def _identity(tensor: torch.Tensor) -> object:
    """Equal for two tensors that are the same object or look at the same memory."""
    address = _address(tensor)
    if address is None:
        return id(tensor)
    return (address, tensor.device, tensor.dtype, tensor.shape, tensor.stride())


def _address(tensor: torch.Tensor) -> int | None:
    """Where the first element lies; None where there is no memory of its own to compare."""
    if tensor.layout != torch.strided or tensor.device.type == "meta":
        return None
    if nn.parameter.is_lazy(tensor):
        return None
    try:
        return (tensor.data_ptr() or None) if tensor.numel() else None
    except RuntimeError:  # a wrapper subclass has no pointer
        return None


def _entry(group: list[Site], ties: Mapping[str, str]) -> Entry:
    if len(group) == 1:
        return Entry(group[0], ())
    stated = {ties[site.name] for site in group if site.name in ties}
    owners = (site for site in group if site.name in stated and site.name not in ties)
    owner = next(owners, group[0])
    return Entry(owner, tuple(site.name for site in group if site is not owner))


def _check_ties(found: tuple[Entry, ...], ties: Mapping[str, str]) -> None:
    entry_of = {name: entry for entry in found for name in entry.names}
    for alias, owner in ties.items():
        apart = alias in entry_of and owner in entry_of and entry_of[alias] is not entry_of[owner]
        if apart:
            raise PlanError(
                f"plan: names stated as tied reach one parameter. Got {alias!r} and {owner!r} with "
                "a parameter each. Tie them in the model, or drop the pair from ties=."
            )


def _check_overlap(found: tuple[Entry, ...]) -> None:
    """Refuse contiguous parameters that share some of their memory: one writer each."""
    spans = []
    for entry in found:
        address = _address(entry.tensor)
        if address is not None and entry.tensor.is_contiguous():
            end = address + entry.tensor.numel() * entry.tensor.element_size()
            spans.append((str(entry.tensor.device), address, end, entry.name))
    spans.sort()
    for (device, _, end, name), (next_device, start, _, other) in pairwise(spans):
        if device == next_device and start < end:
            raise PlanError(
                f"plan: each element has one writer. Got {name!r} and {other!r} over the same "
                "memory. Give one of them its own storage, or make them one parameter."
            )
