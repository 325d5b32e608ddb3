"""What the tests of verdicts share: rows of layers with given numbers."""

from __future__ import annotations

import math

from fanin.probing import SignalRow, Statistics


def statistics(rms: float, *, dtype: str = "float32", nans: int = 0, infs: int = 0) -> Statistics:
    return Statistics((8, 64), dtype, 0.0, rms, rms, 4 * rms, 0.0, nans=nans, infs=infs)


def layer(i: int, output: Statistics, gradient: Statistics | None = None) -> SignalRow:
    return SignalRow(i, f"layer{i}", "Linear", 0, i + 1, True, output, gradient)


def outputs(*rms: float, dtype: str = "float32") -> list[SignalRow]:
    """Layers with these rms; those with NaN are not finite."""
    found = [
        statistics(0.0, nans=512, dtype=dtype) if math.isnan(x) else statistics(x, dtype=dtype)
        for x in rms
    ]
    return [layer(i, each) for i, each in enumerate(found)]
