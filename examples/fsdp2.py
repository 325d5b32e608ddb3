"""FSDP2: built without memory, sharded, then every process fills its shard.

torchrun --nproc-per-node 4 examples/fsdp2.py
"""

from __future__ import annotations

import torch
from small_llama import SmallLlama, tokens
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import fanin


def main() -> None:
    """Initialize, compare with one process, take one step."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    distributed.init_process_group()
    mesh = init_device_mesh(device, (distributed.get_world_size(),))

    with fanin.deferred():  # no parameter has memory
        model = SmallLlama()
    for block in model.blocks.values():
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    plan = fanin.initialize(model, "llama", seed=0)  # memory for the shards, and their values

    alone = SmallLlama()
    fanin.initialize(alone, "llama", seed=0)
    for (name, parameter), whole in zip(model.named_parameters(), alone.parameters(), strict=True):
        assert torch.equal(parameter.full_tensor().cpu(), whole), name

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loss = model.loss(tokens().to(device))
    loss.backward()
    optimizer.step()
    if distributed.get_rank() == 0:
        print(f"plan {plan.fingerprint()}, first loss {loss.item():.4f}")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
