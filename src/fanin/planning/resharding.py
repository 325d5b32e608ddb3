"""FSDP2 modules that hold whole parameters for a while are made to hold their shards again."""

from __future__ import annotations

from typing import Any

from torch import nn

from fanin.model.construction import is_fully_sharded

__all__ = ["reshard"]


def reshard(model: nn.Module) -> None:
    """Have every FSDP2 module in the model hold its shards.

    After a forward pass the outermost one holds plain gathered parameters, until its next backward
    pass or `reshard`. What is written into those is lost. Asks no other process.
    """
    for module in model.modules():
        if is_fully_sharded(module):
            sharded: Any = module
            sharded.reshard()
