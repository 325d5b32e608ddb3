"""Weights scaled by what a batch does in the model: LSUV, and data-dependent first values."""

from __future__ import annotations

from fanin.calibration.calibrate import calibrate
from fanin.calibration.calibration import Calibration, CalibrationRow
from fanin.calibration.errors import CalibrationError

__all__ = ["Calibration", "CalibrationError", "CalibrationRow", "calibrate"]
