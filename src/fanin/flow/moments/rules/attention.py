"""Attention: softmax weights over normal scores, and the mean of values that they take."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import torch

from fanin.flow.graph import Operation, Value
from fanin.flow.moments.calling import argument
from fanin.flow.moments.expression import root
from fanin.flow.moments.gradients import Arrival, Gradients, Pullback
from fanin.flow.moments.moments import Moments
from fanin.flow.moments.rules.registry import rule
from fanin.flow.moments.rules.softmax import concentration, mean_concentration, responsiveness
from fanin.flow.moments.state import State, layer_output, settled

if TYPE_CHECKING:
    from fanin.flow.moments.forward import Forward

__all__: list[str] = []


@rule("softmax")
def _softmax(forward: Forward, operation: Operation) -> Pullback:
    """Scores count as normal, and as independent but for what all of one query have in common."""
    x, output = argument(operation, 0, "input"), operation.outputs[0]
    dim = argument(operation, 1, "dim", default=-1)
    state = forward.state(x, operation)
    n = x.shape[dim]
    variance, common = _along(state, dim)
    visible = state.visible or (n,)
    square = mean_concentration(variance, visible)
    mean = 1 / n
    apart = (mean - square / n) / max(n - 1, 1)
    queries = None
    if common is not None:
        queries = mean_concentration(common * variance, visible) / n
    role = {atom.role for atom in state.axes[dim]}
    if role == {"position"} or queries is not None:
        moments = Moments(mean, square / n, apart, apart, mean**2)
    else:
        # Over features: what agrees in the scores agrees in the weights.
        centred = square / n - mean**2
        pairs = (mean**2 + max(rho, 0.0) * centred for rho in state.moments.correlations)
        moments = settled(Moments(mean, square / n, *pairs), state.axes)
    forward.put(output, State(state.axes, root(moments), queries=queries))

    def pull(gradients: Gradients) -> list[Arrival]:
        # a (g - Σ a g): what all entries have in common drops out.
        g = gradients[output]
        own = max(g.second - (g.positions if role == {"position"} else 0.0), 0.0)
        back = responsiveness(variance, visible) / n * own
        return [Arrival(x, Moments.independent(mean=0.0, second=back))]

    return pull


@rule("log_softmax")
def _log_softmax(forward: Forward, operation: Operation) -> Pullback:
    x, output = argument(operation, 0, "input"), operation.outputs[0]
    dim = argument(operation, 1, "dim", default=-1)
    state = forward.state(x, operation)
    n = x.shape[dim]
    variance, _ = _along(state, dim)
    mean = -float(torch.tensor(float(n)).log()) - variance / 2
    pairs = (mean**2 + rho * variance for rho in state.moments.correlations)
    moments = Moments(mean, mean**2 + variance, *pairs)
    forward.put(output, State(state.axes, root(settled(moments, state.axes))))

    def pull(gradients: Gradients) -> list[Arrival]:
        return [Arrival(x, gradients[output])]

    return pull


def _along(state: State, dim: int) -> tuple[float, float | None]:
    """Variance of scores within one softmax; correlation of two queries' scores."""
    x = state.moments
    role = {atom.role for atom in state.axes[dim]}
    variance = max(x.second - (x.positions if role == {"position"} else x.mean**2), 0.0)
    if state.queries is None or variance == 0:
        return variance, None
    # Keys' own parts, met by what two queries have in common.
    return variance, min(max(state.queries / x.second, 0.0), 1.0) if x.second > 0 else None


@dataclass(frozen=True, slots=True)
class _Heads:
    """One call of scaled_dot_product_attention."""

    query: Value
    key: Value
    value: Value

    @property
    def width(self) -> int:
        return self.query.shape[-1]

    @property
    def keys(self) -> int:
        return self.key.shape[-2]

    @property
    def queries(self) -> int:
        return self.query.shape[-2]


