"""FSDP2 modules that hold whole parameters for a while are made to hold their shards again."""

from __future__ import annotations

import sys

from torch import nn

__all__ = ["reshard"]


def reshard(model: nn.Module) -> None:
    """Have every FSDP2 module in the model hold its shards.

    After a forward pass the outermost one holds plain gathered parameters, until its next backward
    pass or `reshard`. What is written into those is lost. Asks no other process.
    """
    kind = getattr(sys.modules.get("torch.distributed.fsdp"), "FSDPModule", None)
    if kind is None:  # then there is no instance
        return
    for module in model.modules():
        if isinstance(module, kind):
            module.reshard()
