"""The forward pass over a trace, one operation at a time, in moments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import TypeAlias

from torch import Tensor

from fanin.errors import ArgumentError
from fanin.flow.graph import Operation, Trace, Value
from fanin.flow.moments.axes import broadcast, of_argument, of_parameter
from fanin.flow.moments.calling import call, is_random
from fanin.flow.moments.expression import Expression, root
from fanin.flow.moments.gradients import Pullback
from fanin.flow.moments.measure import measured
from fanin.flow.moments.moments import Incoming, Moments, ParameterMoments
from fanin.flow.moments.rules import is_view, rule_for
from fanin.flow.moments.state import KNOWN_ENTRIES, State, layer_output, settled
from fanin.report import shape_text

__all__ = ["Forward", "Scales"]

Scales: TypeAlias = Callable[[str, Operation, Incoming], ParameterMoments]


class Forward:
    """Moments of every value, in order of execution; weights are asked for as they are met.

    Args:
        trace: what the model computes.
        scales: the moments of a parameter, asked once, where it is first used: its name, the
            operation, and what it meets there.
        inputs: tensors for the model's arguments, by their names; what depends on them alone is
            computed. Without one, floats are independent N(0, 1), integers uniformly random.
        buffers: likewise, by canonical name.

    Example:
        Walk a trace, choosing weights on the way::

            forward = Forward(trace, scales)
            while forward.advance():
                ...
    """

    def __init__(
        self,
        trace: Trace,
        scales: Scales,
        *,
        inputs: Mapping[str, Tensor] | None = None,
        buffers: Mapping[str, Tensor] | None = None,
    ) -> None:
        empty = next((v for v in trace.arguments if v.shape[:1] == (0,)), None)
        if empty is not None:
            raise ArgumentError(
                "moments: inputs are a batch of at least one. Got shape "
                f"{shape_text(empty.shape)} for argument {empty.argument!r}. Pass one sample."
            )
        self.trace = trace
        self.states: dict[Value, State] = {}
        self.pullbacks: dict[Operation, Pullback] = {}
        self.parameters: dict[str, ParameterMoments] = {}
        self.notes: dict[str, None] = dict.fromkeys(trace.notes)
        self.owners: dict[Expression, Value] = {}
        self.functions: dict[Value, Expression] = {}
        self.sources = 0
        self._used: dict[str, Value] = {}
        self._scales = scales
        self._inputs = inputs or {}
        self._buffers = buffers or {}
        self._deferred: dict[Value, Operation] = {}
        self._next = 0

    def advance(self) -> Operation | None:
        """Do the next operation and return it; None after the last."""
        if self._next == len(self.trace.operations):
            return None
        operation = self.trace.operations[self._next]
        self._next += 1
        if is_view(operation) and self._is_unasked(operation.inputs[0]):
            # Only what computes with a parameter knows what it meets there.
            self._deferred.update(dict.fromkeys(operation.outputs, operation))
        elif not self._computed(operation):
            self._do(operation)
        return operation

    def finish(self) -> Forward:
        """Do all the operations that are left."""
        while self.advance():
            pass
        return self

    def state(
        self, value: Value, operation: Operation, *, meets: Value | None = None, terms: float = 1.0
    ) -> State:
        """Of a value that an operation takes; a parameter is asked for here, if not before.

        Args:
            value: an input of the operation.
            operation: what takes it.
            meets: what a parameter is combined with.
            terms: see `Incoming`.
        """
        if value in self._deferred:
            view = self._deferred.pop(value)
            self.state(view.inputs[0], operation, meets=meets, terms=terms)
            self._do(view)
        if value not in self.states:
            self.put(value, self._first(value, operation, meets, terms))
        return self.states[value]

    def put(self, value: Value, state: State) -> None:
        """Keep what an operation made."""
        self.states[value] = state
        self.functions.setdefault(value, state.expression)
        self.owners.setdefault(state.expression, value)

    def is_weight(self, value: Value) -> bool:
        """Whether a value was computed from parameters alone."""
        if value.parameter is not None or value in self._deferred:
            return True
        return value in self.states and self.states[value].is_parameter

    def ends_at(self, part: Expression, value: Value) -> bool:
        """Whether gradients through elementwise functions end at a part, which is this value."""
        producer = self.trace.producer(value)
        return part.is_root or producer is None or producer in self.pullbacks

    def parts(self, end: Expression) -> list[tuple[Expression, Value]]:
        """The values that an expression was made of, back to where gradients end."""
        parts, seen = [], {end}
        waiting = list(end.inputs)
        while waiting:
            part = waiting.pop()
            if part in seen:
                continue
            seen.add(part)
            value = self.owners.get(part)
            if value is not None:
                parts.append((part, value))
            if value is None or not self.ends_at(part, value):
                waiting.extend(part.inputs)
        return parts

    def note(self, sentence: str) -> None:
        """Tell the reader of the prediction, once."""
        self.notes[sentence] = None

    def note_use(self, weight: Value, of: Value, output: Value) -> None:
        """A layer's weight is used on ``of``: tell the reader where that was made with it."""
        if weight.parameter is None:
            return
        before = self._used.get(weight.parameter)
        if before is not None and self.trace.roles.ancestors.get(of, 0) >> before.index & 1:
            self.note(
                f"{weight.parameter!r} is used on what was made with it: counted as drawn anew "
                "each time, which measurements differ from more with every use"
            )
        self._used[weight.parameter] = output

    def source(self) -> int:
        """A number for one more layer whose finite width counts."""
        self.sources += 1
        return self.sources - 1

    def _do(self, operation: Operation) -> None:
        pullback = rule_for(operation, self)(self, operation)
        if pullback is not None:
            self.pullbacks[operation] = pullback

    def _is_unasked(self, value: Value) -> bool:
        return value in self._deferred or (
            value.parameter is not None and value.parameter not in self.parameters
        )

    def _first(
        self, value: Value, operation: Operation, meets: Value | None, terms: float
    ) -> State:
        if value.parameter is not None:
            return self._parameter(value, operation, meets, terms)
        if value.buffer is not None:
            return self._buffer(value, value.buffer)
        axes = of_argument(value.shape, channels_first=_is_channels_first(self.trace, value))
        data = self._inputs.get(value.argument) if value.argument is not None else None
        if data is not None and tuple(data.shape) == value.shape:
            return State(axes, root(settled(measured(data, axes), axes)), data=data)
        if value.argument is None:
            where = operation.module or "the model"
            self.note(f"{operation.name} in {where!r} takes a tensor that nothing made: N(0, 1)")
        if value.dtype.is_floating_point:
            return layer_output(Moments.independent(mean=0.0, second=1.0), axes)
        return layer_output(Moments.independent(mean=0.5, second=0.5), axes)

    def _parameter(
        self, value: Value, operation: Operation, meets: Value | None, terms: float
    ) -> State:
        assert value.parameter is not None
        if value.parameter not in self.parameters:
            met = (
                self.state(meets, operation).moments if meets is not None else Moments.constant(1.0)
            )
            drawn = self._scales(value.parameter, operation, Incoming(met, terms))
            self.parameters[value.parameter] = drawn
        drawn = self.parameters[value.parameter]
        moments = Moments.independent(mean=drawn.mean, second=drawn.second)
        return State(of_parameter(value.shape), root(moments), is_parameter=True)

    def _buffer(self, value: Value, name: str) -> State:
        axes = of_parameter(value.shape)
        data = self._buffers.get(name)
        if data is not None and tuple(data.shape) == value.shape and not data.is_meta:
            return State(axes, root(measured(data, axes)), data=data, is_parameter=True)
        if name.endswith(("running_mean", "running_var")):
            return State(axes, root(Moments.constant(float(name.endswith("var")))))
        self.note(f"the values of buffer {name!r} are not known: taken to be N(0, 1)")
        return State(axes, root(Moments.independent(mean=0.0, second=1.0)), is_parameter=True)

    def _computed(self, operation: Operation) -> bool:
        """Do an operation on tensors that are known, as they are; False where it takes others."""
        if any(self._is_unknown(value, operation) for value in operation.inputs):
            return False
        if sum(prod(value.shape) for value in operation.outputs) > KNOWN_ENTRIES:
            return False
        if not operation.outputs or is_random(operation):
            return False
        tensors = {value: self.states[value].data for value in operation.inputs}
        try:
            results = call(operation, tensors)
        except Exception:
            return False
        if len(results) != len(operation.outputs):
            return False
        for value, result in zip(operation.outputs, results, strict=True):
            if tuple(result.shape) != value.shape:
                return False
        is_parameter = all(self.states[each].is_parameter for each in operation.inputs)
        if is_view(operation) and not is_parameter:
            self._do(operation)  # which dim goes where
        for value, result in zip(operation.outputs, results, strict=True):
            if value in self.states:
                axes = self.states[value].axes
            elif is_parameter:
                axes = of_parameter(value.shape)
            else:
                sources = [self.states[each].axes for each in operation.inputs]
                axes = broadcast(sources, value.shape)
            moments = settled(measured(result, axes), axes)
            self.put(value, State(axes, root(moments), data=result, is_parameter=is_parameter))
        return True

    def _is_unknown(self, value: Value, operation: Operation) -> bool:
        if value.parameter is not None or value in self._deferred:
            return True
        if value not in self.states and value.argument is None and value.buffer is None:
            return True
        return self.state(value, operation).data is None


def _is_channels_first(trace: Trace, argument: Value) -> bool:
    """Whether the first layer that an argument reaches takes its features from dim 1."""
    waiting, seen = [argument], {argument}
    while waiting:
        for operation in trace.consumers(waiting.pop(0)):
            if operation.name.startswith(_CHANNELS_FIRST):
                return True
            if operation.name in _FEATURES_LAST:
                return False
            fresh = [value for value in operation.outputs if value not in seen]
            seen.update(fresh)
            waiting += fresh
    return len(argument.shape) >= 4


_CHANNELS_FIRST = ("conv", "batch_norm", "group_norm", "instance_norm", "max_pool", "avg_pool")
_FEATURES_LAST = {"linear", "matmul", "addmm", "layer_norm", "rms_norm", "lstm", "gru", "rnn_tanh"}
