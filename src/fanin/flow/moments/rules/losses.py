"""Losses that are too wide to be sampled; narrow ones are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fanin.flow.graph import Operation
from fanin.flow.moments.calling import argument
from fanin.flow.moments.gradients import Arrival, Gradients, Pullback
from fanin.flow.moments.moments import Moments
from fanin.flow.moments.rules.registry import rule
from fanin.flow.moments.rules.sampled import sampled
from fanin.flow.moments.rules.softmax import concentration
from fanin.flow.moments.state import layer_output

if TYPE_CHECKING:
    from fanin.flow.moments.forward import Forward

__all__: list[str] = []


@rule("cross_entropy")
def _cross_entropy(forward: Forward, operation: Operation) -> Pullback | None:
    """Of normal logits and targets that know nothing of them, all of one weight."""
    logits, target = operation.args[:2]
    output = operation.outputs[0]
    smoothing = float(argument(operation, 7, "label_smoothing", default=0.0))
    if smoothing or target.dtype.is_floating_point or len(logits.shape) < 2:
        return sampled(forward, operation)
    classes = logits.shape[1]
    rows = math.prod(target.shape)
    moments = forward.state(logits, operation).moments
    variance = max(moments.second - moments.mean**2, 0.0)
    # E log Σ exp z of normal z: exact for small variances, the bound of Jensen for large ones.
    loss = math.log(classes) + variance / 2
    reduction = argument(operation, 6, "reduction", default="mean")
    size = loss * rows if reduction == "sum" else loss
    axes = forward.state(target, operation).axes if output.shape else ()
    forward.put(output, layer_output(Moments.constant(size), axes))
    shared = 1 / rows**2 if reduction == "mean" else 1.0
    # Σ (p - y)² over the classes, y being 1 at one of them.
    squares = concentration(variance, classes) - 2 / classes + 1

    def pull(gradients: Gradients) -> list[Arrival]:
        second = gradients[output].second * shared * squares / classes
        return [Arrival(logits, Moments.independent(mean=0.0, second=second))]

    return pull
