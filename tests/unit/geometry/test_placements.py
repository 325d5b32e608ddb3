"""What a DTensor holds, against what torch itself gives each process; none is started for it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import (
    DTensor,
    Partial,
    Placement,
    Replicate,
    Shard,
    distribute_tensor,
)
from torch.distributed.tensor.placement_types import _StridedShard
from torch.testing._internal.distributed.fake_pg import FakeStore

from fanin.errors import ArgumentError
from fanin.geometry import Region, is_dtensor, local_tensor
from fanin.geometry.placements import dtensor_runs


@contextmanager
def process(rank: int, world_size: int) -> Iterator[None]:
    """As one of several processes that are not there: what they would send is never awaited."""
    distributed.init_process_group("fake", rank=rank, world_size=world_size, store=FakeStore())
    try:
        yield
    finally:
        distributed.destroy_process_group()


@pytest.mark.parametrize("sizes", [(3,), (8,), (4, 2), (2, 2, 2)])
def test_every_placement_against_torch(sizes: tuple[int, ...]) -> None:
    world_size = torch.Size(sizes).numel()
    for rank in range(world_size):
        with process(rank, world_size):
            mesh = init_device_mesh("cpu", sizes)
            for shape in ((), (10,), (5, 7), (3, 4, 2), (0, 3), (16, 8)):
                whole = torch.arange(torch.Size(shape).numel()).view(shape)
                each: list[Placement] = [Replicate(), *map(Shard, range(len(shape)))]
                for placements in itertools.product(each, repeat=len(sizes)):
                    tensor = distribute_tensor(whole, mesh, placements, src_data_rank=None)
                    region = Region.of(tensor)
                    assert region.shape == shape
                    assert torch.equal(region.linear_indices(), tensor.to_local()), placements
                    if region.numel == whole.numel():
                        assert region.is_whole or not whole.numel()


def test_strided_placements_without_tensor_parallelism_follow_torch() -> None:
    for rank in range(4):
        with process(rank, 4):
            mesh = init_device_mesh("cpu", (4,))
            whole = torch.arange(22)
            for split_factor in (1, 2, 3):
                placements = [_StridedShard(0, split_factor=split_factor)]
                tensor = distribute_tensor(whole, mesh, placements, src_data_rank=None)
                assert torch.equal(Region.of(tensor).linear_indices(), tensor.to_local())


def test_a_sum_of_terms_has_no_region() -> None:
    with process(0, 2):
        mesh = init_device_mesh("cpu", (2,))
        terms = DTensor.from_local(torch.zeros(4), mesh, [Partial()], run_check=False)
        with pytest.raises(ArgumentError, match=r"sharded or replicated\. Got Partial"):
            Region.of(terms)
        with pytest.raises(ArgumentError, match="Redistribute it first"):
            dtensor_runs(terms)


def test_an_ordinary_tensor_is_its_own() -> None:
    tensor = torch.zeros(2)
    assert not is_dtensor(tensor)
    assert local_tensor(tensor) is tensor
