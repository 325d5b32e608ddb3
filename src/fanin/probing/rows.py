"""What a probe measures: a row for each call of a module or an activation, and for each weight."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Expected", "Histogram", "SignalRow", "Statistics", "WeightRow"]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of a sample of a tensor's finite entries between ``low`` and ``high``, evenly cut."""

    low: float
    high: float
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of the entries of a tensor, in float64; of its finite ones where some are not.

    Args:
        shape: of the tensor; of the first, where an output holds several.
        dtype: without ``torch.``.
        mean: of all entries.
        std: about the mean.
        rms: root of the mean square.
        abs_max: largest magnitude.
        zeros: share of exact zeros.
        saturated: share within 1 % of a bound, for functions with bounds; None for others.
        nans: count of NaN.
        infs: count of infinities.
        histogram: of a sample of the entries.
    """

    shape: tuple[int, ...]
    dtype: str
    mean: float
    std: float
    rms: float
    abs_max: float
    zeros: float
    saturated: float | None = None
    nans: int = 0
    infs: int = 0
    histogram: Histogram | None = None

    @property
    def is_finite(self) -> bool:
        """Whether there is neither NaN nor infinity."""
        return not (self.nans or self.infs)

    @property
    def is_lost(self) -> bool:
        """Whether no entry is finite: there is nothing behind the numbers."""
        return self.nans + self.infs >= math.prod(self.shape) > 0


@dataclass(frozen=True, slots=True)
class Expected:
    """The std of an output that a plan leads to: median over draws, and where 95 % of them are."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class SignalRow:
    """One call of a module, or of an activation that is a plain function.

    Args:
        index: place in the order of execution, from 0.
        name: canonical name of the module (``"features.0"``, ``""`` for the root); a plain function
            has its caller's: ``"features/relu"``.
        kind: class of the module, name of the function.
        call: how many calls of this name came before.
        depth: how many layers with weights have been called up to here, this one included.
        is_layer: whether it is such a layer: it has a parameter of two dims or more, and no
            sub-module that has one.
        output: statistics of what it returned.
        gradient: of the loss with respect to what it returned; None without a backward pass, or
            where none arrives.
        input: of what it got, for the first row that is not finite.
        expected: of the output's std, where a prediction was asked for.
    """

    index: int
    name: str
    kind: str
    call: int
    depth: int
    is_layer: bool
    output: Statistics
    gradient: Statistics | None = None
    input: Statistics | None = None
    expected: Expected | None = None

    @property
    def ratio(self) -> float | None:
        """Measured over predicted std; None without a prediction, or of 0."""
        if self.expected is None or not self.expected.median:
            return None
        return self.output.std / self.expected.median

    @property
    def label(self) -> str:
        """The name, and which call it is where there are several: ``"head (call 2)"``."""
        name = self.name or "(model)"
        return f"{name} (call {self.call + 1})" if self.call else name


@dataclass(frozen=True, slots=True)
class WeightRow:
    """One parameter: what the plan says of it, and what it is.

    Args:
        name: canonical name.
        shape: of the parameter.
        expected_std: by the plan; None without one.
        std: as it is.
        rms: as it is.
        gradient_rms: None without a backward pass; 0 where no gradient arrives is 0, not None.
        ratio: gradient rms over rms of the parameter.
        histogram: of a sample of its entries.
        units: how many outputs sum over the same inputs with it, and are one if its entries are;
            1 where that is not known.
        requires_grad: whether it is to be trained.
    """

    name: str
    shape: tuple[int, ...]
    expected_std: float | None
    std: float
    rms: float
    gradient_rms: float | None = None
    ratio: float | None = None
    histogram: Histogram | None = None
    units: int = 1
    requires_grad: bool = True
