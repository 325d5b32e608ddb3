"""Sharded models have the bits of the model on one machine (pains 3, 4, 34)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from processes import run
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)

import fanin
from fanin.initializers import from_function, orthogonal, trunc_normal, zeros

VOCAB, DIM, HIDDEN = 11, 6, 10  # no multiples of the number of processes


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(DIM)
        self.up = nn.Linear(DIM, HIDDEN)
        self.down = nn.Linear(HIDDEN, DIM, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(torch.relu(self.up(self.norm(x))))


class Net(nn.Module):
    def __init__(self, num_blocks: int = 2) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCAB, DIM, padding_idx=9)
        self.blocks = nn.ModuleList(Block() for _ in range(num_blocks))
        self.experts = nn.Parameter(torch.empty(5, 3, 4))
        self.head = nn.Linear(DIM, VOCAB, bias=False)
        self.register_buffer("positions", torch.arange(3.0))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(x) + self.experts.sum()


def running_sum(tensor: Tensor, generator: torch.Generator) -> None:
    tensor.copy_(torch.randn(tensor.shape, generator=generator).cumsum(0))


EXPERTS = fanin.Layout(in_axes=(2,), out_axes=(1,), batch_axes=(0,))
RECIPE = [
    fanin.rule("**.bias", zeros()),
    fanin.rule("**.norm.weight", fanin.initializers.ones()),
    fanin.rule("**.up.weight", fanin.initializers.kaiming_normal()),
    fanin.rule("**.down.weight", orthogonal()),
    fanin.rule("head.weight", from_function(running_sum)),
    fanin.rule("embed.weight", trunc_normal(std=0.5)),
    fanin.rule("experts", fanin.initializers.xavier_normal(), layout=EXPERTS),
]


def fsdp(model: Net, shard: Callable[..., Any] = fully_shard, **options: Any) -> None:
    for block in model.blocks:
        shard(block, **options)
    shard(model, **options)


def tensor_parallel(model: Net, mesh: DeviceMesh) -> None:
    plan = {"embed": RowwiseParallel(), "head": ColwiseParallel()}
    for i in range(len(model.blocks)):
        plan |= {f"blocks.{i}.up": ColwiseParallel(), f"blocks.{i}.down": RowwiseParallel()}
    # None: a meta tensor has nothing to hand round, and the others are equal everywhere.
    parallelize_module(model, mesh, plan, src_data_rank=None)


def as_fsdp(model: Net) -> None:
    fsdp(model, mesh=init_device_mesh("cpu", (distributed.get_world_size(),)))


def as_fsdp_of_columns(model: Net) -> None:
    mesh = init_device_mesh("cpu", (distributed.get_world_size(),))
    fsdp(model, mesh=mesh, shard_placement_fn=lambda p: Shard(1 if p.dim() == 2 else 0))


def as_tensor_parallel(model: Net) -> None:
    tensor_parallel(model, init_device_mesh("cpu", (distributed.get_world_size(),)))


def as_hybrid(model: Net) -> None:
    sizes = (2, distributed.get_world_size() // 2)
    fsdp(model, mesh=init_device_mesh("cpu", sizes, mesh_dim_names=("copies", "shards")))


def as_two_dims(model: Net) -> None:
    mesh = init_device_mesh(
        "cpu", (2, distributed.get_world_size() // 2), mesh_dim_names=("dp", "tp")
    )
    tensor_parallel(model, mesh["tp"])
    fsdp(model, mesh=mesh["dp"])


def as_three_dims(model: Net) -> None:
    mesh = init_device_mesh("cpu", (2, 2, 2), mesh_dim_names=("copies", "shards", "tp"))
    tensor_parallel(model, mesh["tp"])
    fsdp(model, mesh=mesh["copies", "shards"])


WAYS: dict[int, list[Callable[[Net], None]]] = {
    1: [as_fsdp, as_tensor_parallel],
    2: [as_fsdp, as_fsdp_of_columns, as_tensor_parallel, as_hybrid],
    3: [as_fsdp, as_tensor_parallel],
    4: [as_fsdp, as_tensor_parallel, as_hybrid, as_two_dims],
    8: [as_fsdp, as_two_dims, as_three_dims],
}


def numbered(model: nn.Module) -> nn.Module:
    """With the index of each element for its value, so that torch says where its shards are."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.arange(parameter.numel()).view(parameter.shape))
    return model


def local(tensor: Tensor) -> Tensor:
    with torch.no_grad():
        return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).clone()


def places(way: Callable[[Net], None]) -> dict[str, Tensor]:
    """For each parameter the index of each local element, by torch's own sharding."""
    model = numbered(Net())
    way(model)
    return {name: local(parameter).long() for name, parameter in model.named_parameters()}


def compare(model: nn.Module, whole: nn.Module, held: dict[str, Tensor]) -> None:
    expected = dict(whole.named_parameters())
    seen = 0
    for name, parameter in model.named_parameters():
        theirs = expected[name].detach().reshape(-1)[held[name]]
        near = 8e-6 if "down" in name else 0  # orthogonal with gain 1, twice
        torch.testing.assert_close(
            local(parameter), theirs, rtol=0, atol=near, msg=lambda m, name=name: f"{name}: {m}"
        )
        seen += 1
    assert seen == len(expected)


def initialized(model: nn.Module, **options: Any) -> nn.Module:
    fanin.initialize(model, RECIPE, seed=7, **options)
    return model


def check_ways(world_size: int) -> list[str]:
    """Every way to shard, before and after there is memory, with no group to talk through."""
    ways = WAYS[world_size]
    held = [places(way) for way in ways]
    models: list[tuple[Net, dict[str, Tensor]]] = []
    for way, indices in zip(ways, held, strict=True):
        with fanin.deferred():
            late = Net()
        with torch.device("meta"):
            bare = Net()
        bare.positions = torch.arange(3.0)
        for model in (late, bare, Net()):
            way(model)
            models.append((model, indices))
    distributed.destroy_process_group()  # whatever talks to another process raises from here on
    if world_size > 1:
        with pytest.raises(RuntimeError, match="process group"):
            models[0][0].head.weight.full_tensor()
    whole = initialized(Net())
    prints = {fanin.plan(whole, RECIPE, seed=7).fingerprint()}
    for model, indices in models:
        identity = {name: id(parameter) for name, parameter in model.named_parameters()}
        prints.add(fanin.initialize(model, RECIPE, seed=7).fingerprint())
        assert identity == {name: id(parameter) for name, parameter in model.named_parameters()}
        compare(model, whole, indices)
        assert str(fanin.plan(model, RECIPE, seed=7).table(model))
    return sorted(prints)


@pytest.mark.parametrize("world_size", WAYS)
def test_sharded_models_have_the_bits_of_the_whole(world_size: int) -> None:
    prints = run(world_size, check_ways, world_size)
    assert all(each == prints[0] and len(each) == 1 for each in prints)
