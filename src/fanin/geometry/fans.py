"""How many numbers one output sums, and into how many outputs one input goes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fanin.errors import UnknownNameError, one_of

__all__ = ["MODES", "Fans"]


@dataclass(frozen=True, slots=True)
class Fans:
    """The two fans of a weight.

    Args:
        fan_in: terms in the sum that makes one output.
        fan_out: outputs that one input enters.

    Example:
        >>> Fans(4, 9).fan_avg, Fans(4, 9).of("fan_geo_avg")
        (6.5, 6.0)
    """

    fan_in: float
    fan_out: float

    @property
    def fan_avg(self) -> float:
        """The arithmetic mean."""
        return (self.fan_in + self.fan_out) / 2

    @property
    def fan_geo_avg(self) -> float:
        """The geometric mean."""
        return math.sqrt(self.fan_in * self.fan_out)

    def of(self, mode: str) -> float:
        """The fan that a mode names: fan_in, fan_out, fan_avg or fan_geo_avg."""
        if mode not in MODES:
            raise UnknownNameError(
                f"fan: mode names one of the fans. Got {mode!r} for mode. {one_of(mode, MODES)}"
            )
        fan: float = getattr(self, mode)
        return fan


MODES = ("fan_in", "fan_out", "fan_avg", "fan_geo_avg")
