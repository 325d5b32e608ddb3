"""FAN305: products of two factors, of which one must not be zero."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from fanin.auditing.code import expression
from fanin.auditing.evidence import Evidence
from fanin.auditing.finding import Check, Symptom
from fanin.auditing.plausible import is_trained
from fanin.auditing.remedy import redraw
from fanin.auditing.weights import Weight

__all__ = ["LOW_RANK_CHECKS", "factor_pairs", "follows"]


def _dead_products(evidence: Evidence) -> Iterator[Symptom]:
    dead = [
        (first, second)
        for first, second in factor_pairs(evidence)
        if first.numbers.is_zero and second.numbers.is_zero and is_trained(first)
    ]
    if dead:
        rank = min(*dead[0][0].shape, *dead[0][1].shape)
        factors = [first for first, _ in dead]
        is_raw = any(first.layout is None for first in factors)
        yield Symptom(
            tuple(weight.name for pair in dead for weight in pair),
            f"both factors of a product of rank {rank} are 0",
            "one factor random, the other 0",
            f"torch.nn.init.kaiming_uniform_({expression(factors[0].name)}, a=5**0.5)"
            if is_raw
            else redraw((first.name for first in factors), "torch_default"),
            {"pairs": len(dead), "rank": rank},
        )


def factor_pairs(evidence: Evidence) -> Iterator[tuple[Weight, Weight]]:
    """Pairs of weights that are multiplied into one of lower rank: by name, or by their shapes."""
    taken: set[str] = set()
    for weight in evidence.weights:
        second = evidence.by_name.get(_partner(weight.name))
        if second is not None:
            taken |= {weight.name, second.name}
            yield weight, second
    for first, second in pairwise(evidence.weights):
        if not {first.name, second.name} & taken and _is_thin(first, second):
            yield first, second
    for first, second in pairwise(w for w in evidence.weights if w.is_matrix):
        if not {first.name, second.name} & taken and follows(first, second):
            (out, inner), (_, into) = second.shape[:2], first.shape[:2]
            if len(first.shape) == len(second.shape) == 2 and inner < min(out, into):
                yield first, second


def follows(first: Weight, second: Weight) -> bool:
    """Whether a linear layer gives what the next one of the same parent takes, by their shapes."""
    if first.layout is None or second.layout is None or first.is_lookup or second.is_lookup:
        return False
    if first.module is second.module or _parent(first) != _parent(second):
        return False
    given = [first.shape[axis] for axis in first.layout.out_axes]
    taken = [second.shape[axis] for axis in second.layout.in_axes]
    return given == taken and first.layout.groups == second.layout.groups == 1


def _parent(weight: Weight) -> str:
    """Of the module that holds it."""
    return weight.name.rpartition(".")[0].rpartition(".")[0]


def _is_thin(first: Weight, second: Weight) -> bool:
    """Whether two raw parameters of one module are the factors of x @ A @ B, or of B @ A."""
    if first.layout is not None or second.layout is not None or first.module is not second.module:
        return False
    if len(first.shape) != 2 or len(second.shape) != 2 or first.module is None:
        return False
    (a, b), (c, d) = first.shape, second.shape
    return (b == c and b < min(a, d)) or (a == d and a < min(b, c))


_FIRST = re.compile(r"(?<![A-Za-z])((?:lora|adapter|relora)_(?:embedding_)?)(A|a|down)(?![A-Za-z])")
_SECOND = {"A": "B", "a": "b", "down": "up"}


def _partner(name: str) -> str:
    """The name of the second factor, where a name is that of a first; else no name at all."""
    found = _FIRST.search(name)
    if found is None:
        return ""
    return f"{name[: found.start(2)]}{_SECOND[found[2]]}{name[found.end(2) :]}"


LOW_RANK_CHECKS = (
    Check(
        "FAN305",
        "dead-product",
        "error",
        "both factors of a low-rank product are 0",
        "The gradient of each factor is a product with the other: both stay 0 for ever.",
        _dead_products,
    ),
)
