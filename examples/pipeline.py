"""A pipeline: every process builds and initializes its own stage of the model, and nothing else.

torchrun --nproc-per-node 4 examples/pipeline.py
"""

from __future__ import annotations

import torch
from small_llama import SmallLlama, tokens
from torch import distributed, nn
from torch.distributed.pipelining import PipelineStage, ScheduleGPipe
from torch.nn import functional as F

import fanin


def stage_of(rank: int, world_size: int) -> SmallLlama:
    """The stage without what is on others; what is left keeps the name it has in the whole."""
    with fanin.deferred():
        model = SmallLlama(depth=world_size)
    model.blocks = nn.ModuleDict({str(rank): model.blocks[str(rank)]})
    if rank > 0:
        model.embed = None
    if rank < world_size - 1:
        model.norm = model.head = None
    return model


def main() -> None:
    """Initialize a stage and run the schedule once."""
    cuda = torch.cuda.is_available()
    distributed.init_process_group()
    rank, world_size = distributed.get_rank(), distributed.get_world_size()
    device = torch.device("cuda", rank % torch.cuda.device_count()) if cuda else torch.device("cpu")

    model = stage_of(rank, world_size)
    # "": this is a part, and its names are those of the whole. A block alone would say "blocks.3".
    # A recipe that counts blocks is told how many the whole has: "gpt2(num_layers=4)".
    fanin.initialize(model, "llama", seed=0, prefix="", device=device)

    alone = SmallLlama(depth=world_size)
    fanin.initialize(alone, "llama", seed=0)
    whole = dict(alone.named_parameters())
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.cpu(), whole[name]), name

    stage = PipelineStage(model, rank, world_size, device)
    schedule = ScheduleGPipe(
        stage,
        n_microbatches=2,
        loss_fn=lambda logits, goal: F.cross_entropy(logits.flatten(0, 1), goal.flatten()),
    )
    text, losses = tokens().to(device), []
    if rank == 0:
        schedule.step(text[:, :-1])
    elif rank == world_size - 1:
        schedule.step(target=text[:, 1:], losses=losses)
        loss = torch.stack(losses).mean().cpu()
        torch.testing.assert_close(loss, alone.loss(tokens()).detach())
        print(f"first loss {loss.item():.4f}")
    else:
        schedule.step()
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
