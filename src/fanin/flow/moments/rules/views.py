"""Operations that move entries and change none."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fanin.flow.graph import Operation, Value, values_in
from fanin.flow.moments.axes import Atom, Axes, Role, of_role, reshaped
from fanin.flow.moments.calling import argument
from fanin.flow.moments.expression import Expression, root
from fanin.flow.moments.gradients import Arrival, Gradients, Pullback
from fanin.flow.moments.rules.registry import rule
from fanin.flow.moments.state import State, settled

if TYPE_CHECKING:
    from fanin.flow.moments.forward import Forward

__all__ = ["is_view", "same"]

_SHAPES = (
    *("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as"),
)
_COPIES = (
    *("contiguous", "clone", "detach", "to", "float", "double", "half", "bfloat16", "type", "cpu"),
    *("cuda", "type_as", "requires_grad", "alias", "identity", "nan_to_num", "ascontiguousarray"),
    *("positive", "real", "data"),
)
_ORDERS = (
    *("transpose", "permute", "t", "swapaxes", "swapdims", "movedim", "moveaxis", "T", "mT", "H"),
    *("adjoint", "matrix_transpose"),
)
_ROLLS = ("flip", "roll", "fliplr", "flipud", "rot90")
_PIECES = (
    *("getitem", "chunk", "split", "unbind", "narrow", "select", "index_select", "tensor_split"),
    *("split_with_sizes", "take_along_dim", "gather", "unsafe_chunk", "unsafe_split", "diagonal"),
)
_COPIED = ("expand", "expand_as", "repeat", "repeat_interleave", "tile", "broadcast_to")
_VIEWS = {*_SHAPES, *_COPIES, *_ORDERS, *_COPIED, *_PIECES, *_ROLLS}


def is_view(operation: Operation) -> bool:
    """Whether the entries of the results are entries of the first input."""
    return operation.name in _VIEWS and bool(operation.inputs) and bool(operation.outputs)


def same(x: Tensor) -> Tensor:
    """What an expression of a view computes."""
    return x


@rule(*_COPIES)
def _copied(forward: Forward, operation: Operation) -> None:
    state = forward.state(operation.inputs[0], operation)
    _put(forward, operation, state, state.axes)


@rule(*_SHAPES)
def _shaped(forward: Forward, operation: Operation) -> None:
    state = forward.state(operation.inputs[0], operation)
    _put(forward, operation, state, reshaped(state.axes, operation.outputs[0].shape))


@rule(*_ORDERS)
def _ordered(forward: Forward, operation: Operation) -> None:
    state = forward.state(operation.inputs[0], operation)
    order = _order(operation, len(state.axes))
    _put(forward, operation, state, tuple(state.axes[dim] for dim in order))


@rule(*_ROLLS)
def _rolled(forward: Forward, operation: Operation) -> Pullback | None:
    # Another order of the same entries: uncorrelated with the tensor as it was, but for constants.
    state = forward.state(operation.inputs[0], operation)
    return _piece(forward, operation, state, [state.axes])


@rule(*_COPIED)
def _expanded(forward: Forward, operation: Operation) -> None:
    state = forward.state(operation.inputs[0], operation)
    shape = operation.outputs[0].shape
    before = (*((),) * (len(shape) - len(state.axes)), *state.axes)
    axes = tuple(
        atoms if _length(atoms) == size else (*atoms, *of_role("copy", size // _length(atoms)))
        for atoms, size in zip(before, shape, strict=True)
    )
    _put(forward, operation, state, axes)


@rule(*_PIECES)
def _pieces(forward: Forward, operation: Operation) -> Pullback | None:
    state = forward.state(operation.inputs[0], operation)
    if all(output.shape == operation.inputs[0].shape for output in operation.outputs):
        _put(forward, operation, state, state.axes)
        return None
    axes = [_cut(state.axes, operation, output) for output in operation.outputs]
    return _piece(forward, operation, state, axes)


def _put(forward: Forward, operation: Operation, state: State, axes: Axes) -> None:
    """The same entries under other axes."""
    expression = Expression(function=same, inputs=(state.expression,))
    if state.is_parameter:
        expression = state.expression
    for output in operation.outputs:
        forward.put(output, replace(state, axes=axes, expression=expression, data=None))


def _piece(
    forward: Forward, operation: Operation, state: State, axes: list[Axes]
) -> Pullback | None:
    """Parts of a tensor, of which no two have a feature in common.

    Each counts as uncorrelated with the others and with the whole.
    """
    source = operation.inputs[0]
    for output, each in zip(operation.outputs, axes, strict=True):
        moments = settled(state.moments, each) if not state.is_parameter else state.moments
        expression = root(moments, noise=state.expression.noise)
        if not state.expression.is_root:
            expression = _recast(state.expression, each)
        forward.put(output, replace(state, axes=each, expression=expression, data=None))

    def pull(gradients: Gradients) -> list[Arrival]:
        whole = max(_entries(source), 1)
        return [
            Arrival(source, g.scaled(_entries(output) / whole)) for output, g in gradients.items()
        ]

    return pull


def _recast(expression: Expression, axes: Axes) -> Expression:
    """The same function of new variables."""
    fresh = {
        each: root(
            settled(each.moments, axes),
            noise=each.noise_of_root,
            normalized=each.normalized,
            shape=each.shape,
        )
        for each in expression.roots
    }

    def function(*roots: Tensor) -> Tensor:
        return expression.values(dict(zip(fresh, roots, strict=True)))

    return Expression(function=function, inputs=tuple(fresh.values()))


def _order(operation: Operation, dims: int) -> list[int]:
    """Which dim of the input each dim of the output is."""
    # Torch itself says, on a tensor whose sizes are its dims' numbers.
    probe = torch.empty(tuple(range(2, dims + 2)), device="meta")
    source = operation.inputs[0]

    def replaced(nested: Any) -> Any:
        if nested is source:
            return probe
        if isinstance(nested, (list, tuple)):
            return type(nested)([replaced(each) for each in nested])
        return nested

    args = tuple(replaced(each) for each in operation.args)
    kwargs = {name: replaced(each) for name, each in operation.kwargs.items()}
    return [size - 2 for size in operation.function(*args, **kwargs).shape]


def _cut(axes: Axes, operation: Operation, output: Value) -> Axes:
    """The axes of a part: dims that are gone, dims that are shorter."""
    source = operation.inputs[0]
    if len(output.shape) == len(source.shape):
        return tuple(
            atoms if old == new else _shortened(atoms, new)
            for atoms, old, new in zip(axes, source.shape, output.shape, strict=True)
        )
    if operation.name in ("select", "unbind"):
        dim = argument(operation, 1, "dim", default=0) % len(source.shape)
        return (*axes[:dim], *axes[dim + 1 :])
    if operation.name == "getitem" and not any(values_in(operation.args[1:])):
        return _indexed(axes, operation.args[1], output.shape)
    return reshaped(axes, output.shape)


def _indexed(axes: Axes, index: Any, shape: tuple[int, ...]) -> Axes:
    items = list(index) if isinstance(index, tuple) else [index]
    used = sum(item is not None and item is not Ellipsis for item in items)
    if Ellipsis not in items:
        items.append(Ellipsis)
    at = items.index(Ellipsis)
    items[at : at + 1] = [slice(None)] * (len(axes) - used)
    result: list[tuple[Atom, ...]] = []
    dim = 0
    for item in items:
        if item is None:
            result.append(())
            continue
        if not isinstance(item, int):
            result.append(axes[dim])
        dim += 1
    if len(result) != len(shape):
        return reshaped(axes, shape)
    return tuple(
        atoms if _length(atoms) == size else _shortened(atoms, size)
        for atoms, size in zip(result, shape, strict=True)
    )


def _shortened(atoms: tuple[Atom, ...], size: int) -> tuple[Atom, ...]:
    return of_role(_role(atoms), size)


def _role(atoms: tuple[Atom, ...]) -> Role:
    return atoms[0].role if atoms else "entry"


def _length(atoms: tuple[Atom, ...]) -> int:
    size = 1
    for atom in atoms:
        size *= atom.size
    return size


def _entries(value: Value) -> int:
    size = 1
    for each in value.shape:
        size *= each
    return size
