"""What a trace and the moments of its weights say of every value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from fanin.flow.graph import Trace, Value
from fanin.flow.moments.moments import Moments
from fanin.flow.moments.showing import prediction_table
from fanin.report import Table

__all__ = ["Predicted", "Prediction"]


@dataclass(frozen=True, slots=True)
class Predicted:
    """Of one value, over the draw of the weights.

    Args:
        moments: averages over all draws: the mean field, exact for infinitely wide layers.
        std: about the tensor's own mean, as one measures it; infinitely wide layers.
        drift: factor from ``std`` to the median over draws at the model's finite width.
        spread: standard deviation of the logarithm of a measured std over draws.
        gradient: moments of the gradient; None without a backward pass, or where none arrives.
    """

    moments: Moments
    std: float
    drift: float
    spread: float
    gradient: Moments | None = None

    @property
    def median(self) -> float:
        """The std to expect in one draw."""
        return self.std * self.drift

    @property
    def interval(self) -> tuple[float, float]:
        """Holds the std of about 95 draws in 100, while depth is less than width."""
        reach = 1.96 * self.spread
        return self.median * math.exp(-reach), self.median * math.exp(reach)

    @property
    def gradient_rms(self) -> float | None:
        """Root of the gradient's second moment, infinitely wide layers."""
        return self.gradient.rms if self.gradient is not None else None


@dataclass(frozen=True, repr=False)
class Prediction:
    """Statistics of every value of a trace; look one up by the value, or a module's call by name.

    Args:
        trace: what was predicted.
        values: of each value that is no parameter.
        parameters: gradients of the parameters, by name.
        notes: approximations worth knowing of, in sentences.
    """

    trace: Trace
    values: Mapping[Value, Predicted]
    parameters: Mapping[str, Moments] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __getitem__(self, value: Value) -> Predicted:
        return self.values[value]

    def module(self, name: str, call: int = 0) -> Predicted | None:
        """Of the first output of a module's call; None where there is no such call."""
        for each in self.trace.calls:
            if each.name == name and each.call == call:
                found = (self.values.get(value) for value in each.outputs)
                return next((one for one in found if one is not None), None)
        return None

    def table(self) -> Table:
        """A row for each module call, with the std for infinitely wide layers and at their width.

        ``median`` and ``95 % of draws`` are of the std that one draw of the weights shows.
        """
        return prediction_table(self)

    def __str__(self) -> str:
        return str(self.table())

    __repr__ = __str__
