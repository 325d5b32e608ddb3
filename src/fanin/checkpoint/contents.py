"""What a checkpoint stores: tensors that are drawn, and tensors whose value is at hand."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from fanin.checkpoint.errors import CheckpointError
from fanin.checkpoint.originals import drawn_originals
from fanin.geometry import is_dtensor
from fanin.model import Site, buffers, sites
from fanin.model.construction import converted_dtype
from fanin.planning import Plan, Step

__all__ = ["Stored", "contents", "contents_of_plan"]


@dataclass(frozen=True, eq=False, slots=True)
class Stored:
    """One tensor of a checkpoint.

    Args:
        name: under which it is stored.
        aliases: other names of the same tensor, under which it is not.
        shape: of the whole tensor.
        dtype: in which it is stored.
        step: draws every element; None for a tensor whose value is at hand.
        value: what a constructor computed, or what a parametrized weight is computed from.
    """

    name: str
    aliases: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: torch.dtype
    step: Step | None = None
    value: Tensor | None = None

    @property
    def numel(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """How many bytes they take."""
        return self.numel * self.dtype.itemsize


def contents(
    model: nn.Module, plan: Plan, *, dtype: torch.dtype | None, tied: Collection[str] = ()
) -> tuple[Stored, ...]:
    """The state of a model: its parameters in the order of the plan, then its persistent buffers.

    Names are canonical: a wrapper such as DDP contributes no component. Nothing of the model is
    written.

    Args:
        model: what the plan was made for, with or without memory.
        plan: whose dtypes are those to store.
        dtype: of values at hand that are floating-point; None keeps theirs.
        tied: names under which a tied tensor is not stored, where it has another.

    Raises:
        CheckpointError: when the model is another than the plan's, when a value that is to be kept
            is not there, or when the model's state holds more than parameters and buffers.
    """
    held = tuple(buffers(model, prefix=plan.prefix))
    places = {site.name: site for site in (*sites(model, prefix=plan.prefix), *held)}
    planned = {name for step in plan.steps for name in step.names}
    _check_model(plan, places)
    found = [each for step in plan.steps for each in _of_step(step, places, dtype)]
    for site in held:
        if site.stored and site.name not in planned:
            found.append(_at_hand((site.name,), site.tensor, dtype))
    _check_state(model, [*places.values()])
    return tuple(_named(each, tied) for each in found)


def contents_of_plan(plan: Plan) -> tuple[Stored, ...]:
    """The tensors of a plan alone, all of which it must draw.

    Raises:
        CheckpointError: when the plan leaves something as it is.
    """
    for step in plan.steps:
        _check_shape_is_known(step)
        if not step.is_complete:
            raise _no_value(step.name, "what a plan leaves as it is has a value in the model")
        if step.note:
            raise CheckpointError(
                f"write_checkpoint: a parametrized weight is stored as what it is computed from. "
                f"Got {step.name!r} in a plan without its model. Pass the model."
            )
    return tuple(
        Stored(step.name, step.aliases, step.shape, step.dtype, step=step) for step in plan.steps
    )


def _of_step(step: Step, places: Mapping[str, Site], dtype: torch.dtype | None) -> Iterator[Stored]:
    site = places[step.name]
    if not any(places[name].stored for name in step.names):  # a non-persistent buffer
        return
    if site.through is not None:
        values: Iterator[Tensor]
        if step.fill is None:
            values = (tensor for _, tensor in site.through.originals)
        else:
            values = iter(drawn_originals(step, site, dtype))
        names = zip(*(_originals(places[name]) for name in step.names), strict=True)
        for group, value in zip(names, values, strict=True):
            yield _at_hand(group, value, dtype)
    elif step.is_complete:
        yield Stored(step.name, step.aliases, step.shape, step.dtype, step=step)
    else:
        kept = _at_hand(step.names, site.tensor, dtype)
        if step.fill is not None and kept.value is not None:  # parts of it are drawn
            value = kept.value.detach().clone(memory_format=torch.contiguous_format)
            step.draw(value)
            kept = replace(kept, value=value)
        yield kept


def _originals(site: Site) -> list[str]:
    """The names of what a parametrized weight is computed from."""
    assert site.through is not None
    prefix = site.name.removesuffix(site.attribute)
    return [prefix + name for name, _ in site.through.originals]


def _at_hand(names: tuple[str, ...], tensor: Tensor, dtype: torch.dtype | None) -> Stored:
    if is_lazy(tensor) or tensor.is_meta:
        raise _no_value(names[0], "what is kept, skipped or a buffer has a value")
    if is_dtensor(tensor):
        raise CheckpointError(
            "write_checkpoint: a value that is kept is whole in every process. Got the DTensor "
            f"{names[0]!r}. Let a rule write it, or keep it as an ordinary tensor."
        )
    if tensor.layout is not torch.strided:
        raise CheckpointError(
            f"write_checkpoint: a checkpoint holds dense tensors. Got the layout {tensor.layout} "
            f"for {names[0]!r}. Store it as a non-persistent buffer, or make it dense."
        )
    value = tensor.detach().to(converted_dtype(tensor.dtype, dtype))
    return Stored(names[0], names[1:], tuple(value.shape), value.dtype, value=value)


def _named(stored: Stored, tied: Collection[str]) -> Stored:
    names = (stored.name, *stored.aliases)
    name = next((name for name in names if name not in tied), stored.name)
    return replace(stored, name=name, aliases=tuple(other for other in names if other != name))


def _no_value(name: str, rule: str) -> CheckpointError:
    return CheckpointError(
        f"write_checkpoint: {rule}. Got {name!r} without memory. Build the model under "
        "fanin.deferred(), which keeps what constructors compute; or let a rule write it."
    )


def _check_shape_is_known(step: Step) -> None:
    if step.is_pending:
        raise CheckpointError(
            f"write_checkpoint: a tensor to store has a shape. Got {step.name!r} of a lazy module. "
            "Build the model with its sizes, or run one forward pass first."
        )


def _check_model(plan: Plan, places: Mapping[str, Site]) -> None:
    planned = {name for step in plan.steps for name in step.names}
    parameters = {name for name, site in places.items() if not site.is_buffer}
    apart = sorted((planned - set(places)) | (parameters - planned))
    if apart:
        raise CheckpointError(
            "write_checkpoint: a plan is for the model it was made from. Got only one of the two "
            f"with {', '.join(map(repr, apart[:5]))}. Make a new plan for this model."
        )
    for step in plan.steps:
        _check_shape_is_known(step)
        shape = tuple(places[step.name].shape)
        if shape != step.shape:
            raise CheckpointError(
                f"write_checkpoint: a plan is for the model it was made from. Got {step.name!r} "
                f"of shape {shape}, planned as {step.shape}. Make a new plan for this model."
            )


def _check_state(model: nn.Module, places: Collection[Site]) -> None:
    """Refuse what the model would save and is no parameter or buffer of it."""
    known = {name for site in places for name in site.stored}
    others = sorted(set(model.state_dict()) - known)
    if others:
        raise CheckpointError(
            "write_checkpoint: a checkpoint holds parameters and persistent buffers. Got "
            f"{', '.join(map(repr, others[:5]))} in the model's state. Drop the hook or "
            "get_extra_state() that adds it."
        )
