"""Indices where they are needed: made on a device from a few numbers, rather than sent there."""

from __future__ import annotations

import torch
from torch import Tensor

from fanin.drawing.capturing import check_not_capturing

__all__ = ["beside"]

# Arithmetic progressions that are worth a launch each.
_FEW = 32


def beside(indices: Tensor, device: torch.device) -> Tensor:
    """The same indices on a device, of which nobody waits for anything.

    The indices of a shard are one arithmetic progression, or a few: numbers that a launch takes
    along. Others go through pinned memory, since a copy from any other memory may wait.

    Args:
        indices: one dim, int64, on the CPU.

    Raises:
        ArgumentError: while a CUDA graph is captured, for those that would have to be copied.
    """
    if device.type == "cpu":
        return indices
    spaced = _progressions(indices)
    if spaced is not None:
        none = torch.empty(0, dtype=torch.int64, device=device)
        made = [torch.arange(size, device=device) * step + start for start, step, size in spaced]
        return made[0] if len(made) == 1 else torch.cat([none, *made])
    if device.type != "cuda":
        return indices.to(device)
    rule = "indices, only make those of a few evenly spaced stretches"
    check_not_capturing(device, rule, f"{len(indices)} indices of more than {_FEW}")
    return indices.pin_memory().to(device, non_blocking=True)


def _progressions(indices: Tensor) -> list[tuple[int, int, int]] | None:
    """Start, step and size of each, in order; None for too many."""
    found: list[tuple[int, int, int]] = []
    while len(indices):
        if len(found) == _FEW:
            return None
        start = int(indices[0])
        step = int(indices[1]) - start if len(indices) > 1 else 1
        others = (indices != torch.arange(len(indices), device="cpu") * step + start).nonzero()
        size = int(others[0, 0]) if len(others) else len(indices)
        found.append((start, step, size))
        indices = indices[size:]
    return found
