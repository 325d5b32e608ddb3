"""Watching one forward pass: a record for each call worth a row, in the order they return."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fanin.probing.measuring.activations import activation_name, range_of
from fanin.probing.measuring.modules import Watched
from fanin.probing.measuring.statistics import (
    is_measurable,
    is_transformed,
    measure,
    not_finite,
)
from fanin.probing.measuring.tensors import measurable, signal, tensors_in
from fanin.probing.rows import SignalRow, Statistics

__all__ = ["Capture", "StopForward"]


class StopForward(BaseException):
    """Leaves a forward pass early; no handler in a model's own code is meant to catch it."""


class Capture:
    """What a forward pass shows.

    A call has a row when it is

    - of a module without modules in it: those compute;
    - of a layer, whatever is in it;
    - of any other module, unless it returns what the last row is about: a block that adds a
      residual has a row, a `Sequential` would repeat its last child;
    - of an activation that is a plain function, unless it is called in a module that has neither
      parameters nor modules: that is a function itself, and is not opened.

    An activation whose result its module returns is one row, under the module's name. Calls inside
    `torch.func.vmap` and its kin have none: their names are in ``transformed``.

    Args:
        modules: to watch.
        gradients: measure what arrives at the outputs in a backward pass.
        stop_at_nonfinite: raise `StopForward` after the first record that is not finite.
    """

    def __init__(
        self, modules: Sequence[Watched], *, gradients: bool, stop_at_nonfinite: bool
    ) -> None:
        self.called: set[str] = set()
        self.transformed: dict[str, None] = {}  # a set in order
        self.arrived: str | None = None
        self._modules = modules
        self._gradients = gradients
        self._stops = stop_at_nonfinite
        self._records: list[_Record] = []
        self._frames: list[_Frame] = []
        self._latest: _Seen | None = None
        self._depth = 0
        self._is_finite = True
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Inside, calls are recorded; afterwards only the hooks for gradients are left."""
        with ExitStack() as hooks:
            for module in self._modules:
                enter, leave = partial(self._enter, module), partial(self._leave, module)
                own = module.module
                hooks.callback(own.register_forward_pre_hook(enter, prepend=True).remove)
                hooks.callback(own.register_forward_hook(leave, with_kwargs=True).remove)
            with _Functions(self):
                yield

    def forget_gradients(self) -> None:
        """Remove the hooks for gradients."""
        for handle in self._handles:
            handle.remove()

    def rows(self) -> tuple[SignalRow, ...]:
        """What was recorded, numbered."""
        calls: Counter[str] = Counter()
        rows = []
        for index, record in enumerate(self._records):
            rows.append(record.row(index, calls[record.name]))
            calls[record.name] += 1
        return tuple(rows)

    @property
    def where(self) -> str:
        """The innermost module that has not returned."""
        return self._frames[-1].watched.label if self._frames else "the model"

    @property
    def last(self) -> str:
        """The latest row's name."""
        return self._records[-1].name

    def function(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any
    ) -> None:
        """An activation was called as a plain function."""
        if not self._frames or not isinstance(result, Tensor) or not is_measurable(result):
            return
        frame, bounds = self._frames[-1], range_of(name, args, kwargs)
        if frame.watched.is_function:
            frame.activation, frame.bounds = _Seen.of(result), bounds
            return
        caller = frame.watched.name
        record = _Record(f"{caller}/{name}" if caller else name, name, self._depth, is_layer=False)
        record.is_function = True
        self._keep(record, [result], (args, kwargs), bounds)

    def _enter(self, watched: Watched, module: nn.Module, args: object) -> None:
        self.called.add(watched.name)
        self._depth += watched.is_layer
        self._frames.append(_Frame(watched, first=len(self._records)))

    def _leave(
        self, watched: Watched, module: nn.Module, args: object, kwargs: object, output: object
    ) -> None:
        frame = self._frames.pop()
        while frame.watched is not watched:  # it raised, and the model caught that
            frame = self._frames.pop()
        tensors = measurable(output)
        tensor = signal(tensors)
        if tensor is None:
            if any(map(is_transformed, tensors_in(output))):
                self.transformed[watched.name] = None
            return
        if self._latest is not None and self._latest.shows(tensor):
            latest = self._records[-1]
            if watched.is_container and not watched.is_layer:
                return
            if latest.is_function and len(self._records) > frame.first:
                latest.rename(watched)
                return
        is_bounded = frame.activation is not None and frame.activation.shows(tensor)
        record = _Record(watched.name, watched.kind, self._depth, watched.is_layer)
        self._keep(record, tensors, (args, kwargs), frame.bounds if is_bounded else None)

    def _keep(
        self,
        record: _Record,
        tensors: list[Tensor],
        inputs: object,
        bounds: tuple[float, float] | None,
    ) -> None:
        """Measure the output of a call, and its input where it is the first that is not finite."""
        tensor = signal(tensors)
        assert tensor is not None
        record.output = _statistics(tensors, bounds)
        is_culprit = self._is_finite and not record.output.is_finite
        if is_culprit:
            record.input = self._input(inputs, tensor)
            self._is_finite = False
        self._records.append(record)
        self._latest = _Seen.of(tensor)
        if self._gradients and tensor.requires_grad:
            watched: Any = tensor
            self._handles.append(watched.register_hook(partial(self._arrive, record)))
        if is_culprit and self._stops:
            raise StopForward

    def _input(self, inputs: object, output: Tensor) -> Statistics | None:
        """Of what a call got; where it was overwritten, of the row that was about it."""
        tensors = measurable(inputs)
        tensor = signal(tensors)
        if tensor is None:
            return None
        if tensor is output:
            was_seen = self._latest is not None and self._latest.tensor() is tensor
            return self._records[-1].output if was_seen else None
        return _statistics(tensors, None)

    def _arrive(self, record: _Record, gradient: Tensor) -> None:
        self.arrived = record.name
        if is_measurable(gradient):
            record.gradient = measure(gradient)


