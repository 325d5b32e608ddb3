"""What must hold before a plan writes its first byte."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from fanin.drawing.targets import WriteError, check_writable
from fanin.errors import PlanError
from fanin.model import sites
from fanin.planning.step import Step

__all__ = ["writable"]


def writable(steps: Sequence[Step], model: nn.Module) -> list[torch.Tensor]:
    """The tensor of each step, after every check that needs no write.

    Raises:
        PlanError: when names, ties, shapes or dtypes differ from the plan's, or when a tensor that
            is to be written has no memory or shares its elements.
    """
    tensors = {site.name: site.tensor for site in sites(model)}
    planned = {name for step in steps for name in step.names}
    _same_names(planned, set(tensors))
    for step in steps:
        tensor = tensors[step.name]
        _as_planned(step, tensor, tensors)
        if step.fill is not None:
            _can_be_written(step.name, tensor)
    return [tensors[step.name] for step in steps]


def _same_names(planned: set[str], present: set[str]) -> None:
    for names, what in ((planned - present, "lacks"), (present - planned, "also holds")):
        if names:
            listed = ", ".join(map(repr, sorted(names)))
            raise PlanError(
                f"apply: a plan is for the model it was made from. Got a model that {what} "
                f"{listed}. Make a new plan for it."
            )


def _as_planned(step: Step, tensor: torch.Tensor, tensors: dict[str, nn.Parameter]) -> None:
    if tuple(tensor.shape) != step.shape or tensor.dtype != step.dtype:
        raise PlanError(
            f"apply: a plan is for the model it was made from. Got {tuple(tensor.shape)} "
            f"{tensor.dtype} for {step.name!r}, planned as {step.shape} {step.dtype}. "
            "Make a new plan for it."
        )
    for alias in step.aliases:
        other = tensors[alias]
        same_memory = other.device.type != "meta" and other.data_ptr() == tensor.data_ptr()
        if other is not tensor and not same_memory:
            raise PlanError(
                f"apply: a plan is for the model it was made from. Got {alias!r} and "
                f"{step.name!r} apart, planned as tied. Tie them again, or make a new plan."
            )


def _can_be_written(name: str, tensor: torch.Tensor) -> None:
    if tensor.device.type == "meta":
        raise PlanError(
            f"apply: a parameter needs memory to be written. Got {name!r} on the meta device. "
            'Call model.to_empty(device="cpu") first: every parameter is written after it, '
            "but buffers are not."
        )
    if tensor.is_quantized:
        raise PlanError(
            f"apply: a parameter to write is not quantized. Got {tensor.dtype} for {name!r}. "
            "Leave it with keep()."
        )
    try:
        check_writable(repr(name), tensor)
    except WriteError as error:
        raise PlanError(f"apply: {error}") from error
