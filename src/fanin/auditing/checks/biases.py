"""FAN304: biases that drown what their layer computes."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import nn

from fanin.auditing.code import expression
from fanin.auditing.evidence import Evidence
from fanin.auditing.finding import Check, Symptom
from fanin.auditing.plausible import is_trained, is_written
from fanin.auditing.remedy import redraw
from fanin.auditing.weights import Weight
from fanin.report import number_text

__all__ = ["BIAS_CHECKS"]

_TIMES = 3.0
"""A bias of three standard deviations: 99.9 % of the outputs have its sign, for inputs of std 1."""

_LAYERS = (nn.Linear, nn.modules.conv._ConvNd)


def _large(evidence: Evidence) -> Iterator[Symptom]:
    found: dict[float, list[tuple[str, float, bool]]] = {}
    layers = [weight for weight in evidence.weights if weight.is_matrix and not weight.is_lookup]
    for place, weight in enumerate(layers):
        bias = evidence.by_name.get(f"{weight.name.rpartition('.')[0]}.bias".removeprefix("."))
        std = _output_std(weight)
        if bias is None or not bias.numbers.is_constant or not std or not is_written(bias):
            continue
        value = bias.numbers.low
        if abs(value) <= _TIMES * std or not is_trained(bias):
            continue
        # Rare classes, and gates that start shut: priors of last layers, and mostly negative.
        is_prior = value < 0 or _is_last(layers, place)
        found.setdefault(value, []).append((bias.name, std, is_prior))
    for value, places in found.items():
        names = tuple(name for name, _, _ in places)
        std = places[0][1]
        yield Symptom(
            names,
            f"all entries are {number_text(value)}, {number_text(abs(value) / std)} times the std "
            "of what the layer adds to them",
            f"0, or less than {number_text(std)}, for inputs of std 1",
            f"fanin.init.zeros_({expression(names[0])})" if len(names) == 1 else redraw(names),
            {"value": value, "std": std},
            "note" if all(is_prior for _, _, is_prior in places) else None,
        )


def _output_std(weight: Weight) -> float:
    """Of what a layer makes of inputs of std 1, without its bias; 0 where that is not known."""
    if weight.kind is None or not issubclass(weight.kind, _LAYERS) or weight.numbers.not_finite:
        return 0.0
    if weight.layout is None or weight.attribute != "weight" or not is_written(weight):
        return 0.0
    return weight.numbers.rms * math.sqrt(weight.layout.fans.fan_in)


def _is_last(layers: list[Weight], place: int) -> bool:
    """Whether no other layer of the same block comes after it."""
    parent = layers[place].name.rpartition(".")[0].rpartition(".")[0]
    block = f"{parent}." if parent else ""
    return not any(other.name.startswith(block) for other in layers[place + 1 :])


BIAS_CHECKS = (
    Check(
        "FAN304",
        "large-bias",
        "warning",
        "a constant bias is large against what its layer computes",
        "Every unit is on, or off, whatever the input: a rectifier after it makes no difference.",
        _large,
    ),
)
