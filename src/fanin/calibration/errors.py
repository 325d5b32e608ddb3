"""What goes wrong between a batch and the weights."""

from __future__ import annotations

from fanin.errors import FaninError

__all__ = ["CalibrationError"]


class CalibrationError(FaninError, RuntimeError):
    """A model cannot be calibrated on this batch; its weights are as they were."""
