"""`Evidence`: all that an audit's checks may look at, gathered once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from torch import nn

from fanin.auditing.budget import Budget
from fanin.auditing.signals import Signals
from fanin.auditing.weights import Weight, weight_of
from fanin.errors import ArgumentError
from fanin.geometry import is_dtensor
from fanin.model import Entry, Site, buffers, entries, modules
from fanin.planning import Plan

__all__ = ["Evidence", "gather"]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of a model's start.

    Args:
        model: None for a checkpoint that was read without it.
        weights: its parameters that have memory, tied ones once, in registration order.
        buffers: likewise; of floating-point numbers.
        without_memory: names of parameters and buffers on the meta device, or lazy.
        signals: what a forward and a backward pass show; None without inputs.
        plan: what the weights should be; None without one.
        budget: of each statistical check; the audit sets it.
        notes: what the audit has to say besides findings.
    """

    model: nn.Module | None
    weights: tuple[Weight, ...]
    buffers: tuple[Weight, ...] = ()
    without_memory: tuple[str, ...] = ()
    signals: Signals | None = None
    plan: Plan | None = None
    budget: Budget = field(default_factory=lambda: Budget.for_checks(1))
    notes: tuple[str, ...] = ()

    @cached_property
    def modules(self) -> Mapping[str, nn.Module]:
        """Every module by its canonical name, in registration order; shared ones once."""
        places = modules(self.model) if self.model is not None else ()
        first = {id(module): name for name, module in reversed([*places])}
        return {name: module for name, module in places if first[id(module)] == name}

    @cached_property
    def by_name(self) -> Mapping[str, Weight]:
        """Weights and buffers by every name they have."""
        return {
            name: weight
            for weight in (*self.weights, *self.buffers)
            for name in (weight.name, *weight.aliases)
        }


def gather(model: nn.Module, *, plan: Plan | None = None) -> Evidence:
    """Read every parameter and every floating-point buffer of a model, once.

    Raises:
        ArgumentError: for a sharded model.
        PlanError: for one whose parameters are cut up, or overlap.
    """
    found = entries(model)
    places = tuple(site for site in buffers(model) if site.tensor.is_floating_point())
    _check_whole(entry.owner for entry in found)
    _check_whole(places)
    held = [entry for entry in found if not _lacks_memory(entry.owner)]
    return Evidence(
        model,
        tuple(weight_of(entry) for entry in held),
        tuple(weight_of(Entry(site)) for site in places if not site.tensor.is_meta),
        tuple(entry.name for entry in found if _lacks_memory(entry.owner)),
        plan=plan,
    )


def _lacks_memory(site: Site) -> bool:
    return site.is_lazy or site.tensor.is_meta


def _check_whole(found: Iterable[Site]) -> None:
    for site in found:
        if site.through is None and is_dtensor(site.tensor):
            raise ArgumentError(
                f"audit: parameters are whole on this process. Got a DTensor for {site.name!r}. "
                "Audit the model before sharding, or the checkpoint that was written of it."
            )
