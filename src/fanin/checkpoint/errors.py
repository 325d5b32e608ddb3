"""What goes wrong between a plan and a folder."""

from __future__ import annotations

from fanin.errors import FaninError

__all__ = ["CheckpointError"]


class CheckpointError(FaninError, RuntimeError):
    """A checkpoint cannot be written, resumed or read; what was there is as it was."""
