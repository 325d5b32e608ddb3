"""FAN303: the forget gates of LSTMs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fanin.auditing.evidence import Evidence
from fanin.auditing.finding import Check, Symptom
from fanin.auditing.weights import Weight
from fanin.report import number_text

__all__ = ["RECURRENT_CHECKS"]

_GATES = ("i", "f", "g", "o")
_OPEN = 0.5
"""A mean from here on was set; of the sums of two uniform draws in ±1/√H it is less, for H ≥ 12
with more than 6 standard errors: each is ``0.82/H``."""

_LEAST = 12  # units

_DOUBLE = 1.5
"""Both biases were set to what their sum should be."""


class _Sums(NamedTuple):
    """Means of the two biases together, by gate, and of the forget gate's each."""

    name: str
    means: dict[str, float]
    each: tuple[float, float]


def _forget_gates(evidence: Evidence) -> Iterator[Symptom]:
    found: dict[tuple[str, bool], list[_Sums]] = {}
    plain: list[_Sums] = []
    for sums in _every(evidence):
        forget = sums.means["f"]
        others = {gate: mean for gate, mean in sums.means.items() if gate != "f"}
        gate, mean = max(others.items(), key=lambda item: item[1])
        if forget < _OPEN and mean >= _OPEN:
            text = (
                f"a bias of {number_text(mean)} in gate {gate}, and {number_text(forget)} in the "
                "forget gate: torch's order is i, f, g, o"
            )
            found.setdefault((text, True), []).append(sums)
        elif forget <= -_OPEN:
            found.setdefault((_text(forget), True), []).append(sums)
        elif forget >= _DOUBLE and min(sums.each) >= _OPEN:
            text = f"{_text(forget)}, as both biases were set, and add up"
            found.setdefault((text, False), []).append(sums)
        elif forget < _OPEN:
            plain.append(sums)
    for (text, is_wrong), places in found.items():
        yield _symptom(places, text, is_wrong=is_wrong)
    if plain:
        forget = sum(sums.means["f"] for sums in plain) / len(plain)
        yield _symptom(plain, _text(forget), is_wrong=False)


def _text(forget: float) -> str:
    kept = 1 / (1 + math.exp(-forget))
    return f"forget gates start at {number_text(kept)}: bias {number_text(forget)}"


def _symptom(found: list[_Sums], observed: str, *, is_wrong: bool) -> Symptom:
    names = tuple(sums.name for sums in found)
    both = [name for each in names for name in (each, each.replace("bias_ih", "bias_hh"))]
    return Symptom(
        names,
        observed,
        "0.73, from biases that add up to 1",
        'fanin.initialize(model, fanin.get_recipe("torch_default") + fanin.recipes.forget_bias(), '
        f"only={both})",
        {"forget": found[0].means["f"]},
        "warning" if is_wrong else None,
    )


def _every(evidence: Evidence) -> Iterator[_Sums]:
    """The biases of every layer and direction of every LSTM."""
    for weight in evidence.weights:
        if weight.kind is None or not issubclass(weight.kind, nn.LSTM | nn.LSTMCell):
            continue
        if not weight.attribute.startswith("bias_ih") or weight.numbers.not_finite:
            continue
        partner = evidence.by_name.get(weight.name.replace("bias_ih", "bias_hh"))
        if partner is None or partner.numbers.not_finite or weight.shape[0] < 4 * _LEAST:
            continue
        inner, outer = _gates(weight), _gates(partner)
        means = {gate: inner[gate] + outer[gate] for gate in _GATES}
        yield _Sums(weight.name, means, (inner["f"], outer["f"]))


def _gates(weight: Weight) -> dict[str, float]:
    chunks: tuple[Tensor, ...] = torch.chunk(weight.tensor.double(), len(_GATES))
    return {gate: float(part.mean()) for gate, part in zip(_GATES, chunks, strict=True)}


RECURRENT_CHECKS = (
    Check(
        "FAN303",
        "forget-bias",
        "note",
        "the forget gates of an LSTM start half shut, or the bias meant for them is elsewhere",
        "A gate at 0.5 halves the cell's state at every step: after ten 0.001 of it is left.",
        _forget_gates,
    ),
)
