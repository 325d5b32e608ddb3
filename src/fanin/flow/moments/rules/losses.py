"""Losses that are too wide to be sampled; narrow ones are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fanin.flow.graph import Operation, Value
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
    """Of normal logits and targets that know nothing of them."""
    logits, target = argument(operation, 0, "input"), argument(operation, 1, "target")
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
    mean, second = _weights(forward, operation, logits, target)
    if reduction == "none":
        rest = Moments.independent(mean=loss * mean, second=loss**2 * second)
    else:
        size = loss * (rows * mean if reduction == "sum" else float(mean > 0))
        rest = Moments.constant(size)
    axes = forward.state(target, operation).axes if output.shape else ()
    forward.put(output, layer_output(rest, axes))
    shared = second
    if reduction == "mean":
        shared = second / (rows * mean) ** 2 if mean > 0 else 0.0
    # Σ (p - y)² over the classes, y being 1 at one of them.
    squares = concentration(variance, classes) - 2 / classes + 1

    def pull(gradients: Gradients) -> list[Arrival]:
        second = gradients[output].second * shared * squares / classes
        return [Arrival(logits, Moments.independent(mean=0.0, second=second))]

    return pull


def _weights(
    forward: Forward, operation: Operation, logits: Value, target: Value
) -> tuple[float, float]:
    """Mean and mean square of what the rows' losses are weighted with, 0 for those ignored."""
    of_classes = argument(operation, 2, "weight")
    targets = forward.state(target, operation).data
    mean = second = 1.0
    weights = None
    if of_classes is not None:
        state = forward.state(of_classes, operation, meets=logits)
        mean, second, weights = state.moments.mean, state.moments.second, state.data
    if targets is None or not targets.numel():
        return mean, second
    counts = targets != argument(operation, 4, "ignore_index", default=-100)
    if weights is None:
        share = float(counts.double().mean())
        return share * mean, share * second
    each = weights.double()[targets.clamp(0, logits.shape[1] - 1)] * counts
    return float(each.mean()), float(each.square().mean())
