"""The values of tensors that do not depend on parameters, computed when a model asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from fanin.flow.graph import Operation, Value, values_in

__all__ = ["Known", "like"]


class Known:
    """Real tensors behind values: arguments, buffers, and what can be computed from them alone.

    Masks and positions decide branches (``if mask.all()``). They are small and need no weight, so
    the operations that led to them are run once more, with values, when a branch needs to know.
    """

    def __init__(self) -> None:
        self._tensors: dict[Value, Tensor] = {}
        self._producers: dict[Value, Operation] = {}

    def add(self, value: Value, tensor: Tensor) -> None:
        """What a value is."""
        self._tensors[value] = tensor

    def made_by(self, operation: Operation) -> None:
        """How values come about."""
        for value in operation.outputs:
            self._producers[value] = operation

    def __contains__(self, value: Value) -> bool:
        return value in self._tensors

    def can_tell(self, arguments: object) -> bool:
        """Whether every value among the arguments can be computed."""
        checked: set[Value] = set()
        waiting = list(values_in(arguments))
        while waiting:
            value = waiting.pop()
            if value in checked or value in self._tensors:
                continue
            if value not in self._producers:
                return False
            checked.add(value)
            waiting.extend(self._producers[value].inputs)
        return True

    def call(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """The result of a call, computed; its tensors on the meta device."""
        for operation in self._needed((args, kwargs)):
            results = _tensors(self._computed(operation.function, operation.args, operation.kwargs))
            self._tensors.update(zip(operation.outputs, results, strict=True))
        return _without_values(self._computed(function, args, kwargs))

    def without_masks(self, index: Any, described: Any) -> Any:
        """An index with known masks as the positions that they select: those have a number.

        Args:
            index: of tensors, in a tuple or alone.
            described: the same with values in the place of tensors.
        """
        if not isinstance(index, tuple):
            index, described = (index,), (described,)
        parts: list[Any] = []
        for part, value in zip(index, described, strict=True):
            if isinstance(value, Value) and value.dtype == torch.bool and self.can_tell(value):
                parts.extend(self.call(torch.nonzero, (value,), {}).unbind(1))
            else:
                parts.append(part)
        return tuple(parts)

    def _needed(self, arguments: object) -> list[Operation]:
        needed: dict[int, Operation] = {}
        waiting = list(values_in(arguments))
        while waiting:
            value = waiting.pop()
            if value in self._tensors:
                continue
            operation = self._producers[value]
            if operation.index not in needed:
                needed[operation.index] = operation
                waiting.extend(operation.inputs)
        return [needed[index] for index in sorted(needed)]

    def _computed(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        with torch.device("cpu"):
            return function(*self._filled(args), **self._filled(dict(kwargs)))

    def _filled(self, nested: Any) -> Any:
        if isinstance(nested, Value):
            return self._tensors[nested]
        if isinstance(nested, dict):
            return {key: self._filled(item) for key, item in nested.items()}
        if isinstance(nested, (list, tuple)):
            return like(nested, map(self._filled, nested))
        return nested


def _tensors(result: Any) -> list[Tensor]:
    if isinstance(result, Tensor):
        return [result]
    return [tensor for item in result for tensor in _tensors(item)]


def _without_values(result: Any) -> Any:
    if isinstance(result, Tensor):
        return torch.empty_like(result, device="meta")
    if isinstance(result, (list, tuple)):
        return like(result, map(_without_values, result))
    return result


def like(sequence: list[Any] | tuple[Any, ...], items: Iterable[Any]) -> Any:
    """A sequence of the same kind with other items; a tuple with names keeps them."""
    kind = type(sequence)
    if issubclass(kind, torch.Size):  # which holds nothing but numbers
        return sequence
    if hasattr(kind, "_fields"):
        return kind(*items)
    if hasattr(kind, "n_sequence_fields"):  # what torch's functions return
        return kind(list(items))
    return list(items) if isinstance(sequence, list) else tuple(items)
