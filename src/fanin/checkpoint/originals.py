"""The parameters behind a parametrized weight, for a value that is drawn."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from fanin.checkpoint.errors import CheckpointError
from fanin.errors import PlanError
from fanin.model import Parametrized, Site
from fanin.model.construction import materialize
from fanin.model.parametrized import parametrized
from fanin.planning import Step

__all__ = ["drawn_originals"]


def drawn_originals(step: Step, site: Site, dtype: torch.dtype | None) -> tuple[Tensor, ...]:
    """What the weight of a module would be computed from after the step; the module stays.

    The value goes through ``right_inverse`` of a twin of the module, which is read back as
    `Plan.apply` does it.

    Raises:
        CheckpointError: for a parametrization with state of its own (the vectors of
            ``spectral_norm``), or one that cannot hold the value.
    """
    assert site.through is not None
    _check_stateless(step, site, site.through)
    twin = _twin(site.module)
    materialize(twin, device="cpu", dtype=dtype)
    through = parametrized(twin)[site.attribute]
    value = torch.empty(step.shape, dtype=step.dtype, device="cpu")
    step.draw(value)
    try:
        through.write(value)
    except PlanError as error:
        raise CheckpointError(f"{error}\nThis was asked for {step.name!r}.") from error
    return tuple(original.detach() for _, original in through.originals)


def _twin(module: nn.Module) -> nn.Module:
    """A copy that computes what the module does: only its parameters have no values."""
    memo: dict[int, Any] = {
        id(each): nn.Parameter(torch.empty_like(each, device="cpu"), each.requires_grad)
        for each in module.parameters()
    }
    for each in vars(module).values():
        if isinstance(each, Tensor):  # what an older hook computed cannot be deep-copied
            memo[id(each)] = each.detach().clone()
    return copy.deepcopy(module, memo)


def _check_stateless(step: Step, site: Site, through: Parametrized) -> None:
    originals = {name for name, _ in through.originals}
    prefix = f"parametrizations.{site.attribute}."
    own = [n for n in site.module.state_dict() if n.startswith(prefix) and n not in originals]
    if own or through.note:
        raise CheckpointError(
            "write_checkpoint: a parametrized weight follows from its originals alone. Got "
            f"{step.name!r}, whose parametrization keeps other state. Initialize the model in "
            "memory and save it, or leave this weight with keep()."
        )
