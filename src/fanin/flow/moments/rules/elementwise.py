"""Functions of each entry alone: kept as expressions, integrated when a number is asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fanin.flow.graph import Operation, Value
from fanin.flow.moments.axes import Axes, Role, blended, broadcast, raised
from fanin.flow.moments.calling import argument, filled
from fanin.flow.moments.expression import Expression, root
from fanin.flow.moments.gradients import Pullback
from fanin.flow.moments.moments import Moments
from fanin.flow.moments.rules.registry import rule
from fanin.flow.moments.rules.views import same
from fanin.flow.moments.state import State

if TYPE_CHECKING:
    from fanin.flow.moments.forward import Forward

__all__ = ["elementwise", "is_elementwise"]

_NAMES = (
    *("abs", "add", "addcdiv", "addcmul", "celu", "clamp", "clamp_max", "clamp_min", "clip", "cos"),
    *("cosh", "div", "elu", "erf", "erfc", "exp", "expm1", "gelu", "hardshrink", "hardsigmoid"),
    *("hardswish", "hardtanh", "leaky_relu", "lerp", "log", "log1p", "log2", "log10", "logsigmoid"),
    *("maximum", "minimum", "mish", "mul", "multiply", "divide", "subtract", "neg", "negative"),
    *("pow", "prelu", "reciprocal", "relu", "relu6", "rpow", "rsub", "rdiv", "rtruediv", "rsqrt"),
    *("selu", "sigmoid", "sign", "silu", "sin", "sinc", "sinh", "softplus", "softshrink", "atan"),
    *("softsign", "sqrt", "square", "sub", "tan", "tanh", "tanhshrink", "threshold", "true_divide"),
    *("truediv", "where", "masked_fill", "special_expit", "special_erf", "float_power", "square"),
)
# Functions that grow without end, or do not take every number.
_WILD = frozenset(
    (
        *("exp", "expm1", "cosh", "sinh", "pow", "rpow", "float_power", "sqrt", "rsqrt"),
        *("log", "log1p", "log2", "log10"),
    )
)
_RARE = math.exp(9)  # E exp(x)² by E² exp(x) for std 3: from there on, of x rarer than 6 std
_HIDDEN = -1e4  # a score with less added is not seen by any softmax


@rule(*_NAMES)
def elementwise(forward: Forward, operation: Operation) -> Pullback | None:
    """Compose the operation with what its inputs are made of."""
    if _masked(forward, operation):
        return None
    output = operation.outputs[0]
    operands = tuple(dict.fromkeys(operation.inputs))
    met = next((value for value in operands if not forward.is_weight(value)), None)
    states = {each: forward.state(each, operation, meets=met) for each in operands}
    axes = broadcast([state.axes for state in states.values()], output.shape)
    function = _function(operation, operands)
    while True:
        inputs = tuple(_seen_from(state, axes) for state in states.values())
        made = Expression(function=function, inputs=inputs)
        if not made.is_too_large:
            break
        # The operand with most variables counts as a variable of its own from here on:
        # what it has in common with earlier tensors is lost.
        largest = max(
            (each for each in operands if not states[each].expression.is_root),
            key=lambda each: (len(states[each].expression.varying), states[each].expression.depth),
        )
        states[largest] = closed(forward, largest, states[largest])
    if operation.name in _WILD and _is_wild(made, operation):
        forward.note(
            f"{operation.name}: not to be averaged over a normal input of the predicted moments; "
            "taken at its mean"
        )
        inputs = tuple(root(Moments.constant(x.moments.mean), noise=x.noise) for x in inputs)
        made = Expression(function=function, inputs=inputs)
    if operation.name in ("add", "sub") and len(states) > 1:
        weights = [state.moments.second for state in states.values()]
        axes = blended(axes, [state.axes for state in states.values()], weights)
    elif any(atom.profile is not None for dim in axes for atom in dim):
        axes = raised(axes, _relative_power(made, states))
    scores = next((s for s in states.values() if s.queries is not None or s.visible), None)
    queries = None
    if scores is not None and scores.queries is not None and scores.moments.second > 0:
        queries = scores.queries * made.moments.second / scores.moments.second
    state = State(
        axes,
        made,
        is_parameter=all(each.is_parameter for each in states.values()),
        visible=scores.visible if scores is not None else None,
        queries=queries,
    )
    forward.put(output, state)
    for value, each in zip(states, inputs, strict=True):
        forward.owners.setdefault(each, value)
    return None


def closed(forward: Forward, value: Value, state: State) -> State:
    """The same value as a root; tensors that were made of it before keep the old one."""
    fresh = replace(state, expression=state.expression.closed())
    forward.put(value, fresh)
    return fresh


def _is_wild(made: Expression, operation: Operation) -> bool:
    """Whether a mean square is none, or made by entries so rare that no tensor has them."""
    mean, second = made.moments.mean, made.moments.second
    return not math.isfinite(second) or (operation.name == "exp" and second > _RARE * mean**2)


def is_elementwise(operation: Operation) -> bool:
    """Try an unknown function on vectors: each entry of the result its own input's, every time.

    The function runs on float64 vectors in the place of all its tensors.
    """
    values = tuple(dict.fromkeys(operation.inputs))
    if not values or len(operation.outputs) != 1:
        return False
    try:
        shape = np.broadcast_shapes(*(value.shape for value in values))
    except ValueError:
        return False
    if shape != operation.outputs[0].shape:
        return False
    generator = torch.Generator().manual_seed(0)
    points = [torch.randn(64, generator=generator, dtype=torch.float64) for _ in values]
    chosen = torch.arange(40, 7, -3)
    function = _function(operation, values)
    try:
        with torch.no_grad():
            whole, alone = function(*points), function(*(each[chosen] for each in points))
            again = function(*points)
    except Exception:
        return False
    if not isinstance(whole, Tensor) or whole.shape != (64,) or alone.shape != chosen.shape:
        return False
    same = torch.equal(whole, again) or bool(whole.isnan().any())
    return same and torch.allclose(whole[chosen].double(), alone.double(), rtol=1e-6)


def _function(operation: Operation, operands: tuple[Value, ...]) -> Callable[..., Tensor]:
    called: Callable[..., Tensor] = _ON_VECTORS.get(operation.name, operation.function)

    def function(*tensors: Tensor) -> Tensor:
        given = {
            value: tensor > 0.5 if value.dtype == torch.bool else tensor
            for value, tensor in zip(operands, tensors, strict=True)
        }
        kwargs = {name: filled(each, given) for name, each in operation.kwargs.items()}
        kwargs.pop("out", None)
        result = called(*filled(operation.args, given), **kwargs)
        assert isinstance(result, Tensor)
        return result.to(torch.float64)

    return function


def _prelu(x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x > 0, x, slope * x)


# Functions that ask for more than one dim: the same for one slope to each entry.
_ON_VECTORS: dict[str, Callable[..., Tensor]] = {"prelu": _prelu}


def _seen_from(state: State, axes: Axes) -> Expression:
    """An operand's expression; parameters agree where the result's axes are not theirs."""
    if not state.is_parameter and _has_turned(state.axes, axes):
        # Units of a layer over positions are positions here: they have their mean in common.
        square = state.moments.mean**2
        seen = replace(state.moments, neighbours=square, positions=square)
        return root(seen, noise=state.expression.noise)
    if not state.is_parameter or state.expression.moments.variance == 0:
        return state.expression
    if not state.expression.is_root:
        return state.expression
    roles: set[Role] = set()
    for dim, atoms in enumerate(state.axes):
        at = dim - len(state.axes) + len(axes)
        if at >= 0 and any(atom.role != "copy" for atom in atoms):
            roles.update(atom.role for atom in axes[at])
    if roles <= {"entry"}:
        return state.expression
    moments = state.moments
    apart = moments.mean**2
    along = apart if "position" in roles else moments.second
    across = apart if roles & {"position", "sample"} else moments.second
    seen = replace(moments, neighbours=along, positions=along, samples=across)
    return state.expression if seen == moments else root(seen)


def _has_turned(axes: Axes, result: Axes) -> bool:
    """Whether what is a position in the result was a feature of the operand."""
    return any(
        [atom.role for atom in own] == ["feature"] and [atom.role for atom in there] == ["position"]
        for own, there in zip(axes[::-1], result[::-1], strict=False)
    )


def _relative_power(made: Expression, states: dict[Value, State]) -> float:
    """How the result's second moment follows that of the operand with an uneven profile."""
    uneven = [
        state.expression
        for state in states.values()
        if any(atom.profile is not None for dim in state.axes for atom in dim)
    ]
    if len(uneven) != 1 or uneven[0].power <= 0:
        return 1.0
    return min(max(made.power / uneven[0].power, 0.0), 4.0)


