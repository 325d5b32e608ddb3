"""Parameters that are no longer parameters of their own: flattened by FSDP1, partitioned by ZeRO-3.

FSDP1 tells only by private names what it made of a model. Here are all that are needed; a test
runs each case with the FSDP1 of the installed torch.
"""

from __future__ import annotations

import sys
from typing import Any

from torch import Tensor

from fanin.errors import PlanError
from fanin.geometry import is_dtensor, partition
from fanin.model.site import Site

__all__ = ["check_not_cut_up"]

_FSDP1 = (
    "Shard with fully_shard (FSDP2); initialize before wrapping; or inside "
    "`with FullyShardedDataParallel.summon_full_params(model):`."
)


def check_not_cut_up(site: Site, tensor: Tensor) -> None:
    """Refuse a tensor of a site that is neither a whole parameter nor a DTensor.

    Raises:
        PlanError: for it.
    """
    if _is_flat(tensor):
        raise PlanError(
            "plan: every parameter has its own name and axes. Got a FlatParameter, in which FSDP "
            f"joins several, for {site.name!r}. {_FSDP1}"
        )
    if _is_flat_piece(site, tensor):
        raise PlanError(
            "plan: a parameter to plan is whole, or a DTensor. Got a flat piece, of shape "
            f"{tuple(tensor.shape)}, that FSDP left of {site.name!r}. {_FSDP1}"
        )
    part = partition(tensor)
    if part is not None:
        raise PlanError(
            f"plan: a parameter to plan is whole, or a DTensor. Got {site.name!r}, {part}."
        )
    if site.through is not None and is_dtensor(tensor):
        raise PlanError(
            "plan: what a parametrized weight is made of is whole on each process, since it is "
            f"computed and read back. Got DTensors for {site.name!r}. Initialize before sharding."
        )


def _is_flat(tensor: Tensor) -> bool:
    fsdp = sys.modules.get("torch.distributed.fsdp._flat_param")  # else there is no instance
    return fsdp is not None and isinstance(tensor, fsdp.FlatParameter)


def _is_flat_piece(site: Site, tensor: Tensor) -> bool:
    """Whether FSDP1 has left a 1-D piece of a parameter, as it does with ``use_orig_params``.

    The mark stays while FSDP has the parameters unsharded, so its handle is asked; without the
    wrapper in sight nobody knows.
    """
    if not getattr(tensor, "_fsdp_flattened", False):
        return False
    fsdp: Any = sys.modules.get("torch.distributed.fsdp.fully_sharded_data_parallel")
    wrappers = [
        parent for parent in site.parents if isinstance(parent, fsdp.FullyShardedDataParallel)
    ]
    handle: Any = wrappers[-1]._handle if wrappers else None
    return handle is None or handle.is_sharded(handle.flat_param)
