"""What part a value plays: signal, weight, or constant; and which operations only rearrange."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fanin.flow.graph import Operation, Trace, Value

__all__ = ["ARRANGES", "LINEAR_MAPS", "NORMS", "PIECES", "Roles", "is_scaling"]


class Roles:
    """Signals, weights and constants of a trace.

    - A weight depends on parameters, buffers and constants alone: a transposed matrix, a weight
      times a mask. The product of two weights is none, nor is what was looked up in one.
    - A signal depends on a floating-point or complex argument, or on a weight and
      something that is none.
    - A constant is any other: positions, masks, what token ids alone lead to.
    """

    def __init__(self, trace: Trace) -> None:
        self.signals: set[Value] = {
            value
            for value in trace.arguments
            if value.dtype.is_floating_point or value.dtype.is_complex
        }
        self.weights: set[Value] = set()
        self._trace = trace
        given = set(trace.arguments)  # and constants computed from them
        for operation in trace.operations:
            inputs = operation.inputs
            self.weights.update(value for value in inputs if value.parameter is not None)
            if not self.signals.isdisjoint(inputs):
                self.signals.update(operation.outputs)
                continue
            is_given = not given.isdisjoint(inputs)
            if not self.weights.isdisjoint(inputs):
                computes = is_given or operation.name in LINEAR_MAPS | _LOOKS_UP
                (self.signals if computes else self.weights).update(operation.outputs)
            elif is_given:
                given.update(operation.outputs)

    def signals_of(self, operation: Operation) -> list[Value]:
        """The signals that an operation takes."""
        return [value for value in operation.inputs if value in self.signals]

    def origins(self, value: Value) -> Iterator[Value]:
        """A signal, and before it those that were only rearranged, cast, dropped out or scaled.

        One step of a sequence is a signal of its own, and so is what indices pick.
        """
        yield value
        while (made := self._trace.producer(value)) is not None:
            signals = self.signals_of(made)
            if len(signals) != 1 or not (made.name in ARRANGES or is_scaling(made, self)):
                break
            if made.name in PIECES and len(value.shape) < len(signals[0].shape):
                break
            value = signals[0]
            if not (value.dtype.is_floating_point or value.dtype.is_complex):
                break
            yield value

    @cached_property
    def ancestors(self) -> dict[Value, int]:
        """For each value those that it was computed from and itself, a bit for each index."""
        found: dict[Value, int] = {}
        for operation in self._trace.operations:
            bits = 0
            for value in operation.inputs:
                bits |= found.setdefault(value, 1 << value.index)
            for value in operation.outputs:
                found[value] = bits | 1 << value.index
        return found

    @cached_property
    def kinds(self) -> dict[tuple[str, int], str]:
        """The class of the module that each call was of."""
        return {(call.name, call.call): call.kind for call in self._trace.calls}


def is_scaling(operation: Operation, roles: Roles) -> bool:
    """Whether it multiplies or divides one signal by what is none."""
    signals = roles.signals_of(operation)
    if operation.name == "div":
        return len(signals) == 1 and operation.args[0] is signals[0]
    return operation.name == "mul" and len(signals) == 1


# Products of a signal with a weight.
LINEAR_MAPS = frozenset(
    (
        *("linear", "bilinear", "matmul", "rmatmul", "mm", "bmm", "mv", "addmm", "baddbmm"),
        *("addbmm", "addmv", "einsum", "tensordot", "inner", "dot", "grouped_mm"),
        *(f"conv{way}{dims}d" for way in ("", "_transpose") for dims in (1, 2, 3)),
        *("convolution", "lstm", "gru", "rnn_tanh", "rnn_relu"),
        *("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"),
    )
)
_LOOKS_UP = frozenset(("embedding", "embedding_bag"))

# Whose result is a part of the signal, or another one with a part replaced.
PIECES = frozenset(
    (
        *("chunk", "split", "tensor_split", "split_with_sizes", "unbind", "narrow", "select"),
        *("getitem", "setitem", "gather", "index_select", "take_along_dim", "unfold", "fold"),
    )
)
NORMS = frozenset(("batch_norm", "group_norm", "instance_norm", "layer_norm", "rms_norm"))

_VIEWS = (
    *("view", "view_as", "reshape", "reshape_as", "flatten", "unflatten", "squeeze", "unsqueeze"),
    *("transpose", "t", "permute", "movedim", "expand", "expand_as", "broadcast_to", "repeat"),
    *("repeat_interleave", "tile", "flip", "roll", "contiguous", "clone", "detach", "data"),
    *("pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "pad", "cat", "stack"),
    *("hstack", "vstack", "dstack", "tril", "triu", "masked_fill", "scatter", "index_copy"),
    *("copy", "alias", "requires_grad"),
)
_CASTS = ("to", "type", "type_as", "float", "half", "bfloat16", "double")
_DROPS = (
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "alpha_dropout",
    "feature_alpha_dropout",
)
_POOLS = (
    *("mean", "sum", "interpolate", "upsample", "neg", "lp_pool1d", "lp_pool2d", "lp_pool3d"),
    *(
        f"{kind}{reduction}_pool{dims}d"
        for kind in ("", "adaptive_")
        for reduction in ("max", "avg")
        for dims in (1, 2, 3)
    ),
)

# Whose result is the signal itself, in another order, dtype or resolution.
ARRANGES = PIECES | frozenset((*_VIEWS, *_CASTS, *_DROPS, *_POOLS))