class _Functions(TorchFunctionMode):
    """Sees every call of a function of torch."""

    def __init__(self, capture: Capture) -> None:
        super().__init__()
        self._capture = capture

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = activation_name(func)
        if name is not None:
            self._capture.function(name, args, kwargs or {}, result)
        return result


@dataclass(slots=True)
class _Record:
    """A row in the making: its gradient comes last."""

    name: str
    kind: str
    depth: int
    is_layer: bool
    is_function: bool = False
    output: Statistics | None = None
    gradient: Statistics | None = None
    input: Statistics | None = None

    def rename(self, watched: Watched) -> None:
        """The function's result is the module's."""
        self.name, self.kind = watched.name, watched.kind
        self.is_layer, self.is_function = watched.is_layer, False

    def row(self, index: int, call: int) -> SignalRow:
        assert self.output is not None
        return SignalRow(
            index,
            self.name,
            self.kind,
            call,
            self.depth,
            self.is_layer,
            self.output,
            self.gradient,
            self.input,
        )


@dataclass(slots=True)
class _Frame:
    """A module that has been entered: how many records there were, and a function it called."""

    watched: Watched
    first: int
    activation: _Seen | None = None
    bounds: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class _Seen:
    """A tensor as it was at some time, not kept alive."""

    tensor: weakref.ref[Tensor]
    version: int

    @classmethod
    def of(cls, tensor: Tensor) -> _Seen:
        return cls(weakref.ref(tensor), _version(tensor))

    def shows(self, other: Tensor) -> bool:
        """Whether another one is the same, or a view of all of it, unchanged since."""
        mine = self.tensor()
        if mine is None or _version(other) != self.version:
            return False
        if mine is other:
            return True
        are_plain = type(mine) is type(other) is Tensor
        is_alike = mine.numel() == other.numel() and mine.dtype == other.dtype
        return are_plain and is_alike and mine.data_ptr() == other.data_ptr()


def _version(tensor: Tensor) -> int:
    """Counts writes in place; inference tensors do not."""
    return 0 if tensor.is_inference() else tensor._version


def _statistics(tensors: list[Tensor], bounds: tuple[float, float] | None) -> Statistics:
    """Of the tensor that stands for all, with what is not finite in the others."""
    shown = signal(tensors)
    assert shown is not None
    found = measure(shown, bounds=bounds)
    for other in tensors:
        if other is not shown:
            nans, infs = not_finite(other)
            found = replace(found, nans=found.nans + nans, infs=found.infs + infs)
    return found
