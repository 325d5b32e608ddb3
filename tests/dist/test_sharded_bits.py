"""A shard has the numbers of the whole: every initializer, placement and number of processes."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Iterable, Iterator
from functools import cache, partial
from pathlib import Path

import pytest
import torch
from processes import run
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard, distribute_tensor

from fanin import fills
from fanin.drawing import draw
from fanin.geometry import Region, local_tensor
from fanin.initializers import from_function, mapped, normal, parse
from fanin.stream import Key

sys.path.append(str(Path(__file__).parents[1] / "contract"))
from initializers_table import ROWS

KEY = Key(0, "blocks.0.weight")
Shape = tuple[int, ...]

MESHES: dict[int, list[Shape]] = {
    1: [(1,)],
    2: [(2,)],
    3: [(3,)],
    4: [(4,), (2, 2)],
    8: [(8,), (4, 2), (2, 4), (2, 2, 2)],
}
AXES = ("copies", "shards", "tp")


def square(values: Tensor) -> Tensor:
    return values * values


def steep(values: Tensor) -> Tensor:
    """Infinite, or finite and beyond bfloat16: each entry is rounded as if it were alone."""
    return torch.where(values > 0, torch.inf, 3.4e38)


def cumulative(tensor: Tensor, generator: torch.Generator) -> None:
    tensor.copy_(torch.randn(tensor.shape, generator=generator).cumsum(0))


def cases() -> list[tuple[fills.Fill, Shape]]:
    """Each row of the contract, packed parts, an odd shape, experts, users' functions."""
    table = [(parse(row.text).resolve(row.layout), row.layout.shape) for row in ROWS]
    qkv = [
        fills.Part("q", 0, 3, fills.Normal(0.0, 1.0)),
        fills.Part("k", 3, 4, fills.Constant(2.0)),
        fills.Part("v", 5, 9, fills.Orthogonal()),
    ]
    others: list[tuple[fills.Fill, Shape]] = [
        (fills.Packed(0, tuple(qkv)), (9, 6)),
        (fills.Rearranged(fills.Orthogonal(2.0), (0, 2, 1), groups=3), (9, 4)),
        (fills.Orthogonal(1.0, 1), (5, 7, 3)),
        (fills.Orthogonal(), (6, 6)),
        (fills.Sparse(0.5, 1.0, dim=0), (7, 5)),
        (fills.Normal(0.0, 1.0), (13, 11)),
        (fills.Normal(0.0, 1.0), (0, 3)),
        (mapped(normal(), square).resolve(ROWS[0].layout), (7, 3)),
        (mapped(normal(), steep).resolve(ROWS[0].layout), (7, 3)),
        (from_function(cumulative).resolve(ROWS[0].layout), (7, 3)),
    ]
    return table + others


@cache
def wholes(dtype: torch.dtype) -> dict[Shape, list[tuple[fills.Fill, Tensor]]]:
    """By shape, each fill and what one machine draws."""
    drawn: dict[Shape, list[tuple[fills.Fill, Tensor]]] = {}
    for fill, shape in cases():
        whole = torch.full(shape, 7.0, dtype=dtype)
        draw(fill, KEY, Region.whole(shape), whole)
        drawn.setdefault(shape, []).append((fill, whole))
    return drawn


def is_a_product(fill: fills.Fill) -> bool:
    if isinstance(fill, fills.Rearranged):
        return is_a_product(fill.base)
    if isinstance(fill, fills.Packed):
        return any(is_a_product(part.fill) for part in fill.parts)
    return isinstance(fill, fills.Orthogonal | fills.DeltaOrthogonal)


def numbered(shape: Shape) -> Tensor:
    """With the index of each element for its value, so that torch says where its shards are."""
    return torch.arange(math.prod(shape), dtype=torch.float64).view(shape)


def distributed(shapes: Iterable[Shape], mesh: DeviceMesh) -> Iterator[DTensor]:
    """With all placements; over three axes those that differ by more than their order."""
    for shape in shapes:
        each: list[Placement] = [Replicate(), *map(Shard, range(len(shape)))]
        for placements in itertools.product(each, repeat=mesh.ndim):
            if mesh.ndim < 3 or [*placements] == sorted(placements, key=each.index):
                yield distribute_tensor(numbered(shape), mesh, placements, src_data_rank=None)


def by_fsdp_over_tp(shapes: Iterable[Shape], mesh: DeviceMesh) -> Iterator[DTensor]:
    """A dim over the last axis of the mesh, then the same or another one over those before.

    Of the same dim FSDP2 makes strided shards.
    """
    *_, shards, tp = mesh.shape
    outer = mesh[AXES[:2]] if mesh.ndim > 2 else mesh["shards"]
    for first, second in itertools.product(range(4), repeat=2):
        pieces = shards * tp if first == second else shards
        module = nn.ParameterList(
            distribute_tensor(numbered(shape), mesh["tp"], [Shard(first)], src_data_rank=None)
            for shape in shapes
            if max(first, second) < len(shape)
            and (second == 0 or shape[second] % pieces == 0)  # FSDP2 refuses uneven columns
        )
        if len(module):
            placement = Shard(second)
            fully_shard(module, mesh=outer, shard_placement_fn=partial(always, placement))
            yield from module


def always(placement: Shard, parameter: nn.Parameter) -> Shard:
    return placement


def check_every_case(meshes: list[Shape]) -> int:
    """Compare with what torch's own sharding takes of the whole."""
    count = 0
    for sizes in meshes:
        mesh = init_device_mesh("cpu", sizes, mesh_dim_names=AXES[3 - len(sizes) :])
        dtypes = (torch.float32, torch.bfloat16) if len(sizes) == 1 else (torch.float32,)
        shapes = wholes(torch.float32).keys()
        strided = by_fsdp_over_tp(shapes, mesh) if len(sizes) > 1 else ()
        for theirs in itertools.chain(distributed(shapes, mesh), strided):
            region = Region.of(theirs)
            places = local_tensor(theirs.detach(), region.local_shape).long()
            for dtype in dtypes:
                for fill, whole in wholes(dtype)[theirs.shape]:
                    local = torch.full(places.shape, 7.0, dtype=dtype)
                    ours = DTensor.from_local(
                        local,
                        theirs.device_mesh,
                        theirs.placements,
                        shape=theirs.shape,
                        stride=theirs.stride(),
                    )
                    draw(fill, KEY, region, ours)
                    compare(fill, local, whole.flatten()[places], theirs)
                    count += 1
    return count


def compare(fill: fills.Fill, ours: Tensor, theirs: Tensor, held: DTensor) -> None:
    near = 0.0
    if is_a_product(fill):
        near = 2 * 4e-6  # gain 2
        if ours.dtype == torch.bfloat16:
            near += 2 * torch.finfo(ours.dtype).eps
    same = torch.equal(ours, theirs) or bool(((ours - theirs).abs() <= near).all())
    assert same, (fill, held.shape, held.placements, held.device_mesh, ours, theirs)


@pytest.mark.parametrize("world_size", MESHES)
def test_shards_have_the_bits_of_the_whole(world_size: int) -> None:
    meshes = MESHES[world_size]
    counts = run(world_size, check_every_case, meshes)
    assert len(set(counts)) == 1
    assert counts[0] > len(cases()) * len(meshes)
