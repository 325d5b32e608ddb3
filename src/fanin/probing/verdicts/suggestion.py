"""What to change in a net that is not healthy: read off its activations and its weights."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from fanin.gains import gain
from fanin.probing.rows import SignalRow, WeightRow
from fanin.probing.verdicts.stretches import activation_of

__all__ = ["OwnStd", "own_std", "suggestion"]

_TOLERANCE = 1.05
"""A std this near to what keeps the scale is not the cause: 1.05 over fifty layers is 11."""

_SIGMAS = 4.0
"""A mean so many standard errors from zero was put there: false once in 16,000 weights."""


@dataclass(frozen=True, slots=True)
class _Layer:
    name: str
    fan_in: int
    weight: WeightRow


def suggestion(rows: Sequence[SignalRow], weights: Sequence[WeightRow], *, grows: bool) -> str:
    """The std that keeps the scale through these layers, and the recipe that draws it.

    Args:
        rows: of the probe.
        weights: of the probe.
        grows: whether there is too much of a signal, or too little.
    """
    activation, layers = _activation(rows), _layers(rows, weights)
    if activation == "sigmoid" and not grows:
        return (
            "A sigmoid lets through a quarter of a gradient at most: put tanh or relu between the "
            "layers."
        )
    if not layers:
        return "Put a norm between the layers: none of them is linear or a convolution."
    fan_in = Counter(layer.fan_in for layer in layers).most_common(1)[0][0]
    typical = [layer.weight for layer in layers if layer.fan_in == fan_in]
    wanted = _gain(activation) / math.sqrt(fan_in)
    std = median(weight.std for weight in typical)
    ratio = median(weight.rms for weight in typical) / wanted
    if (ratio < _TOLERANCE) if grows else (ratio > 1 / _TOLERANCE):
        text = (
            f"Weights of fan_in {fan_in} have std {std:.3g}, enough to keep the scale "
            f"{_through(activation)}: "
            f"look for what else {'adds to it' if grows else 'takes from it'} (sums of branches, "
            "products, pooling), or put a norm between the layers."
        )
    else:
        text = (
            f"Weights of fan_in {fan_in} have std {std:.3g}, "
            f"{_off(ratio, activation, wanted, fan_in)}"
        )
    return f"{text} {_about_the_mean(typical)}".rstrip()


@dataclass(frozen=True, slots=True)
class OwnStd:
    """The std of one layer's weight over what keeps the scale, and what to do about it."""

    ratio: float
    text: str


def own_std(rows: Sequence[SignalRow], weights: Sequence[WeightRow], name: str) -> OwnStd | None:
    """Of the layer of that name; None where its fan_in is not known."""
    activation = _activation(rows)
    layer = next((each for each in _layers(rows, weights) if each.name == name), None)
    if layer is None:
        return None
    wanted = _gain(activation) / math.sqrt(layer.fan_in)
    ratio = layer.weight.rms / wanted
    text = (
        f"{layer.weight.name!r} has std {layer.weight.std:.3g}, "
        f"{_off(ratio, activation, wanted, layer.fan_in)}"
    )
    return OwnStd(ratio, text)


def _off(ratio: float, activation: str | None, wanted: float, fan_in: int) -> str:
    """How far a std is off, and the one to use."""
    return (
        f"×{ratio:.3g} of what keeps the scale {_through(activation)}. Use std {wanted:.3g} = "
        f"{_formula(activation, fan_in)}: {_remedy(activation)}."
    )


def _through(activation: str | None) -> str:
    return f"through {activation or 'linear layers'}"


def _layers(rows: Sequence[SignalRow], weights: Sequence[WeightRow]) -> list[_Layer]:
    """The layers whose fan_in their kind tells, each once."""
    by_name = {row.name: row for row in weights}
    found: dict[str, _Layer] = {}
    for row in rows:
        weight = by_name.get(f"{row.name}.weight" if row.name else "weight")
        if not row.is_layer or weight is None or len(weight.shape) < 2:
            continue
        if row.kind in {"Linear", "Conv1d", "Conv2d", "Conv3d"}:
            found[row.name] = _Layer(row.name, math.prod(weight.shape[1:]), weight)
        elif row.kind == "Conv1D":  # of transformers: a linear layer with (in, out)
            found[row.name] = _Layer(row.name, weight.shape[0], weight)
    return [layer for layer in found.values() if layer.fan_in and math.isfinite(layer.weight.std)]


def _activation(rows: Sequence[SignalRow]) -> str | None:
    """The one that most rows are."""
    names = Counter(name for row in rows if (name := activation_of(row)))
    return names.most_common(1)[0][0] if names else None


def _gain(activation: str | None) -> float:
    """What the std is multiplied by, as the initialization that `_remedy` names has it."""
    match activation:
        case None | "selu" | "sigmoid" | "sin":
            return 1.0
        case "relu" | "threshold":
            return math.sqrt(2)
        case "tanh":
            return 5 / 3
        case _:
            return gain(activation)


def _formula(activation: str | None, fan_in: int) -> str:
    match activation:
        case "relu" | "threshold":
            return f"sqrt(2/{fan_in})"
        case "tanh":
            return f"5/3/sqrt({fan_in})"
        case _:
            return f"{_gain(activation):.4g}/sqrt({fan_in})"


def _remedy(activation: str | None) -> str:
    match activation:
        case None:
            return (
                "recipe 'lecun'; with relu between the layers 'kaiming', "
                "with tanh xavier_normal(gain=1.667)"
            )
        case "relu" | "threshold":
            return "recipe 'kaiming'"
        case "selu" | "sigmoid":
            return "recipe 'lecun'"
        case "sin":
            return "recipe 'lecun', or 'siren' for coordinates"
        case "tanh":
            return "xavier_normal(gain=1.667)"
        case _:
            return f'kaiming_normal(nonlinearity="{activation}")'


def _about_the_mean(weights: Sequence[WeightRow]) -> str:
    """What a mean other than zero tells: most often that it was meant for the std."""
    means = [math.sqrt(max(row.rms**2 - row.std**2, 0.0)) for row in weights]
    errors = [row.std / math.sqrt(max(math.prod(row.shape), 1)) for row in weights]
    mean, error = median(means), median(errors)
    if mean <= _SIGMAS * error:
        return ""
    if 0.9 < median(row.std for row in weights) < 1.1:
        return (
            f"Their mean is ±{mean:.2g} and their std 1: normal_(w, {mean:.1g}) sets the mean; "
            f"write normal_(w, std={mean:.1g})."
        )
    return f"Their mean is ±{mean:.2g}: centre them."