@rule("scaled_dot_product_attention")
def _attention(forward: Forward, operation: Operation) -> Pullback:
    """Queries and keys come from different weights, so that scores are normal, of mean 0."""
    heads = _Heads(*(argument(operation, at, name) for at, name in enumerate(_QKV)))
    q, k, v = (forward.state(each, operation) for each in (heads.query, heads.key, heads.value))
    rate = float(argument(operation, 4, "dropout_p", default=0.0))
    scale = argument(operation, 6, "scale")
    factor = 1 / heads.width if scale is None else scale**2
    # What keys have in common moves all scores of a query alike.
    own = max(k.moments.second - k.moments.positions, 0.0)
    variance = factor * heads.width * q.moments.second * own
    variance += _mask_variance(forward, operation)
    agreement = q.moments.positions / q.moments.second if q.moments.second > 0 else 0.0
    visible = _visible(forward, operation, heads)
    square = mean_concentration(variance, visible)
    overlap = mean_concentration(max(agreement, 0.0) * variance, visible)
    if min(visible) < max(visible):
        # Of two queries with different views, the smaller share is what they can have in common.
        overlap = min(overlap, concentration(max(agreement, 0.0) * variance, max(visible)) * 2)
    x = v.moments
    kept = 1 - rate

    def taken(share: float, single: float, pair: float) -> float:
        return share * single + (1 - share) * pair

    second = square / kept * x.second + (1 - square) * x.positions
    along = taken(overlap, x.second, x.positions)
    moments = Moments(x.mean, second, along, along, x.samples)
    output = operation.outputs[0]
    axes = (*q.axes[:-1], v.axes[-1])
    forward.put(output, layer_output(moments, axes, noise=v.expression.noise))

    def pull(gradients: Gradients) -> list[Arrival]:
        g = gradients[output]
        n, m = heads.keys, heads.queries
        groups = prod(heads.query.shape[:-2]) / max(prod(heads.key.shape[:-2]), 1)
        # Each value is in the outputs of all queries that see it.
        alone = m / n * square / kept * g.second
        agreed = m * max(m - 1, 0) / n * overlap * g.positions
        # Two keys share all the queries that see both.
        lonely = max(1 - square, 0.0) * g.second + max(m - 1, 0) * (1 - overlap) * g.positions
        far = groups * m / n * lonely / max(n - 1, 1)
        to_value = Moments(0.0, groups * (alone + agreed), far, far, g.samples * (m / n) ** 2)
        of_weights = heads.value.shape[-1] * g.second * max(x.second - x.positions, 0.0)
        of_scores = responsiveness(variance, visible) / n / kept * of_weights
        to_query = factor * n * of_scores * own
        to_key = groups * factor * m * of_scores * q.moments.second
        result = [
            Arrival(heads.value, to_value),
            Arrival(heads.query, Moments.independent(mean=0.0, second=to_query)),
            Arrival(heads.key, Moments.independent(mean=0.0, second=to_key)),
        ]
        mask = argument(operation, 3, "attn_mask")
        if isinstance(mask, Value):
            copies = prod(heads.query.shape[:-1]) * n / max(prod(mask.shape), 1)
            to_mask = Moments.independent(mean=0.0, second=max(copies, 1.0) * of_scores)
            result.append(Arrival(mask, to_mask))
        return result

    return pull


_QKV = ("query", "key", "value")


def _visible(forward: Forward, operation: Operation, heads: _Heads) -> tuple[int, ...]:
    """How many keys each query sees."""
    if argument(operation, 5, "is_causal", default=False):
        return tuple(min(at + 1, heads.keys) for at in range(heads.queries))
    mask = argument(operation, 3, "attn_mask")
    if not isinstance(mask, Value):
        return (heads.keys,)
    state = forward.state(mask, operation)
    if state.data is None:
        return state.visible or (heads.keys,)
    keep = state.data if state.data.dtype == torch.bool else state.data > -1e4
    counts = keep.expand(*keep.shape[:-1], heads.keys).sum(-1).reshape(-1)
    return tuple(int(each) for each in counts[: 1 << 14])


def _mask_variance(forward: Forward, operation: Operation) -> float:
    """What a learned bias adds to the scores."""
    mask = argument(operation, 3, "attn_mask")
    if not isinstance(mask, Value) or not mask.dtype.is_floating_point:
        return 0.0
    state = forward.state(mask, operation)
    return state.moments.variance if state.data is None else 0.0
