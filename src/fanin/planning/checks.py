"""What must hold before a plan writes its first byte."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from fanin.drawing.targets import WriteError, check_writable, has_numbers
from fanin.errors import DtypeError, PlanError
from fanin.fills import Constant, Fill
from fanin.model import Entry, Site, buffers, sites
from fanin.model.view import identity
from fanin.planning.step import Step

__all__ = ["check_dtype", "check_parametrized", "writable"]


def writable(steps: Sequence[Step], model: nn.Module, *, prefix: str = "") -> list[Site]:
    """The place of each step in the model, after every check that needs no write.

    ``prefix`` is the name of the model in a larger one, for which the steps are named.

    Raises:
        PlanError: when names, ties, shapes or dtypes differ from the plan's, or when a tensor that
            is to be written has no memory or shares its elements.
    """
    places = {site.name: site for site in sites(model, prefix=prefix or None)}
    planned = {name for step in steps for name in step.names}
    places |= {site.name: site for site in buffers(model, prefix=prefix) if site.name in planned}
    _same_names(planned, set(places))
    for step in steps:
        site = places[step.name]
        if is_lazy(site.tensor):
            continue
        _as_planned(step, site.tensor, places)
        if step.fill is not None:
            _can_be_written(step, site)
    return [places[step.name] for step in steps]


def check_dtype(entry: Entry, fill: Fill, rule: str) -> None:
    """Refuse a dtype that cannot hold the fill: integers hold whole constants, and nothing random.

    Raises:
        PlanError: for a quantized parameter.
        DtypeError: for an integer one that would get other numbers than a whole one.
    """
    dtype = entry.owner.dtype
    if dtype.is_floating_point or dtype.is_complex:
        return
    where = f"for {entry.name!r}, matched by rule {rule!r}"
    if entry.tensor.is_quantized:
        raise PlanError(
            f"plan: a parameter to write is not quantized. Got {dtype} {where}. Initialize before "
            "quantizing, or leave it with keep()."
        )
    if not (isinstance(fill, Constant) and float(fill.value).is_integer()):
        raise DtypeError(
            f"plan: numbers are drawn for floating point and complex dtypes; integers hold whole "
            f"constants. Got {fill.name} and {dtype} {where}. Leave it with keep()."
        )


def check_parametrized(step: Step, site: Site) -> None:
    """Refuse a parametrized weight that would not hold what is drawn: it is drawn, and tried.

    Raises:
        PlanError: when what would be read back is something else.
    """
    if site.through is None or not has_numbers(site.tensor):
        return
    refusal = site.through.refusal(step.drawn_like(site.tensor))
    if refusal:
        raise PlanError(f"{refusal}\nThis was asked for {step.name!r} by rule {step.rule!r}.")


def _same_names(planned: set[str], present: set[str]) -> None:
    for names, what in ((planned - present, "lacks"), (present - planned, "also holds")):
        if names:
            listed = ", ".join(map(repr, sorted(names)))
            raise PlanError(
                f"apply: a plan is for the model it was made from. Got a model that {what} "
                f"{listed}. Make a new plan for it."
            )


def _as_planned(step: Step, tensor: torch.Tensor, places: Mapping[str, Site]) -> None:
    if step.is_pending:
        return
    if tuple(tensor.shape) != step.shape or tensor.dtype != step.dtype:
        raise PlanError(
            f"apply: a plan is for the model it was made from. Got {tuple(tensor.shape)} "
            f"{tensor.dtype} for {step.name!r}, planned as {step.shape} {step.dtype}. "
            "Make a new plan for it."
        )
    for alias in step.aliases:
        if identity(places[alias]) != identity(places[step.name]):
            raise PlanError(
                f"apply: a plan is for the model it was made from. Got {alias!r} and "
                f"{step.name!r} apart, planned as tied. Tie them again, or make a new plan."
            )


def _can_be_written(step: Step, site: Site) -> None:
    if site.tensor.is_meta:
        raise PlanError(
            f"apply: a parameter needs memory to be written. Got {step.name!r} on the meta device. "
            'Call fanin.initialize(model, recipe, device="cpu"), which gives it some.'
        )
    if not has_numbers(site.tensor):  # fake, under which everything goes through the motions
        return
    if site.through is not None:
        check_parametrized(step, site)
        return
    try:
        check_writable(repr(step.name), site.tensor)
    except WriteError as error:
        raise PlanError(f"apply: {error}") from error
