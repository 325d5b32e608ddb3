"""The moments of a tensor that is there."""

from __future__ import annotations

import torch
from torch import Tensor

from fanin.flow.moments.axes import Axes, Role
from fanin.flow.moments.moments import Moments

__all__ = ["measured"]

_ENTRIES = 1 << 22  # of larger tensors the first samples and features are enough


def measured(tensor: Tensor, axes: Axes) -> Moments:
    """Averages over the entries, and over all pairs of positions and of samples.

    Args:
        tensor: of any dtype.
        axes: what its dims stand for.
    """
    x = _reduced(tensor.detach()).to(device="cpu", dtype=torch.float64)
    x = torch.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0)
    if not x.numel():
        return Moments.constant(0.0)
    mean, second = float(x.mean()), float(x.square().mean())
    positions = _dims(axes, "position")
    samples = _dims(axes, "sample")
    return Moments(
        mean,
        second,
        _neighbours(x, positions, mean, second),
        _products(x, positions, mean, second),
        _across(x, samples, positions, mean, second),
    )


def _products(x: Tensor, dims: list[int], mean: float, second: float) -> float:
    """E x x' over pairs of different indices in these dims."""
    count = _size(x, dims)
    if count < 2:
        return second if not dims else mean**2
    sums = x.sum(dims)
    own = x.square().sum(dims)
    return float((sums.square() - own).mean()) / (count * (count - 1))


def _across(
    x: Tensor, samples: list[int], positions: list[int], mean: float, second: float
) -> float:
    """E x x' over pairs of different samples, whatever the position."""
    if not samples:
        return _products(x, positions, mean, second)
    inner = x.mean(positions, keepdim=True) if positions else x
    return _products(inner, samples, mean, second)


def _neighbours(x: Tensor, dims: list[int], mean: float, second: float) -> float:
    """E x x' of indices that differ by one in one of these dims."""
    totals, count = 0.0, 0
    for dim in dims:
        size = x.shape[dim]
        if size > 1:
            product = x.narrow(dim, 0, size - 1) * x.narrow(dim, 1, size - 1)
            totals += float(product.sum())
            count += product.numel()
    if count:
        return totals / count
    return second if not dims else mean**2


def _dims(axes: Axes, role: Role) -> list[int]:
    """Dims that hold nothing but this role (entries are both); others count as features."""
    return [
        dim
        for dim, atoms in enumerate(axes)
        if atoms and atoms[0].role == role and all(atom.role in (role, "entry") for atom in atoms)
    ]


def _size(x: Tensor, dims: list[int]) -> int:
    total = 1
    for dim in dims:
        total *= x.shape[dim]
    return total


def _reduced(x: Tensor) -> Tensor:
    for dim in range(x.ndim):
        if x.numel() > _ENTRIES:
            keep = max(2, x.shape[dim] * _ENTRIES // x.numel())
            x = x.narrow(dim, 0, min(x.shape[dim], keep))
    return x
