"""Measuring a forward and a backward pass, layer by layer."""

from __future__ import annotations

from fanin.probing.rows import Histogram, SignalRow, Statistics, WeightRow

__all__ = ["Histogram", "SignalRow", "Statistics", "WeightRow"]
