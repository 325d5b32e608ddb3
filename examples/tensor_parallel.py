"""Tensor parallelism, and FSDP2 over it: rows and columns of one matrix on different processes.

torchrun --nproc-per-node 4 examples/tensor_parallel.py
"""

from __future__ import annotations

import torch
from small_llama import SmallLlama, tokens
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)

import fanin

BLOCK = {
    **{name: ColwiseParallel() for name in ("q", "k", "v", "gate", "up")},
    **{name: RowwiseParallel() for name in ("o", "down")},
}
ENDS = {
    "embed": RowwiseParallel(input_layouts=Replicate()),
    "head": ColwiseParallel(output_layouts=Replicate()),
}


def main() -> None:
    """Two processes to a matrix, and two such pairs share all of them by FSDP2."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    distributed.init_process_group()
    sizes = (distributed.get_world_size() // 2, 2)
    mesh = init_device_mesh(device, sizes, mesh_dim_names=("dp", "tp"))

    with fanin.deferred():
        model = SmallLlama()
    parallelize_module(model, mesh["tp"], ENDS)
    for block in model.blocks.values():
        parallelize_module(block, mesh["tp"], BLOCK)
        fully_shard(block, mesh=mesh["dp"])
    fully_shard(model, mesh=mesh["dp"])
    plan = fanin.initialize(model, "llama", seed=0)  # fans are those of the whole matrix

    alone = SmallLlama()
    fanin.initialize(alone, "llama", seed=0)
    loss, expected = model.loss(tokens().to(device)), alone.loss(tokens())
    torch.testing.assert_close(loss.detach().cpu(), expected.detach())
    loss.backward()
    if distributed.get_rank() == 0:
        print(f"plan {plan.fingerprint()}, first loss {loss.item():.4f}")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
