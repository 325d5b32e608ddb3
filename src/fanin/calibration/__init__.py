"""Weights scaled by what a batch does in the model: layer by layer, or learned."""

from __future__ import annotations

from fanin.calibration.calibrate import calibrate
from fanin.calibration.calibration import Calibration, CalibrationRow
from fanin.calibration.errors import CalibrationError
from fanin.calibration.gradinit import GradInit
from fanin.calibration.learned import LearnedScales, ScaleRow
from fanin.calibration.metainit import MetaInit

__all__ = [
    "Calibration",
    "CalibrationError",
    "CalibrationRow",
    "GradInit",
    "LearnedScales",
    "MetaInit",
    "ScaleRow",
    "calibrate",
]
