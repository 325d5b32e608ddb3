"""What passes can be measured in: a model with values, whole on this process, run as Python."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from torch import nn
from torch.jit import ScriptModule

from fanin.errors import ArgumentError, PlanError
from fanin.geometry import is_dtensor, partition
from fanin.model import buffers, sites
from fanin.model.wrappers import unwrapped
from fanin.planning import Plan

__all__ = ["check_plan", "checked_model", "some"]


def checked_model(model: nn.Module, *, asked: str = "probe") -> nn.Module:
    """The model inside wrappers; messages say what was asked for.

    Raises:
        ArgumentError: for what is no module, for `torch.jit` programs, for sharded parameters.
        PlanError: for parameters and buffers without values.
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(
            f"{asked}: the model is an nn.Module. Got {type(model).__name__}. Wrap a function in a "
            "module that calls it."
        )
    model = unwrapped(model)
    programs = _programs(model)
    if programs:
        raise ArgumentError(
            f"{asked}: the modules run as Python, which a torch.jit program does not. Got one for "
            f"{some(programs) if programs[0] else 'all of it'}. {asked.capitalize()} the module it "
            "was made of."
        )
    _check_values(model, asked)
    return model


def check_plan(plan: Plan | None, model: nn.Module) -> None:
    """Refuse what is no plan, and the plan of another model."""
    if plan is None:
        return
    if not isinstance(plan, Plan):
        raise ArgumentError(
            f"probe: plan= is a Plan. Got {plan!r}. Make one with fanin.plan(model, recipe)."
        )
    known = {name for step in plan.steps for name in step.names}
    names = [site.name for site in sites(model)]
    if names and known.isdisjoint(names):
        raise ArgumentError(
            f"probe: plan= is the plan of this model. Got one for {some(sorted(known))}, and a "
            f"model with {some(names)}. Make it with fanin.plan(model, ...)."
        )


def some(names: Sequence[str]) -> str:
    """The first few."""
    shown = ", ".join(map(repr, names[:5]))
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown


def _programs(model: nn.Module) -> list[str]:
    """The outermost modules that torch.jit has scripted or traced."""
    found = [name for name, module in model.named_modules() if isinstance(module, ScriptModule)]
    return (
        found[:1] if found[:1] == [""] else [n for n in found if n.rpartition(".")[0] not in found]
    )


def _check_values(model: nn.Module, asked: str) -> None:
    lazy: list[str] = []
    sharded: list[str] = []
    meta: list[str] = []
    for site in chain(sites(model), buffers(model)):
        if site.is_lazy:
            lazy.append(site.name)
            continue
        tensor = site.tensor
        if is_dtensor(tensor) or partition(tensor) is not None:
            sharded.append(site.name)
        elif tensor.is_meta:
            meta.append(site.name)
    if lazy:
        raise PlanError(
            f"{asked}: every parameter has a shape. Got lazy ones: {some(lazy)}. Give them shapes "
            "with fanin.initialize(model, ..., example_inputs=...), or one forward pass."
        )
    if sharded:
        raise ArgumentError(
            f"{asked}: parameters and buffers are whole and of this process alone. Got pieces, or "
            f"DTensors, for {some(sharded)}. {asked.capitalize()} the model before it is sharded, "
            "or a narrower one of the same depth."
        )
    if meta:
        raise PlanError(
            f"{asked}: every parameter and buffer has values. Got the meta device for "
            f"{some(meta)}. Initialize the model first: fanin.initialize(model, recipe, "
            'device="cpu").'
        )
