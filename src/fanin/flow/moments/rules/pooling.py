"""Means over windows of positions, and positions that are copied or added."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

from fanin.flow.graph import Operation, Value
from fanin.flow.moments.axes import Axes, of_role
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
    sizes = _each(argument(operation, 1, "kernel_size"), dims)
    stride = argument(operation, 2, "stride")
    steps = _each(stride, dims) if stride not in (None, (), []) else sizes
    padding = _each(argument(operation, 3, "padding", default=0), dims)
    counts_padding = argument(operation, 5, "count_include_pad", default=True)
    windows = []
    for d in range(dims):
        length, row = x.shape[d - dims], []
        for at in range(operation.outputs[0].shape[d - dims]):
            start = at * steps[d] - padding[d]
            end = min(start + sizes[d], length + padding[d])
            first, last = max(start, 0), min(end, length)
            row.append(_Window(first, last, end - start if counts_padding else last - first))
        windows.append(row)
    divisor = argument(operation, 6, "divisor_override")
    if divisor is not None:
        for d, row in enumerate(windows):
            windows[d] = [replace(each, divisor=1 if d else divisor) for each in row]
    return _pooled(forward, operation, x, windows, max(steps))


@rule("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d")
def _adaptive_pool(forward: Forward, operation: Operation) -> Pullback:
    x, output = argument(operation, 0, "input"), operation.outputs[0]
    dims = int(operation.name[-2])
    windows = []
    for size, wanted in zip(x.shape[-dims:], output.shape[-dims:], strict=True):
        ends = [(at * size // wanted, -(-(at + 1) * size // wanted)) for at in range(wanted)]
        windows.append([_Window(first, last, last - first) for first, last in ends])
    return _pooled(forward, operation, x, windows, max(row[0].divisor for row in windows))


@dataclass(frozen=True, slots=True)
class _Window:
    """Along one dim: positions from ``first`` to before ``last`` are summed, and divided."""

    first: int
    last: int
    divisor: int

    @property
    def size(self) -> int:
        return self.last - self.first


def _pooled(
    forward: Forward,
    operation: Operation,
    x: Value,
    windows: list[list[_Window]],
    step: int,
) -> Pullback:
    """Means over windows of positions, a list of them for each dim."""
    state, output = forward.state(x, operation), operation.outputs[0]
    before = state.moments
    dims, lengths = len(windows), x.shape[-len(windows) :]
    if all(row == [_Window(0, size, size)] for row, size in zip(windows, lengths, strict=True)):
        gone = state.axes[-dims:]
        axes = (*state.axes[:-dims], *((),) * dims)
        return mean_over(forward, operation, x, gone, axes)
    width = max(window.size for row in windows for window in row)
    share = prod(_mean(window.size / window.divisor for window in row) for row in windows)
    common = prod(_mean((window.size / window.divisor) ** 2 for window in row) for row in windows)
    second = _within(before, windows, common)
    neighbours = before.positions
    if before.neighbours > before.positions:
        neighbours += (at_lag(before, step) - before.positions) / max(step, 1)
    neighbours *= common
    if step < width:
        shared = 1 - step / width
        neighbours = shared * second + (1 - shared) * neighbours
    apart = (share**2 * pair for pair in (before.positions, before.samples))
    moments = Moments(before.mean * share, second, neighbours, *apart)
    axes = tuple(
        of_role(atoms[0].role, size) if atoms and prod(a.size for a in atoms) != size else atoms
        for atoms, size in zip(state.axes, output.shape, strict=True)
    )
    noise = state.expression.noise
    forward.put(output, State(axes, root(settled(moments, axes), noise=noise)))

    def pull(gradients: Gradients) -> list[Arrival]:
        g = gradients[output]
        alone, together, whole = 1.0, 1.0, 1.0
        for row, size in zip(windows, lengths, strict=True):
            arriving = [0.0] * size
            for window in row:
                for at in range(window.first, window.last):
                    arriving[at] += 1 / window.divisor
            alone *= sum(window.size / window.divisor**2 for window in row) / size
            together *= _mean(each**2 for each in arriving)
            whole *= _mean(arriving)
        # Overlapping windows add up as the gradients of neighbours agree.
        second = alone * g.second + max(together - alone, 0.0) * g.neighbours
        return [Arrival(x, Moments(0.0, second, second, g.positions * whole**2, 0.0))]

    return pull


def _within(x: Moments, windows: list[list[_Window]], common: float) -> float:
    """E of the mean's square over a window: agreement by distance, along each dim in turn.

    Args:
        x: moments of what is summed.
        windows: for each dim.
        common: the same of a tensor that is 1 everywhere.
    """
    if x.second <= x.positions:
        return x.positions * common
    ratio = (x.neighbours - x.positions) / (x.second - x.positions)
    ratio = min(max(ratio, 0.0), 1.0)
    share = 1.0
    for row in windows:
        sizes = {window.size for window in row}
        lags = {
            size: sum((size - abs(lag)) * ratio ** abs(lag) for lag in range(1 - size, size))
            for size in sizes
        }
        share *= _mean(lags[window.size] / window.divisor**2 for window in row)
    return x.positions * common + (x.second - x.positions) * share


def _mean(numbers: Iterable[float]) -> float:
    found = list(numbers)
    return sum(found) / max(len(found), 1)


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
    is_constant = mode == "constant"
    axes, kept = list(state.axes), list(x.shape)
    for at, (before, after) in enumerate(zip(pads[::2], pads[1::2], strict=True)):
        dim = len(axes) - 1 - at
        size, old = output.shape[dim], axes[dim]
        kept[dim] += min(before, 0) + min(after, 0)
        if size == x.shape[dim]:
            continue
        role = old[0].role if old else "position"
        profile = None
        if is_constant and fill == 0 and min(before, after) >= 0 and role == "position":
            inner = (old[0].profile if len(old) == 1 else None) or (1.0,) * x.shape[dim]
            scale = size / max(x.shape[dim], 1)
            whole = (*(0.0,) * before, *inner, *(0.0,) * after)
            profile = tuple(scale * each for each in whole)
        axes[dim] = of_role(role, size, profile)
    result = tuple(axes)
    moments = state.moments
    if is_constant:
        moments = _filled(moments, fill, _inside(result, kept, output.shape))
    forward.put(output, State(result, root(settled(moments, result), noise=state.expression.noise)))
    # Entries of the result for one of the input; a copy's gradient counts as one of its own.
    copies = prod(kept if is_constant else output.shape) / max(prod(x.shape), 1)

    def pull(gradients: Gradients) -> list[Arrival]:
        g = gradients[output]
        beside, apart = copies * g.neighbours, (copies**2 * g.positions, copies**2 * g.samples)
        return [Arrival(x, Moments(0.0, copies * g.second, beside, *apart))]

    return pull


def _filled(x: Moments, fill: float, inside: tuple[float, ...]) -> Moments:
    """Of a tensor among entries that are all ``fill``."""
    share, *both = inside
    # Of a pair both are entries of x, or one is, or none.
    pairs = (
        of_both * pair + 2 * (share - of_both) * fill * x.mean + (1 - 2 * share + of_both) * fill**2
        for of_both, pair in zip(both, x.pairs, strict=True)
    )
    mean, second = share * x.mean + (1 - share) * fill, share * x.second + (1 - share) * fill**2
    return Moments(mean, second, *pairs)


def _inside(axes: Axes, kept: list[int], shape: tuple[int, ...]) -> tuple[float, ...]:
    """How likely an entry is no padding; then both of neighbours, of positions, of samples."""
    sizes: dict[str, list[tuple[int, int]]] = {"position": [], "sample": [], "other": []}
    for atoms, size, length in zip(axes, kept, shape, strict=True):
        role = atoms[0].role if atoms else "other"
        sizes[role if role in sizes else "other"].append((size, length))
    positions, samples, others = (
        (prod(size for size, _ in dims), prod(length for _, length in dims))
        for dims in sizes.values()
    )
    by_position, by_sample, rest = (
        inner / max(whole, 1) for inner, whole in (positions, samples, others)
    )
    adjacent = [
        _both(*dim) * by_position * dim[1] / dim[0]
        for dim in sizes["position"]
        if dim[0] and dim[1] > 1
    ]
    beside = _mean(adjacent) if adjacent else by_position
    return (
        rest * by_sample * by_position,
        rest * by_sample * beside,
        rest * by_sample * _both(*positions),
        rest * _both(*samples) * by_position**2,
    )


def _both(inner: int, whole: int) -> float:
    """How likely two different ones of all are both among the inner ones."""
    return inner * (inner - 1) / (whole * (whole - 1)) if whole > 1 else float(inner)


def _each(value: int | tuple[int, ...] | list[int], dims: int) -> tuple[int, ...]:
    if isinstance(value, int):
        return (value,) * dims
    return tuple(value) * dims if len(value) == 1 else tuple(value)
