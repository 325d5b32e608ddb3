"""Stretches of a net whose activations no longer tell one input from another."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from fanin.errors import FaninError
from fanin.gains.names import canonical
from fanin.probing.rows import SignalRow
from fanin.probing.verdicts.growth import layer_of

__all__ = ["Stretch", "activation_of", "dead_units", "saturation"]

_DEAD = 0.9
"""Share of zeros. A rectifier of centred inputs gives 0.5; 0.9 is a mean of 1.3 σ below zero."""

_SATURATED = 0.5
"""Share at the bounds, where tanh has a slope under 0.04: most units let no gradient through.

Unit normal inputs give tanh 0.02 of them, and those of 16 times that std 0.89.
"""

_FEWEST_UNITS = 16
"""Of so many fair coins 15 show the same side once in 4,000; of fewer too often."""

# Activations, and in words where they get stuck.
_RECTIFIERS = dict.fromkeys(
    ("relu", "relu6", "relu_squared", "threshold", "softshrink", "hardshrink"), "0"
)
_BOUNDS = {
    "tanh": "±1",
    "softsign": "±1",
    "hardtanh": "its bounds",
    "sigmoid": "0 and 1",
    "hardsigmoid": "0 and 1",
}


@dataclass(frozen=True, slots=True)
class Stretch:
    """Activations in a row of which most are at a bound.

    Args:
        activation: what they are called (``"tanh"``).
        share: of entries at a bound, the median over the stretch.
        bounds: which they are, in words.
        first: layer before the first of them, from 0.
        last: layer before the last of them; None where it is the last activation there is.
        name: of that first layer.
    """

    activation: str
    share: float
    bounds: str
    first: int
    last: int | None
    name: str

    @property
    def where(self) -> str:
        """``from layer 3 ('conv3') on``."""
        start = f"layer {self.first}{f' ({self.name!r})' if self.name else ''}"
        if self.last is None:
            return f"from {start} on"
        return f"at {start}" if self.last == self.first else f"from {start} to layer {self.last}"


def dead_units(rows: Sequence[SignalRow]) -> Stretch | None:
    """Where rectifiers give little else than zeros."""
    return _stretch(rows, _RECTIFIERS, lambda row: row.output.zeros, _DEAD)


def saturation(rows: Sequence[SignalRow]) -> Stretch | None:
    """Where most entries of functions with two bounds are at one of them."""
    return _stretch(rows, _BOUNDS, lambda row: row.output.saturated or 0.0, _SATURATED)


def activation_of(row: SignalRow) -> str | None:
    """The name that gains go by of the activation that a row is; None for other rows."""
    if row.is_layer:
        return None
    try:
        name = canonical(row.kind.removesuffix("Activation").rstrip("_"))
    except FaninError:
        return None
    return None if name in {"linear", "identity"} or name.startswith("conv") else name


def _stretch(
    rows: Sequence[SignalRow],
    bounds: Mapping[str, str],
    share_of: Callable[[SignalRow], float],
    most: float,
) -> Stretch | None:
    """From the first of these activations with such a share to the last."""
    layers = {layer_of(row): row.name for row in rows if row.is_layer}
    activations = [
        (row, name)
        for row in rows
        if (name := activation_of(row) or "") in bounds and row.output.is_finite
    ]
    hit = [
        i
        for i, (row, _) in enumerate(activations)
        if share_of(row) >= most and math.prod(row.output.shape[1:]) >= _FEWEST_UNITS
    ]
    if not hit:
        return None
    (start, name), (end, _) = activations[hit[0]], activations[hit[-1]]
    between = [share_of(row) for row, _ in activations[hit[0] : hit[-1] + 1]]
    return Stretch(
        activation=name,
        share=median(between),
        bounds=bounds[name],
        first=layer_of(start),
        last=None if hit[-1] == len(activations) - 1 else layer_of(end),
        name=layers.get(layer_of(start), ""),
    )
