"""DTensors: what the tensor of this process holds, told from placements, mesh and coordinate.

No process is asked anything, and no private name is used: `placements`, `device_mesh` and
`to_local` are public, and the placement that is not (``_StridedShard``, which FSDP2 makes on top
of tensor parallelism) is known by its ``split_factor``.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fanin.errors import ArgumentError
from fanin.geometry.runs import Runs, chunked, joined, length

__all__ = ["dtensor_runs", "is_dtensor", "local_tensor"]


def is_dtensor(tensor: Tensor) -> bool:
    """Whether a tensor is a DTensor; none can be where their module is not imported."""
    kind = getattr(sys.modules.get("torch.distributed.tensor"), "DTensor", None)
    return kind is not None and isinstance(tensor, kind)


def local_tensor(tensor: Tensor, shape: tuple[int, ...] | None = None) -> Tensor:
    """The tensor of this process behind a DTensor; an ordinary tensor is its own.

    ``shape`` is what one without elements gets: torch has several for it, (0, 0) for a (1, 0).
    """
    if not is_dtensor(tensor):
        return tensor
    sharded: Any = tensor
    with torch.no_grad():  # else a view that remembers where it is from
        local: Tensor = sharded.to_local()
    return local if shape is None or local.numel() else local.new_empty(shape)


def dtensor_runs(tensor: Tensor) -> tuple[Runs, ...]:
    """For each dim of a DTensor the runs of global indices that this process holds.

    Raises:
        ArgumentError: for a partial or unknown placement, and where the local tensor is not what
            the placements say.
    """
    sharded: Any = tensor
    mesh, placements = sharded.device_mesh, sharded.placements
    coordinate = mesh.get_coordinate()
    cuts = _cuts(placements, tuple(mesh.shape), coordinate or (0,) * mesh.ndim)
    if coordinate is None:
        return ((),) * tensor.dim()
    held = tuple(local_tensor(tensor).shape)
    ways = [
        tuple(
            way(size, [cut for cut in cuts if cut.dim == dim])
            for dim, size in enumerate(tensor.shape)
        )
        for way in (_held_by_fsdp, _held_by_placements)
    ]
    for runs in ways:
        expected = tuple(map(length, runs))
        if expected == held or math.prod(expected) == math.prod(held) == 0:
            return runs
    raise ArgumentError(
        f"Region.of: a local tensor has the shape that its placements give it. Got {held} instead "
        f"of {tuple(map(length, ways[-1]))} for a DTensor of shape {tuple(tensor.shape)}, placed "
        f"{tuple(placements)} on a mesh of {tuple(mesh.shape)}. Shard it with distribute_tensor, "
        "parallelize_module or fully_shard."
    )


@dataclass(frozen=True, slots=True)
class _Cut:
    """A dim is cut over an axis of the mesh, and this process has one of the chunks."""

    dim: int
    count: int
    index: int
    pieces: int  # of the dim, each of which is cut by itself
    is_strided: bool


def _cuts(placements: Sequence[Any], sizes: Sequence[int], coordinate: Sequence[int]) -> list[_Cut]:
    cuts = []
    for placement, size, index in zip(placements, sizes, coordinate, strict=True):
        if placement.is_replicate():
            continue
        is_strided = hasattr(placement, "split_factor")
        if not (is_strided or placement.is_shard()):
            raise ArgumentError(
                f"Region.of: over each axis of its mesh, a DTensor to fill is sharded or "
                f"replicated. Got {placement!r} in {tuple(placements)}. Redistribute it first: the "
                "terms of a sum have no values of their own."
            )
        pieces = placement.split_factor if is_strided else 1
        cuts.append(_Cut(placement.dim, size, index, pieces, is_strided))
    return cuts


def _held_by_placements(size: int, cuts: Sequence[_Cut]) -> Runs:
    """As `distribute_tensor` does it: the axes of the mesh in order, each cuts what is left."""
    runs: Runs = ((0, size),)
    for cut in cuts:
        pieces = [chunked(runs, cut.pieces, piece) for piece in range(cut.pieces)]
        chunks = [chunked(piece, cut.count, cut.index) for piece in pieces]
        runs = joined([run for chunk in chunks for run in chunk])
    return runs


def _held_by_fsdp(size: int, cuts: Sequence[_Cut]) -> Runs:
    """As FSDP2 does it over tensor parallelism: its axes come first in the mesh, and cut last.

    A strided placement says the same in the order of the mesh, as long as all chunks are even.
    Where they are not (9 rows over 4 x 2: process (3, 0) has none, (3, 1) has row 8, and by the
    placements it is the other way round), FSDP2 computes with what it cut. Local shapes tell the
    two apart but for rare cases (27 rows over 3 x 4), and only FSDP2 makes such placements.
    """
    strided = [cut for cut in cuts if cut.is_strided]
    plain = [cut for cut in cuts if not cut.is_strided]
    pieces = math.prod(cut.count for cut in plain)
    for cut in reversed(strided):
        if cut.pieces != pieces:
            return _held_by_placements(size, cuts)
        pieces *= cut.count
    runs: Runs = ((0, size),)
    for cut in (*plain, *reversed(strided)):
        runs = chunked(runs, cut.count, cut.index)
    return runs
