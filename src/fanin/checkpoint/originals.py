"""The parameters behind a parametrized weight, for a value that is drawn."""

from __future__ import annotations

import torch
from torch import Tensor

from fanin.checkpoint.errors import CheckpointError
from fanin.errors import PlanError
from fanin.model import Parametrized, Site
from fanin.model.construction.meta_copy import meta_copy
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
    twin, _ = meta_copy(site.module, ())
    twin.to_empty(device="cpu")
    if dtype is not None:
        twin.to(dtype)
    through = parametrized(twin)[site.attribute]
    value = torch.empty(step.shape, dtype=step.dtype, device="cpu")
    step.draw(value)
    try:
        through.write(value)
    except PlanError as error:
        raise CheckpointError(f"{error}\nThis was asked for {step.name!r}.") from error
    return tuple(original.detach() for _, original in through.originals)


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
