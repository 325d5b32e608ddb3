"""`predict`: moments of every value of a trace, forward and backward."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from fanin.errors import ArgumentError
from fanin.flow.graph import Operation, Trace, Value
from fanin.flow.moments.axes import count
from fanin.flow.moments.backward import backward
from fanin.flow.moments.calling import on_cpu
from fanin.flow.moments.forward import Forward
from fanin.flow.moments.moments import Incoming, Moments, ParameterMoments
from fanin.flow.moments.prediction import Predicted, Prediction
from fanin.flow.moments.rules.linear import spread_of
from fanin.flow.moments.state import State

__all__ = ["predict", "prediction_of"]


def predict(
    trace: Trace,
    parameters: Mapping[str, ParameterMoments],
    inputs: Mapping[str, Tensor] | None = None,
    *,
    buffers: Mapping[str, Tensor] | None = None,
    gradients: bool = True,
) -> Prediction:
    """The statistics of every tensor of a model, from how its weights are drawn; nothing runs.

    Args:
        trace: what the model computes.
        parameters: mean and std of each parameter, by canonical name.
        inputs: tensors for the model's arguments, by their names in the trace (``"0"``,
            ``"input_ids"``). Without one, floats are independent N(0, 1), integers uniformly
            random.
        buffers: values of buffers, by canonical name, for masks and tables of positions.
        gradients: whether to predict the backward pass too, from the gradient 1 or -1 at each
            entry of the outputs, or from the output itself where it is one number.

    Returns:
        A `Prediction`.

    Raises:
        ArgumentError: when a parameter that the trace uses has no moments, or is complex, or an
            argument is.
    """
    for value in (*trace.parameters.values(), *trace.arguments):
        if value.dtype.is_complex:
            dtype = str(value.dtype).removeprefix("torch.")
            raise ArgumentError(
                "predict: parameters and arguments are real numbers. "
                f"Got {dtype} for {(value.parameter or value.argument)!r}. Trace a model that "
                "takes real and imaginary parts as features."
            )

    def scales(name: str, operation: Operation, incoming: Incoming) -> ParameterMoments:
        if name not in parameters:
            raise ArgumentError(
                f"predict: every parameter that the model uses has moments. Got none for {name!r}. "
                f"Add it to parameters; it is used by {operation.name} in "
                f"{operation.module or 'the model'!r}."
            )
        return parameters[name]

    with on_cpu():
        forward = Forward(trace, scales, inputs=inputs, buffers=buffers).finish()
        return prediction_of(forward, gradients=gradients)


def prediction_of(forward: Forward, *, gradients: bool = True) -> Prediction:
    """What a finished forward pass says, with the backward pass that belongs to it."""
    trace = forward.trace
    back: dict[Value, Moments] = {}
    if gradients:
        floats = [value for value in trace.outputs if value.dtype.is_floating_point]
        single = [value for value in floats if math.prod(value.shape) == 1]
        start = Moments.independent(mean=0.0, second=1.0)
        back = backward(forward, dict.fromkeys(single[:1] or floats, start))
    values, drawn = {}, {}
    for value, state in forward.states.items():
        if value.parameter is None:
            values[value] = _predicted(state, value, back.get(value))
        elif value in back:
            drawn[value.parameter] = back[value]
    return Prediction(trace, values, drawn, tuple(forward.notes))


def _predicted(state: State, value: Value, gradient: Moments | None) -> Predicted:
    moments, expression = state.moments, state.expression
    num_samples, num_positions = count(state.axes, "sample"), count(state.axes, "position")
    features = max(math.prod(value.shape) / (num_samples * num_positions), 1.0)
    alone = 1 / (num_samples * num_positions)
    along, across = (num_positions - 1) * alone, (num_samples - 1) / num_samples
    # One draw's tensor has a mean of its own, which its std leaves out.
    of_pairs = alone * moments.second + along * moments.positions + across * moments.samples
    squared_mean = (of_pairs + (features - 1) * moments.mean**2) / features
    std = math.sqrt(max(moments.second - squared_mean, 0.0))
    noise = expression.noise
    local = math.log1p(spread_of(expression, num_samples, num_positions) / features)
    drift = (noise.drift - local / 2) / 2
    spread = math.sqrt(noise.variance + local) / 2
    return Predicted(moments, std, math.exp(drift), spread, gradient)
