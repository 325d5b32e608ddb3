"""What a process of many holds beyond its shards while it initializes them (pain 4)."""

from __future__ import annotations

import ctypes
import gc
import math
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from processes import pretend
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard, distribute_tensor

import fanin
from fanin.geometry import local_tensor
from fanin.initializers import mapped, normal, orthogonal, parse

ALLOWANCE = 64 * 2**20  # bytes
WORLD_SIZE = 64
SIZES = (32, 2)  # data parallel, tensor parallel


class Case(NamedTuple):
    """A parameter, and its dims that FSDP2 and two processes of tensor parallelism share."""

    text: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    fsdp: int
    tp: int | None = None

    @property
    def budget(self) -> int:
        """Bytes beyond the shard: of orthogonal matrices a copy of it in float32, and n²."""
        if "orthogonal" not in self.text:
            return ALLOWANCE
        return ALLOWANCE + 4 * math.prod(self.shape) // WORLD_SIZE + 4 * min(self.shape[-2:]) ** 2


# Of 2³¹ elements a shard is 128 MB in float32: the allowance has no room for a copy of it, nor
# for the whole of the small one.
LARGE, SMALL, KERNELS = (2**16, 2**15), (2**13, 2**13), (2**12, 2**12, 16, 8)
WAYS: tuple[tuple[torch.dtype, int, int | None], ...] = (
    (torch.float32, 0, None),
    (torch.bfloat16, 1, 1),  # strided shards of columns
    (torch.bfloat16, 0, 1),
)
FUNCTIONS = {"mapped": normal(), "mapped orthogonal": orthogonal()}
ELEMENTWISE = ("zeros()", "uniform()", "normal()", "trunc_normal()", "kaiming_uniform()", "eye()")
CASES = (
    *(Case(text, LARGE, *way) for text in ELEMENTWISE for way in WAYS),
    Case("mapped", LARGE, torch.float32, 0),
    Case("mapped", LARGE, torch.bfloat16, 0, 1),
    Case("sparse(sparsity=0.5)", LARGE, torch.float32, 0),
    Case("sparse(sparsity=0.5)", SMALL, torch.bfloat16, 1, 1),  # parts of what is chosen from
    *(Case("dirac()", KERNELS, torch.bfloat16, dim) for dim in (0, 1)),
    Case("orthogonal()", (2**15, 2**10), torch.float32, 0),  # rows of a tall matrix
    Case("orthogonal()", (2**10, 2**15), torch.bfloat16, 0, 1),  # and of them half of the columns
    Case("orthogonal()", (2**17, 2**9), torch.bfloat16, 1, 1),  # columns, out of order
    Case("orthogonal()", (2**12, 2**12), torch.float32, 0),  # n² is as much as the allowance
    Case("orthogonal()", (2**13, 2**9, 2**9), torch.bfloat16, 0),  # experts
    Case("mapped orthogonal", (2**13, 2**9, 2**9), torch.bfloat16, 0),
)


def square(values: Tensor) -> Tensor:
    return values * values


def always(placement: Shard, parameter: nn.Parameter) -> Shard:
    return placement


def sharded(case: Case, flat: DeviceMesh, mesh: DeviceMesh) -> nn.ParameterList:
    """A module with one parameter, without memory."""
    weight = torch.empty(case.shape, dtype=case.dtype, device="meta")
    if case.tp is not None:
        weight = distribute_tensor(weight, mesh["tp"], [Shard(case.tp)], src_data_rank=None)
    module = nn.ParameterList([weight])
    fully_shard(
        module,
        mesh=flat if case.tp is None else mesh["dp"],
        shard_placement_fn=partial(always, Shard(case.fsdp)),
    )
    return module


def layout(shape: tuple[int, ...]) -> fanin.Layout:
    if len(shape) == 2:
        return fanin.Layout.linear(*shape)
    if len(shape) == 4:
        return fanin.Layout.conv(*shape)
    return fanin.Layout(shape, in_axes=(2,), out_axes=(1,), batch_axes=(0,))


def resident(field: str) -> int:
    """Bytes: ``VmRSS`` now, ``VmHWM`` at the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def measure(cases: tuple[Case, ...]) -> list[int]:
    """Bytes beyond the shards at the worst moment of each case."""
    flat = init_device_mesh("cpu", (WORLD_SIZE,))
    mesh = init_device_mesh("cpu", SIZES, mesh_dim_names=("dp", "tp"))
    peaks = []
    gc.freeze()  # what torch has made need not be looked through again and again
    for case in cases:
        module = sharded(case, flat, mesh)
        of = FUNCTIONS.get(case.text)
        initializer = parse(case.text) if of is None else mapped(of, square)
        recipe = [fanin.rule("0", initializer, layout=layout(case.shape))]
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what was freed before must not be there to be used
        before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again
        fanin.initialize(module, recipe, seed=0)
        shard = local_tensor(module[0].detach())
        assert shard.numel() * WORLD_SIZE == math.prod(case.shape)
        peaks.append(resident("VmHWM") - before - shard.nbytes)
    return peaks


@pytest.fixture(scope="module")
def peaks() -> dict[Case, int]:
    return dict(zip(CASES, pretend(37, WORLD_SIZE, measure, CASES), strict=True))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.text}-{case.shape}-{case.dtype}")
def test_memory_beyond_the_shards(case: Case, peaks: dict[Case, int]) -> None:
    assert peaks[case] <= case.budget
