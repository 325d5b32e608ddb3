"""Means over windows of positions, and positions that are copied or added."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

from fanin.flow.graph import Operation, Value
from fanin.flow.moments.axes import of_role
from fanin.flow.moments.calling import argument
from fanin.flow.moments.expression import Expression, root
from fanin.flow.moments.gradients import Arrival, Gradients, Pullback
from fanin.flow.moments.moments import Moments
from fanin.flow.moments.rules.linear import at_lag
from fanin.flow.moments.rules.reductions import mean_over
from fanin.flow.moments.rules.registry import rule
from fanin.flow.moments.rules.sampled import sampled
from fanin.flow.moments.rules.views import same
from fanin.flow.moments.state import State, settled

if TYPE_CHECKING:
    from fanin.flow.moments.forward import Forward

__all__: list[str] = []


@rule("avg_pool1d", "avg_pool2d", "avg_pool3d")
def _average_pool(forward: Forward, operation: Operation) -> Pullback:
    x = argument(operation, 0, "input")
    dims = int(operation.name[-2])
    window = _each(argument(operation, 1, "kernel_size"), dims)
    stride = argument(operation, 2, "stride")
    steps = _each(stride, dims) if stride not in (None, (), []) else window
    padding = _each(argument(operation, 3, "padding", default=0), dims)
    overlaps = [
        size / step * (1 - 2 * pad / max(length + 2 * pad, 1))
        for size, step, pad, length in zip(window, steps, padding, x.shape[-dims:], strict=True)
    ]
    return _pooled(forward, operation, x, window, max(steps), prod(overlaps))


@rule("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d")
def _adaptive_pool(forward: Forward, operation: Operation) -> Pullback:
    x, output = argument(operation, 0, "input"), operation.outputs[0]
    dims = int(operation.name[-2])
    sizes, wanted = x.shape[-dims:], output.shape[-dims:]
    window = tuple(-(-size // want) for size, want in zip(sizes, wanted, strict=True))
    return _pooled(forward, operation, x, window, max(window), 1.0)


def _pooled(
    forward: Forward,
    operation: Operation,
    x: Value,
    window: tuple[int, ...],
    step: int,
    overlap: float,
) -> Pullback:
    """Means over windows of positions; ``overlap`` windows hold one position, on average."""
    state, output = forward.state(x, operation), operation.outputs[0]
    before = state.moments
    entries = prod(window)
    if list(window) == list(x.shape[-len(window) :]):
        gone = state.axes[-len(window) :]
        axes = (*state.axes[: -len(window)], *((),) * len(window))
        return mean_over(forward, operation, x, gone, axes)
    second = _within(before, window)
    neighbours = before.positions
    if before.neighbours > before.positions:
        neighbours += (at_lag(before, step) - before.positions) / max(step, 1)
    if step < max(window):
        shared = 1 - step / max(window)
        neighbours = shared * second + (1 - shared) * neighbours
    moments = Moments(before.mean, second, neighbours, before.positions, before.samples)
    axes = tuple(
        of_role(atoms[0].role, size) if atoms and prod(a.size for a in atoms) != size else atoms
        for atoms, size in zip(state.axes, output.shape, strict=True)
    )
    noise = state.expression.noise
    forward.put(output, State(axes, root(settled(moments, axes), noise=noise)))

    def pull(gradients: Gradients) -> list[Arrival]:
        g = gradients[output]
        # Overlapping windows add up as the gradients of neighbours agree.
        alike = overlap * g.second + max(overlap * (overlap - 1), 0.0) * g.neighbours
        second = alike / entries**2
        return [
            Arrival(x, Moments(0.0, second, second, g.positions * (overlap / entries) ** 2, 0.0))
        ]

    return pull


def _within(x: Moments, window: tuple[int, ...]) -> float:
    """E of the mean's square over a window: agreement by distance, along each dim in turn."""
    if x.second <= x.positions:
        return x.positions
    ratio = (x.neighbours - x.positions) / (x.second - x.positions)
    ratio = min(max(ratio, 0.0), 1.0)
    share = 1.0
    for size in window:
        lags = sum(ratio ** abs(i - j) for i in range(size) for j in range(size))
        share *= lags / size**2
    return x.positions + (x.second - x.positions) * share


@rule("interpolate", "upsample", "upsample_nearest", "pixel_shuffle", "pixel_unshuffle")
def _resampled(forward: Forward, operation: Operation) -> Pullback | None:
    x, output = argument(operation, 0, "input"), operation.outputs[0]
    mode = argument(operation, 3, "mode", default="nearest")
    if operation.name == "interpolate" and mode not in ("nearest", "nearest-exact"):
        return sampled(forward, operation)
    state = forward.state(x, operation)
    dims = len(output.shape) - 2
    spatial = [of_role("position", size) for size in output.shape[2:]]
    axes = (*state.axes[:1], of_role("feature", output.shape[1]), *spatial)
    moments, copies = state.moments, max(prod(output.shape) / max(prod(x.shape), 1), 1e-12)
    if copies > 1:
        share = 1 - copies ** (-1 / max(dims, 1))
        beside = share * moments.second + (1 - share) * moments.neighbours
        moments = replace(moments, neighbours=beside)
    expression = root(settled(moments, axes), noise=state.expression.noise)
    if state.expression.is_root or copies > 1:
        forward.put(output, State(axes, expression))
    else:
        forward.put(output, State(axes, Expression(function=same, inputs=(state.expression,))))
        return None

    def pull(gradients: Gradients) -> list[Arrival]:
        g = gradients[output]
        second = copies * (g.second + max(copies - 1, 0.0) * g.neighbours)
        return [Arrival(x, Moments(0.0, second, *(copies**2 * pair for pair in g.pairs)))]

    return pull


@rule("pad")
def _padded(forward: Forward, operation: Operation) -> Pullback:
    x, output = argument(operation, 0, "input"), operation.outputs[0]
    pads = argument(operation, 1, "pad")
    mode = argument(operation, 2, "mode", default="constant")
    fill = argument(operation, 3, "value", default=0.0) or 0.0
    state = forward.state(x, operation)
    share = prod(x.shape) / max(prod(output.shape), 1)
    axes = list(state.axes)
    for at, (before, after) in enumerate(zip(pads[::2], pads[1::2], strict=True)):
        dim = len(axes) - 1 - at
        size = output.shape[dim]
        old = axes[dim]
        profile = None
        if mode == "constant" and fill == 0 and min(before, after) >= 0 and size != x.shape[dim]:
            inner = (old[0].profile if len(old) == 1 else None) or (1.0,) * x.shape[dim]
            scale = size / max(x.shape[dim], 1)
            whole = (*(0.0,) * before, *inner, *(0.0,) * after)
            profile = tuple(scale * each for each in whole)
        if size != x.shape[dim]:
            axes[dim] = of_role("position", size, profile)
    moments = state.moments
    if mode == "constant" and fill == 0 and share < 1:
        moments = Moments(
            moments.mean * share, moments.second * share, *(share * each for each in moments.pairs)
        )
    result = tuple(axes)
    forward.put(output, State(result, root(settled(moments, result), noise=state.expression.noise)))

    def pull(gradients: Gradients) -> list[Arrival]:
        return [Arrival(x, gradients[output])]

    return pull


def _each(value: int | tuple[int, ...] | list[int], dims: int) -> tuple[int, ...]:
    if isinstance(value, int):
        return (value,) * dims
    return tuple(value) * dims if len(value) == 1 else tuple(value)
