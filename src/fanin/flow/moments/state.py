"""What is known of one value of a trace while its moments are computed."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from fanin.flow.moments.axes import Axes, count
from fanin.flow.moments.expression import Expression, root
from fanin.flow.moments.moments import Moments
from fanin.flow.moments.noise import Noise

__all__ = ["KNOWN_ENTRIES", "State", "layer_output"]

KNOWN_ENTRIES = 1 << 22  # larger tensors are not computed, though they could be


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """A value of the trace.

    Args:
        axes: what its dims stand for.
        expression: its entries as a function of normal variables.
        data: the tensor itself, where it depends on no weight.
        is_parameter: whether it was computed from parameters alone.
        visible: of attention scores, how many keys each query sees; None for all.
        queries: of attention scores and weights, E a a' of two queries and one key.
    """

    axes: Axes
    expression: Expression
    data: Tensor | None = None
    is_parameter: bool = False
    visible: tuple[int, ...] | None = None
    queries: float | None = None

    @property
    def moments(self) -> Moments:
        """Of its entries."""
        return self.expression.moments


def layer_output(
    moments: Moments,
    axes: Axes,
    *,
    noise: Noise | None = None,
    normalized: bool = False,
) -> State:
    """A value that is normal by the central limit theorem, or taken to be."""
    return State(axes, root(settled(moments, axes), noise=noise, normalized=normalized))


def settled(moments: Moments, axes: Axes) -> Moments:
    """Pairs that the axes do not have: entries that differ in nothing are one entry."""
    if count(axes, "position") == 1:
        moments = replace(moments, neighbours=moments.second, positions=moments.second)
    if count(axes, "sample") == 1:
        moments = replace(moments, samples=moments.positions)
    return moments
