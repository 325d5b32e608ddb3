"""The backward pass over a trace in moments: the second moment of every gradient."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from fanin.flow.graph import Value
from fanin.flow.moments.expression import Expression
from fanin.flow.moments.forward import Forward
from fanin.flow.moments.gradients import Arrival, gathered, silent
from fanin.flow.moments.moments import Moments

__all__ = ["backward"]


def backward(forward: Forward, start: Mapping[Value, Moments]) -> dict[Value, Moments]:
    """Moments of the gradient with respect to each value that gets one.

    Two approximations: gradients are independent of the activations they meet (the weights that
    carry them back count as another draw), and contributions from different layers to one value
    are uncorrelated. What elementwise functions do to one gradient is exact.

    Args:
        forward: a pass that has finished.
        start: moments of the gradient at the values where it starts.
    """
    pass_ = _Backward(forward)
    for value, gradient in start.items():
        pass_.arrive(Arrival(value, gradient))
    for operation in reversed(forward.trace.operations):
        pullback = forward.pullbacks.get(operation)
        if pullback is None:
            for value in operation.outputs:
                pass_.through_functions(value)
            continue
        found = {value: pass_.arrived.get(value) for value in operation.outputs}
        if any(gradient is not None for gradient in found.values()):
            gradients = {value: gradient or silent() for value, gradient in found.items()}
            for arrival in pullback(gradients):
                pass_.arrive(arrival)
    return pass_.total()


class _Backward:
    def __init__(self, forward: Forward) -> None:
        self._forward = forward
        self.arrived: dict[Value, Moments] = {}
        self.inner: dict[Value, Moments] = {}

    def arrive(self, arrival: Arrival) -> None:
        """One more contribution to a value's gradient."""
        if arrival.value.dtype.is_floating_point:
            gradients = self.inner if arrival.is_passed_on else self.arrived
            so_far = gradients.get(arrival.value, silent())
            gradients[arrival.value] = so_far.plus(arrival.gradient)

    def through_functions(self, value: Value) -> None:
        """From the end of a chain of elementwise functions to all that it was computed from."""
        end = self._forward.functions.get(value)
        gradient = self.arrived.get(value)
        if gradient is None or end is None or end.is_root:
            return
        axes = self._forward.states[value].axes
        for part, owner, slope in self._slopes(end):
            contribution = gathered(gradient.times(slope), axes, self._forward.states[owner].axes)
            self.arrive(Arrival(owner, contribution, not self._forward.ends_at(part, owner)))

    def total(self) -> dict[Value, Moments]:
        """Of each value, what ended there and what passed through."""
        result = dict(self.arrived)
        for value, gradient in self.inner.items():
            result[value] = result.get(value, silent()).plus(gradient)
        return result

    def _slopes(self, end: Expression) -> Iterator[tuple[Expression, Value, Moments]]:
        """Moments of the derivative of an expression by each of its parts that is a value."""
        rule = end.grid
        with torch.enable_grad():
            leaves = end.on_grid()
            for points in leaves.values():
                points.requires_grad_()
            known = end.all_values(leaves)
            # Nothing comes back through comparisons.
            parts = [each for each in self._forward.parts(end) if known[each[0]].requires_grad]
            if not parts or not known[end].requires_grad:
                return
            asked = [known[part] for part, _ in parts]
            slopes = torch.autograd.grad(known[end].sum(), asked, materialize_grads=True)
        for (part, owner), slope in zip(parts, slopes, strict=True):
            values = torch.nan_to_num(slope.detach())
            second = rule.mean(values.square())
            pairs = rule.products(values, end.correlations, second)
            yield part, owner, Moments(0.0, second, *pairs)
