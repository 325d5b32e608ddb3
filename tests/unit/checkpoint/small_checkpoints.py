"""What the tests of resuming share: a checkpoint of few files, and what a folder holds."""

from __future__ import annotations

from pathlib import Path

from torch import nn

import fanin
from fanin.checkpoint import (
    Checkpoint,
    write_checkpoint,
)


def model() -> nn.Module:
    with fanin.deferred():
        return nn.Sequential(*(nn.Linear(16, 16) for _ in range(6)), nn.BatchNorm1d(16))


def write(folder: Path, **options: object) -> Checkpoint:
    asked = {"recipe": "kaiming", "seed": 0, "max_shard_size": 1200} | options
    return write_checkpoint(model(), folder, **asked)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
