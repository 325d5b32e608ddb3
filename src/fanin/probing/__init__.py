"""Measuring a forward and a backward pass, layer by layer."""

from __future__ import annotations

from fanin.probing.comparison import Comparison
from fanin.probing.feature_maps import FeatureMaps, feature_maps
from fanin.probing.probe import probe
from fanin.probing.rows import Histogram, SignalRow, Statistics, WeightRow
from fanin.probing.signal_report import SignalReport
from fanin.probing.verdicts.verdict import Verdict

__all__ = [
    "Comparison",
    "FeatureMaps",
    "Histogram",
    "SignalReport",
    "SignalRow",
    "Statistics",
    "Verdict",
    "WeightRow",
    "feature_maps",
    "probe",
]
