"""A checkpoint written from a plan, without the model's memory: `write_checkpoint`."""

from __future__ import annotations

from fanin.checkpoint.errors import CheckpointError
from fanin.checkpoint.verify import Verification, verify_checkpoint
from fanin.checkpoint.write import prepare_checkpoint, write_checkpoint
from fanin.checkpoint.writing import Checkpoint, Writing

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "Verification",
    "Writing",
    "prepare_checkpoint",
    "verify_checkpoint",
    "write_checkpoint",
]
