"""Attention whose scores nothing divides: queries are made small enough for a soft maximum."""

from __future__ import annotations

import math
from collections.abc import Iterator

from fanin.flow import Operation, Trace, Value
from fanin.flow.moments import Forward
from fanin.recipes.chains import Aim
from fanin.recipes.links import sources, weight_of

__all__ = ["score_aims"]

_LOUD = 2.0  # scores of queries and keys of 1, divided by the root of their width, have 1


def score_aims(forward: Forward) -> dict[str, Aim]:
    """For the weights of queries whose scores have a second moment above 2: one that gives 1.

    T5 has the division in its weights, where others have it in the model.

    Args:
        forward: a finished pass over the model, in which layers give 1.
    """
    found = {}
    for query, others, second in _scores(forward):
        if second <= _LOUD:
            continue
        elsewhere = {name for value in others for name in _weights(forward, value)}
        for name in _weights(forward, query):
            if name not in elsewhere:
                found[name] = Aim(1 / second)
    return found


def _scores(forward: Forward) -> Iterator[tuple[Value, tuple[Value, ...], float]]:
    """Queries, what they must not share a weight with, and the second moment of the scores."""
    trace = forward.trace
    for operation in trace.operations:
        if operation.name == "scaled_dot_product_attention":
            query, key, value = operation.inputs[:3]
            width = query.shape[-1]
            scale = operation.kwargs.get("scale") or 1 / math.sqrt(width)
            a, b = (forward.states[each].moments.second for each in (query, key))
            yield query, (key, value), width * scale**2 * a * b
        elif operation.name == "softmax" and operation.inputs:
            product = _product(trace, operation.inputs[0])
            if product is not None:
                query, key = trace.roles.signals_of(product)
                yield query, (key,), forward.states[operation.inputs[0]].moments.second


def _product(trace: Trace, scores: Value) -> Operation | None:
    """The product of two signals that scores come from, through what is done to each entry."""
    waiting, seen = [scores], {scores}
    while waiting:
        made = trace.producer(waiting.pop())
        if made is None or weight_of(trace, made) is not None:
            continue
        signals = trace.roles.signals_of(made)
        if made.name in _PRODUCTS and len(signals) == 2:
            return made
        waiting += [value for value in signals if value not in seen]
        seen.update(signals)
    return None


def _weights(forward: Forward, value: Value) -> list[str]:
    found = (weight_of(forward.trace, operation) for operation, _ in sources(forward, value))
    return [name for name in found if name is not None]


_PRODUCTS = frozenset(("matmul", "bmm", "einsum", "baddbmm"))
