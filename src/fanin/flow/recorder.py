"""A mode that writes down every call of a torch function, and hooks that say in which module."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.overrides import TorchFunctionMode

from fanin.flow.functions import body_of, function_name, on_copy, stand_in
from fanin.flow.graph import ModuleCall, Operation, Value
from fanin.flow.known import Known, like
from fanin.flow.placing import placeless
from fanin.flow.views import View, base_of, view_by, with_part

__all__ = ["Recorder", "tensors_in"]


class Recorder(TorchFunctionMode):
    """What is called while the mode is on.

    A tensor is known by its identity, so every tensor that was seen is kept alive.

    Args:
        known: values of tensors that have none in the pass.
    """

    def __init__(self, known: Known) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self.calls: list[ModuleCall] = []
        self.notes: dict[str, None] = {}  # a set in order
        self.running: list[tuple[str, int]] = []  # the modules that have not returned
        self.raised = ""  # where the exception came from that goes up now
        self._known = known
        self._values: dict[int, tuple[Tensor, Value]] = {}
        self._views: dict[int, tuple[Tensor, View | None]] = {}  # what it is a view of, and how
        self._twins: dict[int, tuple[Tensor, Tensor]] = {}  # of foreign tensors, on meta
        self._num_values = 0
        self._calls: Counter[str] = Counter()
        self._is_paused = False

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if any(map(self._is_foreign, tensors_in((args, kwargs)))):
            args, kwargs = self._at_home(args), self._at_home(kwargs)
        if self._is_paused:
            return func(*args, **kwargs)
        body = body_of(func)
        if body is not None:
            with self:
                return body(*args, **kwargs)
        call = placeless(func, args, kwargs)
        if call is None:
            return args[0]
        args, kwargs = call
        taken = [(tensor, tensor._version) for tensor in tensors_in((args, kwargs))]
        result = self._run(func, args, kwargs)
        made = list(tensors_in(result))
        written = [tensor for tensor, version in taken if tensor._version != version]
        if made or written:
            self._write_down(func, args, kwargs, [t for t, _ in taken], made, written)
        return result

    def new_value(self, tensor: Tensor, **origin: str) -> Value:
        """A value for a tensor, from now on."""
        value = Value(self._num_values, tuple(tensor.shape), tensor.dtype, **origin)
        self._num_values += 1
        self.set_value(tensor, value)
        return value

    def set_value(self, tensor: Tensor, value: Value) -> None:
        """Say what a tensor is."""
        self._values[id(tensor)] = (tensor, value)
        if not tensor.is_meta and value not in self._known:
            self._known.add(value, tensor.detach().clone())  # it may be written

    def note_unseen(self, output: object) -> None:
        """Say so where the model returns what no operation is known to have made."""
        for tensor in tensors_in(output):
            if id(tensor) not in self._values:
                self._note(
                    f"returns a tensor of shape {tuple(tensor.shape)} that no operation of the "
                    "pass made: a constant, or the result of code that torch does not see."
                )

    def values_of(self, nested: object) -> tuple[Value, ...]:
        """Of the tensors that were seen before, in order."""
        found = (self._values.get(id(tensor)) for tensor in tensors_in(nested))
        return tuple(seen[1] for seen in found if seen is not None)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is written down inside."""
        before, self._is_paused = self._is_paused, True
        try:
            yield
        finally:
            self._is_paused = before

    def enter(self, name: str) -> None:
        """A module is called."""
        self.running.append((name, self._calls[name]))
        self._calls[name] += 1
        self.raised = ""

    def leave(self, kind: str, output: object) -> None:
        """The innermost module returns, or raises: then the output is None."""
        name, call = self.running.pop()
        if output is None:
            self.raised = self.raised or name
            return
        self.raised = ""
        self.calls.append(ModuleCall(name, call, kind, self.values_of(output)))

    def _is_foreign(self, tensor: Tensor) -> bool:
        """Whether it was made before the pass: a constant of a module's file, an array of numpy.

        Single numbers go with tensors of every device as they are.
        """
        return (
            type(tensor) in (Tensor, Parameter)
            and not tensor.is_meta
            and tensor.dim() > 0
            and id(tensor) not in self._values
        )

    def _at_home(self, nested: Any) -> Any:
        """With foreign tensors on the meta device; what they hold is known, and stays as it is."""
        if isinstance(nested, Tensor):
            if not self._is_foreign(nested):
                return nested
            if id(nested) not in self._twins:
                twin = torch.empty_like(nested.detach(), device="meta")
                self._twins[id(nested)] = (nested, twin)
                self._known.add(self.new_value(twin), nested.detach().cpu().clone())
            return self._twins[id(nested)][1]
        if isinstance(nested, dict):
            return {key: self._at_home(item) for key, item in nested.items()}
        if isinstance(nested, (list, tuple)):
            return like(nested, map(self._at_home, nested))
        return nested

    def _run(self, func: Callable[..., Any], args: Any, kwargs: Mapping[str, Any]) -> Any:
        """The result; from values where shapes do not tell it and the values are known."""
        try:
            return func(*args, **kwargs)
        except (RuntimeError, TypeError):  # NotImplementedError is one of the former
            other = stand_in(func)
            if other is not None:
                return other(*args, **kwargs)
            arguments = self._described((args, kwargs))
            if func is Tensor.__getitem__:
                return func(args[0], self._known.without_masks(args[1], arguments[0][1]))
            if not self._known.can_tell(arguments):
                raise
            return self._known.call(func, *arguments)

    def _write_down(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        taken: list[Tensor],
        made: list[Tensor],
        written: list[Tensor],
    ) -> None:
        changed = set(map(id, written))
        same = set(map(id, taken)) - changed
        new = [tensor for tensor in made if id(tensor) not in same]
        outputs = new if made else written[:1]  # views of one memory count writes together
        if not outputs:
            return  # it returned what it got: there was nothing to convert
        arguments = self._described((args, kwargs))
        is_in_place = bool(args) and id(args[0]) in changed
        function = functools.partial(on_copy, func) if is_in_place else func
        operation = self._operation(
            function_name(func), function, arguments[0], arguments[1], outputs
        )
        if is_in_place:
            self._write_through(args[0])
            return
        for position, tensor in enumerate(outputs):
            base = base_of(tensor)
            if base is not None and args and isinstance(args[0], Tensor):
                self._views[id(tensor)] = (args[0], view_by(operation, position))

    def _write_through(self, part: Tensor) -> None:
        """What a view was of is another value too, once the view was written."""
        shown = self._values[id(part)][1]
        views: list[View] = []
        while id(part) in self._views:
            part, view = self._views[id(part)]
            if view is None:
                self._note("writes through a view by values: the whole is taken as unwritten.")
                return
            views.insert(0, view)
            function = functools.partial(with_part, tuple(views))
            self._operation("setitem", function, (self._value(part), shown), {}, [part])

    def _operation(
        self,
        name: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        made: list[Tensor],
    ) -> Operation:
        module, call = self.running[-1] if self.running else ("", 0)
        outputs, index = tuple(map(self.new_value, made)), len(self.operations)
        operation = Operation(index, name, function, args, kwargs, outputs, module, call)
        self.operations.append(operation)
        self._known.made_by(operation)
        return operation

    def _note(self, text: str) -> None:
        module = self.running[-1][0] if self.running else ""
        self.notes[f"{repr(module) if module else 'The model'} {text}"] = None

    def _described(self, nested: Any) -> Any:
        """With a value in the place of every tensor."""
        if isinstance(nested, Tensor):
            return self._value(nested)
        if isinstance(nested, dict):
            return {key: self._described(item) for key, item in nested.items()}
        if isinstance(nested, (list, tuple)):
            return like(nested, map(self._described, nested))
        return nested

    def _value(self, tensor: Tensor) -> Value:
        seen = self._values.get(id(tensor))
        if seen is not None:
            return seen[1]
        if tensor.is_meta:
            self._note(
                f"uses a tensor of shape {tuple(tensor.shape)} that no operation of the pass made: "
                "a constant, or the result of code that torch does not see."
            )
        return self.new_value(tensor)


def tensors_in(nested: object) -> Iterator[Tensor]:
    """The tensors in containers of all kinds, in order."""
    if isinstance(nested, Tensor):
        yield nested
    elif isinstance(nested, Mapping):
        for item in nested.values():
            yield from tensors_in(item)
    elif isinstance(nested, (list, tuple)):
        for item in nested:
            yield from tensors_in(item)
    elif is_dataclass(nested) and not isinstance(nested, type):
        for field in fields(nested):
            yield from tensors_in(getattr(nested, field.name, None))