def _masked(forward: Forward, operation: Operation) -> bool:
    """A mask on attention scores: they stay as they are, fewer of them are seen."""
    found = _mask(forward, operation)
    if found is None:
        return False
    value, keep = found
    state = forward.state(value, operation)
    shape = operation.outputs[0].shape
    visible = keep.expand(shape).sum(-1).reshape(-1)
    expression = Expression(function=same, inputs=(state.expression,))
    counts = tuple(int(each) for each in visible[: 1 << 14])
    forward.put(
        operation.outputs[0], replace(state, expression=expression, data=None, visible=counts)
    )
    return True


def _mask(forward: Forward, operation: Operation) -> tuple[Value, Tensor] | None:
    """The scores and where they stay, if this is a masking."""

    def data(nested: object) -> Tensor | None:
        if not isinstance(nested, Value) or nested not in forward.states:
            return None
        return forward.states[nested].data

    args = operation.args
    if operation.name == "masked_fill":
        mask, fill = data(argument(operation, 1, "mask")), argument(operation, 2, "value")
        if isinstance(fill, (int, float)) and fill <= _HIDDEN:
            # Of one that lengths of texts decide nothing is known: all is seen.
            return args[0], torch.tensor(True) if mask is None else ~mask.bool()
    if operation.name == "where" and len(args) == 3:
        mask, other = data(args[0]), args[2]
        low = data(other) if isinstance(other, Value) else torch.tensor(float(other))
        if mask is not None and low is not None and bool((low <= _HIDDEN).all()):
            return (args[1], mask.bool()) if isinstance(args[1], Value) else None
    if operation.name == "add" and len(args) == 2:
        for scores, mask in (args, args[::-1]):
            added = data(mask)
            is_mask = added is not None and added.is_floating_point() and added.numel()
            if is_mask and isinstance(scores, Value) and data(scores) is None:
                assert added is not None
                if bool((added <= _HIDDEN).any()):
                    return scores, added > _HIDDEN
    return None
