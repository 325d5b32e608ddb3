"""What one process of many does to initialize its shards of Llama 3.1 405B: time and memory.

    python benches/one_rank.py --world-size 1024

The process group is torch's fake one: this process is told that it is one of many, and there is
nobody it could ask. The model is the real shape, in bfloat16, sharded by `fully_shard` block by
block.
"""

from __future__ import annotations

import argparse
import resource
import time

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.testing._internal.distributed.fake_pg import FakeStore

import fanin


def main() -> None:
    """Build, shard, plan, initialize."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world-size", type=int, default=1024)
    parser.add_argument("--rank", type=int, default=17)
    parser.add_argument("--layers", type=int, default=126)
    arguments = parser.parse_args()
    distributed.init_process_group(
        "fake", rank=arguments.rank, world_size=arguments.world_size, store=FakeStore()
    )
    mesh = init_device_mesh("cpu", (arguments.world_size,))
    with torch.device("meta"):
        model = llama(arguments.layers).to(torch.bfloat16)
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    total = sum(parameter.numel() for parameter in model.parameters())

    start = time.perf_counter()
    fanin.plan(model, "llama", seed=0)
    planned = time.perf_counter()
    before = peak()
    plan = fanin.initialize(model, "llama", seed=0)
    done = time.perf_counter()

    shards = [parameter.to_local() for parameter in model.parameters()]
    held, size = sum(s.numel() for s in shards), sum(s.nbytes for s in shards)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {plan.fingerprint()}")
    print(f"the whole: {total / 1e9:.1f}e9 parameters in {len(plan.steps)} tensors")
    print(
        f"rank {arguments.rank} of {arguments.world_size}: {held / 1e6:.1f}e6, {size / 1e6:.0f} MB"
    )
    print(f"plan: {planned - start:.2f} s; initialize: {done - planned:.2f} s")
    print(f"{(done - planned) / held * 1e9:.2f} ns for each local element")
    print(f"peak memory above the shards: {(peak() - before - size) / 1e6:.0f} MB")


def llama(layers: int) -> nn.Module:
    """The matrices and norms of Llama 3.1 405B."""
    vocab, dim, kv, hidden = 128_256, 16_384, 1_024, 53_248
    model = nn.Module()
    model.embed = nn.Embedding(vocab, dim)
    model.blocks = nn.ModuleList()
    for _ in range(layers):
        block = nn.Module()
        block.q, block.o = (nn.Linear(dim, dim, bias=False) for _ in range(2))
        block.k, block.v = (nn.Linear(dim, kv, bias=False) for _ in range(2))
        block.gate, block.up = (nn.Linear(dim, hidden, bias=False) for _ in range(2))
        block.down = nn.Linear(hidden, dim, bias=False)
        block.norm1, block.norm2 = nn.RMSNorm(dim), nn.RMSNorm(dim)
        model.blocks.append(block)
    model.norm, model.head = nn.RMSNorm(dim), nn.Linear(dim, vocab, bias=False)
    return model


def peak() -> int:
    """Largest resident size of the process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
