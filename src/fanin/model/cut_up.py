"""Parameters that cannot be planned for: they are no longer parameters of their own."""

from __future__ import annotations

from torch import Tensor

from fanin.errors import PlanError
from fanin.geometry import is_dtensor, partition
from fanin.model.site import Site

__all__ = ["check_not_cut_up"]


def check_not_cut_up(site: Site, tensor: Tensor) -> None:
    """Refuse a tensor of a site that is neither a whole parameter nor a DTensor.

    Raises:
        PlanError: for it.
    """
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
