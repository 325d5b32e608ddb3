"""FAN103: weights of zeros, and what is lost where."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from torch import nn

from fanin.auditing.checks.low_rank import factor_pairs, follows
from fanin.auditing.evidence import Evidence
from fanin.auditing.finding import Severity, Symptom
from fanin.auditing.plausible import is_trained
from fanin.auditing.remedy import redraw
from fanin.auditing.weights import Weight

__all__ = ["zero_weights"]

_SET = 1.01  # times the bound of torch's default, for rounding


def zero_weights(evidence: Evidence) -> Iterator[Symptom]:
    """Zero weights by what they cost: what never moves, what blocks at first, what is a choice."""
    factors = {weight.name for pair in factor_pairs(evidence) for weight in pair}
    matrices = [w for w in evidence.weights if w.is_matrix and w.name not in factors]
    zero = [weight for weight in matrices if weight.numbers.is_zero and is_trained(weight)]
    parts = [
        f"{weight.name}[{part}]"
        for weight in matrices
        if not weight.numbers.is_zero and is_trained(weight)
        for part, _, numbers in weight.parts
        if numbers.is_zero
    ]
    dead = {
        weight.name
        for first, second in pairwise(matrices)
        if first in zero and second in zero and follows(first, second) and _is_shut(evidence, first)
        for weight in (first, second)
    }
    dead |= {w.name for w in zero if _is_shut(evidence, w) and _meets_relu(evidence, w)}
    set_up = {_parent(w) for w in zero if _starts_as_its_bias(evidence, w)}
    last = {
        w.name for w in zero if w.is_lookup or _is_last(matrices, w) or _parent(w) in set_up
    } - dead
    blocking = [w.name for w in zero if w.name not in dead | last]
    if dead:
        yield _symptom(
            [weight.name for weight in zero if weight.name in dead],
            "all entries are 0, and no gradient ever changes that",
            "error",
        )
    if blocking:
        yield _symptom(blocking, "all entries are 0, between layers that learn", "warning")
    if last or parts:
        yield _symptom(
            [*(weight.name for weight in zero if weight.name in last), *parts],
            "all entries are 0, where some start with zeros on purpose: last layers, tables, and "
            "layers whose bias was set",
            "note",
        )


def _symptom(names: list[str], observed: str, severity: Severity) -> Symptom:
    return Symptom(
        tuple(names), observed, "random entries", redraw(names), {"weights": len(names)}, severity
    )


def _is_shut(evidence: Evidence, weight: Weight) -> bool:
    """Whether a zero weight gives zeros, or less: its bias adds nothing above 0."""
    bias = evidence.by_name.get(f"{weight.name.rpartition('.')[0]}.bias".removeprefix("."))
    return bias is None or bias.numbers.high <= 0


def _parent(weight: Weight) -> str:
    """The name of the module around a weight's own."""
    return weight.name.rpartition(".")[0].rpartition(".")[0]


def _starts_as_its_bias(evidence: Evidence, weight: Weight) -> bool:
    """Whether its bias was set: torch's constructors draw none above 1 / sqrt(fan_in).

    Deformable attention starts with offsets on a grid and, beside them, with equal weights,
    whatever the query.
    """
    bias = evidence.by_name.get(f"{weight.name.rpartition('.')[0]}.bias".removeprefix("."))
    if bias is None or weight.layout is None or weight.attribute != "weight":
        return False
    largest = max(-bias.numbers.low, bias.numbers.high)
    return largest > _SET / math.sqrt(max(weight.layout.fans.fan_in, 1))


def _meets_relu(evidence: Evidence, weight: Weight) -> bool:
    """Whether a rectifier is next in a Sequential: at 0 its derivative, as torch has it, is 0."""
    module, _, _ = weight.name.rpartition(".")
    parent, _, place = module.rpartition(".")
    holder = evidence.modules.get(parent)
    if not isinstance(holder, nn.Sequential) or place not in holder._modules:
        return False
    names = [*holder._modules]
    for name in names[names.index(place) + 1 :]:
        following = holder._modules[name]
        if not isinstance(following, nn.Dropout | nn.Identity):
            return isinstance(following, nn.ReLU | nn.ReLU6)
    return False


def _is_last(matrices: list[Weight], weight: Weight) -> bool:
    """Whether no other weight of the same block comes after it."""
    module = weight.name.rpartition(".")[0]
    parent = module.rpartition(".")[0]
    block = f"{parent}." if parent else ""
    after = matrices[matrices.index(weight) + 1 :]
    return not any(other.name.startswith(block) for other in after if not other.is_lookup)
