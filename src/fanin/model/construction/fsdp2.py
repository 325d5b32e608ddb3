"""What is asked of FSDP2: which modules it shards, and which of them have run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from fanin.errors import PlanError
from fanin.model.construction.conversion import converted_dtype

__all__ = ["check_not_settled", "is_fully_sharded"]


def is_fully_sharded(module: nn.Module) -> bool:
    """Whether `fully_shard` was called on a module; on none where it is not imported."""
    kind = getattr(sys.modules.get("torch.distributed.fsdp"), "FSDPModule", None)
    return kind is not None and isinstance(module, kind)


def check_not_settled(
    model: nn.Module, *, device: torch.device | None, dtype: torch.dtype | None
) -> None:
    """Refuse a conversion after which an FSDP2 model could not run again.

    FSDP2 settles the dtype and device of its gathered parameters with its first forward pass or
    `unshard`. From then on ``model.to(torch.bfloat16)`` leaves it gathering float32.

    Raises:
        PlanError: when a parameter would get another dtype or device than it has.
    """
    for name, module in model.named_modules():
        for parameter in _settled(module):
            if converted_dtype(parameter.dtype, dtype) != parameter.dtype:
                asked = f"dtype={dtype} for parameters in {parameter.dtype}"
            elif device is not None and _is_elsewhere(device, parameter.device):
                asked = f"device={str(device)!r} for parameters on {parameter.device}"
            else:
                continue
            raise PlanError(
                "materialize: FSDP2 settles dtype and device of a model with its first forward "
                f"pass. Got {asked} of {name or 'the model'!r}, which has run. Ask for it before "
                "the first forward pass, or leave it out."
            )


def _settled(module: nn.Module) -> Iterator[nn.Parameter]:
    """The sharded parameters of an FSDP2 module that gathers them in what they were at first.

    Private: nothing public tells whether a module has run.
    """
    if not is_fully_sharded(module):
        return
    sharded: Any = module
    state = sharded._get_fsdp_state()
    groups = getattr(state, "_fsdp_param_groups", None) or [state._fsdp_param_group]  # older: one
    for group in filter(None, groups):
        for held in group.fsdp_params:
            if hasattr(held, "orig_dtype"):  # set when it is settled
                yield held.sharded_param


def _is_elsewhere(asked: torch.device, present: torch.device) -> bool:
    return asked.type != present.type or asked.index not in (None, present.index)
