"""HSDP: copies of a sharded model. Copies are equal without being sent to each other.

torchrun --nproc-per-node 4 examples/hsdp.py
"""

from __future__ import annotations

import torch
from small_llama import SmallLlama, tokens
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import fanin


def main() -> None:
    """Two copies, each over half of the processes."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    distributed.init_process_group()
    sizes = (2, distributed.get_world_size() // 2)
    mesh = init_device_mesh(device, sizes, mesh_dim_names=("copies", "shards"))

    with fanin.deferred():
        model = SmallLlama()
    for block in model.blocks.values():
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    plan = fanin.initialize(model, "llama", seed=0)

    # The same shard in both copies: its sum is the same number.
    sums = torch.stack([parameter.to_local().double().sum() for parameter in model.parameters()])
    first = sums.clone()
    distributed.broadcast(first, group=mesh.get_group("copies"), group_src=0)
    assert torch.equal(sums, first)

    loss = model.loss(tokens().to(device))
    loss.backward()
    if distributed.get_rank() == 0:
        print(f"plan {plan.fingerprint()}, first loss {loss.item():.4f}")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
