"""A shard has the numbers of the whole: every initializer, placement and number of processes."""

from __future__ import annotations

import itertools
import math
import sys
from pathlib import Path

import pytest
import torch
from processes import run
from torch import Tensor
from torch.distributed.tensor import Placement, Replicate, Shard, distribute_tensor

from fanin import fills
from fanin.drawing import draw
from fanin.geometry import Region
from fanin.initializers import from_function, mapped, normal, parse
from fanin.stream import Key

sys.path.append(str(Path(__file__).parents[1] / "contract"))
from initializers_table import ROWS

MESHES = {1: [(1,)], 2: [(2,)], 3: [(3,)], 4: [(4,), (2, 2)], 8: [(2, 2, 2)]}


def square(values: Tensor) -> Tensor:
    return values * values


def cumulative(tensor: Tensor, generator: torch.Generator) -> None:
    tensor.copy_(torch.randn(tensor.shape, generator=generator).cumsum(0))


def cases() -> list[tuple[fills.Fill, tuple[int, ...]]]:
    """Each row of the contract, packed parts, an odd shape, experts, users' functions."""
    table = [(parse(row.text).resolve(row.layout), row.layout.shape) for row in ROWS]
    qkv = [
        fills.Part("q", 0, 3, fills.Normal(0.0, 1.0)),
        fills.Part("k", 3, 4, fills.Constant(2.0)),
        fills.Part("v", 5, 9, fills.Orthogonal()),
    ]
    others: list[tuple[fills.Fill, tuple[int, ...]]] = [
        (fills.Packed(0, tuple(qkv)), (9, 6)),
        (fills.Rearranged(fills.Orthogonal(2.0), (0, 2, 1), groups=3), (9, 4)),
        (fills.Orthogonal(1.0, 1), (5, 7, 3)),
        (fills.Orthogonal(), (6, 6)),
        (fills.Sparse(0.5, 1.0, dim=0), (7, 5)),
        (fills.Normal(0.0, 1.0), (13, 11)),
        (fills.Normal(0.0, 1.0), (0, 3)),
        (mapped(normal(), square).resolve(ROWS[0].layout), (7, 3)),
        (from_function(cumulative).resolve(ROWS[0].layout), (7, 3)),
    ]
    return table + others


def is_a_product(fill: fills.Fill) -> bool:
    if isinstance(fill, fills.Rearranged):
        return is_a_product(fill.base)
    if isinstance(fill, fills.Packed):
        return any(is_a_product(part.fill) for part in fill.parts)
    return isinstance(fill, fills.Orthogonal | fills.DeltaOrthogonal)


def check_every_case(world_size: int) -> int:
    count = 0
    key = Key(0, "blocks.0.weight")
    for sizes in MESHES[world_size]:
        mesh = torch.distributed.init_device_mesh("cpu", sizes)
        for fill, shape in cases():
            for dtype in (torch.float32, torch.bfloat16) if len(sizes) == 1 else (torch.float32,):
                whole = torch.full(shape, 7.0, dtype=dtype)
                draw(fill, key, Region.whole(shape), whole)
                for placements in placements_of(len(shape), len(sizes)):
                    theirs = distribute_tensor(whole, mesh, placements, src_data_rank=None)
                    blank = torch.full(shape, 7.0, dtype=dtype)
                    ours = distribute_tensor(blank, mesh, placements, src_data_rank=None)
                    draw(fill, key, Region.of(ours), ours)
                    rounding = torch.finfo(dtype).eps if dtype == torch.bfloat16 else 0.0
                    near = 2 * 4e-6 + 2 * rounding if is_a_product(fill) else 0.0  # gain 2
                    torch.testing.assert_close(
                        ours.to_local(),
                        theirs.to_local(),
                        rtol=0,
                        atol=near,
                        msg=lambda text, at=(fill, shape, sizes, placements): f"{at}: {text}",
                    )
                    count += 1
    return count


def placements_of(num_dims: int, num_axes: int) -> list[tuple[Placement, ...]]:
    """All of them; over three axes those that differ by more than their order."""
    each: list[Placement] = [Replicate(), *map(Shard, range(num_dims))]
    if num_axes < 3:
        return list(itertools.product(each, repeat=num_axes))
    return [tuple(chosen) for chosen in itertools.combinations_with_replacement(each, num_axes)]


@pytest.mark.parametrize("world_size", MESHES)
def test_shards_have_the_bits_of_the_whole(world_size: int) -> None:
    counts = run(world_size, check_every_case, world_size)
    assert len(set(counts)) == 1
    assert counts[0] > math.prod((len(cases()), len(MESHES[world_size])))
