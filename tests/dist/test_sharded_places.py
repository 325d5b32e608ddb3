"""What FSDP2 leaves each process of a tensor-parallel parameter, against what `Region.of` says."""

from __future__ import annotations

import math

import pytest
import torch
from processes import run
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from fanin.geometry import Region, local_tensor

SIZES = (1, 5, 8, 9, 10, 27)  # of 9 over 4 x 2, torch's own offsets name rows of other processes


def rows_of_ten(*meshes: tuple[int, int]) -> list[int]:
    """The rows that this process holds of ten, on the last mesh; all others are compared here."""
    rows = []
    for sizes in meshes:
        rows = places(sizes)
    return rows


def places(sizes: tuple[int, int]) -> list[int]:
    mesh = init_device_mesh("cpu", sizes, mesh_dim_names=("dp", "tp"))
    ten = []
    for style in (ColwiseParallel, RowwiseParallel):
        for size in SIZES:
            model = nn.Sequential(nn.Linear(size, size))
            for parameter in model.parameters():
                parameter.data = torch.arange(float(parameter.numel())).view_as(parameter)
            parallelize_module(model[0], mesh["tp"], style(), src_data_rank=None)
            fully_shard(model, mesh=mesh["dp"])
            for parameter in model.parameters():
                region = Region.of(parameter)
                held = local_tensor(parameter, region.local_shape)
                assert torch.equal(region.linear_indices().float(), held), (style, size)
            if size == 10 and style is ColwiseParallel:
                ten = Region.of(model[0].bias).indices(0).tolist()
    return ten


@pytest.mark.parametrize("meshes", [((2, 2),), ((2, 4), (4, 2))])
def test_fsdp_over_tensor_parallel(meshes: tuple[tuple[int, int], ...]) -> None:
    held = run(math.prod(meshes[0]), rows_of_ten, *meshes)
    assert sorted(row for rows in held for row in rows) == list(range(10))
    if meshes == ((2, 2),):
        assert held == [[0, 1, 2], [5, 6, 7], [3, 4], [8, 9]]
