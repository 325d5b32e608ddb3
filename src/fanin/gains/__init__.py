"""The gain of a nonlinearity: the factor on a layer's std that undoes what the function does."""

from __future__ import annotations

from fanin.gains.empirical import EmpiricalGain
from fanin.gains.measure import gain
from fanin.gains.names import nonlinearities
from fanin.gains.torch_table import calculate_gain

__all__ = ["EmpiricalGain", "calculate_gain", "gain", "nonlinearities"]
