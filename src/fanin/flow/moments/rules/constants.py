"""Tensors that take a shape from another and nothing that it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from fanin.flow.graph import Operation, Value
from fanin.flow.moments.axes import of_parameter
from fanin.flow.moments.calling import argument
from fanin.flow.moments.expression import root
from fanin.flow.moments.measure import measured
from fanin.flow.moments.rules.registry import rule
from fanin.flow.moments.state import KNOWN_ENTRIES, State

if TYPE_CHECKING:
    from fanin.flow.moments.forward import Forward

__all__: list[str] = []


@rule("zeros_like", "new_zeros")
def _zeros(forward: Forward, operation: Operation) -> None:
    _put(forward, operation, 0.0)


@rule("ones_like", "new_ones")
def _ones(forward: Forward, operation: Operation) -> None:
    _put(forward, operation, 1.0)


@rule("full_like")
def _full_like(forward: Forward, operation: Operation) -> None:
    _put(forward, operation, argument(operation, 1, "fill_value"))


@rule("new_full")
def _new_full(forward: Forward, operation: Operation) -> None:
    _put(forward, operation, argument(operation, 2, "fill_value"))


@rule("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")
def _empty(forward: Forward, operation: Operation) -> None:
    # To be written: what the memory holds before is no part of the model.
    _put(forward, operation, 0.0)


def _put(forward: Forward, operation: Operation, content: Any) -> None:
    output = operation.outputs[0]
    if isinstance(content, Value):
        known = forward.state(content, operation)
        content = known.moments.mean if known.data is None else known.data.item()
    data = torch.tensor(content, dtype=output.dtype).expand(output.shape)
    axes = of_parameter(output.shape)
    kept = data if data.numel() <= KNOWN_ENTRIES else None
    forward.put(output, State(axes, root(measured(data, axes)), data=kept))
