"""Construction without weights: parameters that hold no value yet get no memory yet."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import MethodWrapperType
from typing import Any
from weakref import WeakKeyDictionary, WeakSet, ref

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.overrides import TorchFunctionMode

# The one home of dispatch modes, for all that its name says.
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass

from fanin.errors import PlanError
from fanin.model.construction.computed import mark_computed, remember_value
from fanin.model.construction.exchange import take_over
from fanin.model.construction.operations import (
    COPIES,
    COPY,
    EMPTY,
    FILLS,
    LIKE,
    places,
    tensors_in,
    written,
)

__all__ = ["asked_device", "deferred", "forget_device"]


@contextmanager
def deferred() -> Iterator[None]:
    """Build modules whose parameters have no memory until they are initialized.

    A parameter that is registered before anything was written to it (``torch.empty``, as in every
    layer of torch) moves to the meta device at that moment; the random numbers that a constructor
    then draws for it cost nothing. All else is real: buffers, and parameters with a value of their
    own. Such a value is one that was computed before registration
    (``Parameter(torch.log(torch.arange(1, 9)))``, ``Embedding.from_pretrained``), or that
    ``copy_``, ``load_state_dict`` or an assignment to ``.data`` give the whole parameter later on.

    While it lasts, a deferred parameter's ``.device`` is the one it was asked for, so that what a
    constructor places next to it is real as well. It holds for the calling thread. Nested
    contexts are one. Writes through NumPy or a pointer are not seen.

    Raises:
        PlanError: when a constructor computes something real from a value that is not there yet:
            `torch.nn.utils.parametrizations.spectral_norm` and ``orthogonal`` do, and
            ``fully_shard``, which belongs after the block.

    Example:
        >>> with deferred():
        ...     model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        >>> model[0].weight.device, model[1].running_var.device
        (device(type='meta'), device(type='cpu'))
        >>> from fanin import initialize
        >>> from fanin.model.construction.materialize import materialize
        >>> materialize(model)
        >>> _ = initialize(model, "kaiming", seed=0)
        >>> model[0].weight.device, bool(model[0].weight.any())
        (device(type='cpu'), True)
    """
    if _current() is not None:
        yield
        return
    with _ADDING:
        _add_hooks()
    construction = _THREAD.construction = _Construction()
    try:
        with _watched(construction):
            yield
    finally:
        _THREAD.construction = None
    construction.finish()


def asked_device(tensor: Tensor) -> torch.device | None:
    """The device on which the constructor asked for a deferred parameter, where that is known."""
    device: torch.device | None = getattr(tensor, _DEVICE, None)
    return device


def forget_device(tensor: Tensor) -> None:
    """Drop the mark that `asked_device` reads."""
    tensor.__dict__.pop(_DEVICE, None)


_DEVICE = "_fanin_device"
_DEVICE_OF = torch.Tensor.device
_DATA_OF = torch.Tensor.data
_THREAD = threading.local()  # .construction: the open context
_ADDING = threading.Lock()
_SHARDING = ("torch.distributed.fsdp", "torch.distributed.tensor", "torch.distributed._composable")


@dataclass(frozen=True, slots=True)
class _Origin:
    """The deferred parameter that a meta tensor looks at or was computed from."""

    text: str
    device: torch.device


class _Construction:
    """What one context knows of memory.

    Storages are compared by identity: torch keeps one Python object for each as long as it lives.
    """

    def __init__(self) -> None:
        self.untouched: WeakSet[torch.UntypedStorage] = WeakSet()
        # The meta memory that stands for a storage, should a second parameter look at it.
        self.stand_ins: WeakKeyDictionary[torch.UntypedStorage, Tensor] = WeakKeyDictionary()
        self.origins: dict[torch.UntypedStorage, _Origin] = {}  # of meta storages
        self.values: dict[torch.UntypedStorage, Tensor] = {}  # what copy_ wrote to meta storages
        self.deferred: list[nn.Parameter] = []
        self.given: list[Tensor] = []  # those with assigned data
        self.places: list[tuple[ref[nn.Module], str]] = []  # where plain parameters were registered

    def on_parameter(self, module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        """Registration of a parameter: it moves to meta unless it has a value."""
        if not _is_plain(parameter):
            return
        self.places.append((ref(module), name))
        storage = parameter.untyped_storage()
        if parameter.is_meta:
            if storage in self.origins and asked_device(parameter) is None:
                setattr(parameter, _DEVICE, self.origins[storage].device)
                self.deferred.append(parameter)
        elif storage in self.untouched:
            if parameter.nbytes == storage.nbytes():
                self._defer(parameter, storage, f"{name!r} of {type(module).__name__}")
        else:
            mark_computed(module, name, parameter)

    def on_buffer(self, module: nn.Module, name: str, buffer: Tensor) -> None:
        """Registration of a buffer: it cannot depend on a value that is not there yet."""
        origin = self._origin((buffer,))
        if origin is not None:
            raise _no_value(f"buffer {name!r} of {type(module).__name__}", origin)

    def finish(self) -> None:
        """Give memory to what got a value after it was registered, and remember all values."""
        filled = {id(parameter) for parameter in self.given}
        for parameter in self.deferred:
            value = self._value(parameter) if parameter.is_meta else parameter
            if value is not parameter:
                take_over(parameter, value.detach())
                filled.add(id(parameter))
        for place, name in self.places:
            module = place()
            if module is None:
                continue
            here = module._parameters.get(name)
            if here is not None and id(here) in filled:
                mark_computed(module, name, here)
            remember_value(module, name)

    def on_device(self, tensor: Tensor) -> torch.device:
        """What ``tensor.device`` says: constructors place by it what they compute."""
        origin = self._origin((tensor,))
        return tensor.device if origin is None else origin.device

    def on_data(self, tensor: Tensor, value: Tensor) -> None:
        """An assignment to ``tensor.data``, which torch refuses between meta and real tensors."""
        origin = self._origin((tensor, value))
        if origin is None or tensor.is_meta == value.is_meta:
            tensor.data = value
        elif value.is_meta:
            raise _no_value("an assignment to .data", origin)
        elif value.untyped_storage() in self.untouched:
            tensor.data = torch.empty_like(value, device="meta")
            self.origins[tensor.untyped_storage()] = origin
        else:
            take_over(tensor, value.detach())
            forget_device(tensor)
            self.given.append(tensor)

    def on_operation(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """An operation of torch: what it reserves, writes and reads is noted."""
        if func in EMPTY and not (args and isinstance(args[0], Tensor)):
            return self._remember(func(*args, **kwargs))
        if func._schema.is_mutable:
            return self._write(func, args, kwargs)
        return self._read(func, args, kwargs)

    def _defer(self, parameter: nn.Parameter, storage: torch.UntypedStorage, text: str) -> None:
        size, stride, device = parameter.size(), parameter.stride(), parameter.device
        stand_in = self.stand_ins.get(storage)
        if stand_in is None:
            stand_in = torch.empty_strided(size, stride, dtype=parameter.dtype, device="meta")
            self.stand_ins[storage] = stand_in
            self.origins[stand_in.untyped_storage()] = _Origin(text, device)
        take_over(parameter, stand_in.detach().as_strided(size, stride))
        setattr(parameter, _DEVICE, device)
        self.deferred.append(parameter)

    def _remember(self, tensor: Any) -> Any:
        if not tensor.is_meta and tensor.layout == torch.strided:
            self.untouched.add(tensor.untyped_storage())
        return tensor

    def _write(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        target = args[0] if args else None
        if isinstance(target, Tensor) and target.is_meta and 0 in written(func):
            return self._write_meta(func, target, args, kwargs)
        if self.values:
            args = tuple(self._value(arg) for arg in args)
        read = [value for place, value in places(args, kwargs) if place not in written(func)]
        origin = self._origin(read)
        if origin is not None:
            raise _no_value(str(func), origin)
        for place, value in places(args, kwargs):
            if place in written(func):
                for tensor in tensors_in((value,)):
                    if tensor.layout == torch.strided:
                        self.untouched.discard(tensor.untyped_storage())
        return func(*args, **kwargs)

    def _write_meta(
        self, func: Any, target: Tensor, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """A write without effect, but for a whole value that was computed and what follows it."""
        is_fill = func in FILLS
        if is_fill and not self.values:
            return target
        storage = target.untyped_storage()
        is_whole = target.nbytes == storage.nbytes()
        if is_fill and is_whole:
            self.values.pop(storage, None)
            return target
        origin = self.origins.get(storage)
        is_known = func in COPY and not self._value(args[1]).is_meta
        if is_known and is_whole and origin is not None:
            self.values.setdefault(
                storage, torch.empty(target.numel(), dtype=target.dtype, device=origin.device)
            )
        if storage not in self.values:
            try:
                return func(*args, **kwargs)
            except Exception as error:
                if origin is None:
                    raise
                raise _no_value(str(func), origin) from error
        func(*(self._value(arg) for arg in args), **kwargs)
        return target

    def _read(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if self.values and not func.is_view:
            args = tuple(self._value(arg) for arg in args)
        origin = self._origin(args)
        if origin is None:
            result = func(*args, **kwargs)
            is_copy = func in COPIES and args[0].layout == torch.strided
            if func in EMPTY or (is_copy and args[0].untyped_storage() in self.untouched):
                self._remember(result)
            return result
        if func in LIKE and kwargs.get("device") is None:
            result = func(*args, **{**kwargs, "device": origin.device})
            return self._remember(result) if func in EMPTY else result
        try:
            result = func(*args, **kwargs)
        except Exception as error:
            raise _no_value(str(func), origin) from error
        for tensor in tensors_in(result if isinstance(result, tuple | list) else (result,)):
            if tensor.is_meta and tensor.layout == torch.strided:
                self.origins.setdefault(tensor.untyped_storage(), origin)
        return result

    def _origin(self, values: Sequence[Any]) -> _Origin | None:
        for tensor in tensors_in(values):
            if tensor.is_meta and tensor.layout == torch.strided:
                origin = self.origins.get(tensor.untyped_storage())
                if origin is not None:
                    return origin
        return None

    def _value(self, tensor: Any) -> Any:
        """The same view of what was written to a meta tensor's memory; else what came in."""
        if not (isinstance(tensor, Tensor) and tensor.is_meta and tensor.layout == torch.strided):
            return tensor
        value = self.values.get(tensor.untyped_storage())
        if value is None:
            return tensor
        return value.as_strided(tensor.size(), tensor.stride(), tensor.storage_offset())


@cache
def _add_hooks() -> None:
    """Be told of registrations, from the first context on.

    torch goes through its hooks while any thread builds a module, which would fail there if one
    came or went with each context.
    """
    register_module_parameter_registration_hook(_on_parameter)
    register_module_buffer_registration_hook(_on_buffer)


def _on_parameter(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
    construction = _current()
    if construction is not None:
        construction.on_parameter(module, name, parameter)


def _on_buffer(module: nn.Module, name: str, buffer: Tensor | None) -> None:
    construction = _current()
    if construction is not None and buffer is not None:
        construction.on_buffer(module, name, buffer)


def _current() -> _Construction | None:
    """That of this thread, while a context is open."""
    return getattr(_THREAD, "construction", None)


@contextmanager
def _watched(construction: _Construction) -> Iterator[None]:
    """Hand a construction what this thread asks of torch."""

    def dispatch(
        mode: Any,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return construction.on_operation(func, args, kwargs or {})

    def function(
        mode: Any,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if type(func) is MethodWrapperType and func.__self__ is _DEVICE_OF:
            return construction.on_device(args[0])
        if type(func) is MethodWrapperType and func.__self__ is _DATA_OF and len(args) == 2:
            return construction.on_data(*args)  # a read has one argument
        return func(*args, **(kwargs or {}))

    # Private to torch: True would import the compiler (1.5 s) to wrap every operation.
    skips = classmethod(lambda mode: False)
    body = {"__torch_dispatch__": dispatch, "_should_skip_dynamo": skips}
    operations: Any = type("Operations", (TorchDispatchMode,), body)
    functions: Any = type("Functions", (TorchFunctionMode,), {"__torch_function__": function})
    with operations(), functions():
        yield


def _is_plain(parameter: nn.Parameter) -> bool:
    """Whether it is a parameter with memory of its own: not lazy, no wrapper around tensors."""
    return (
        issubclass(type(parameter), nn.Parameter)
        and not nn.parameter.is_lazy(parameter)
        and not is_traceable_wrapper_subclass(parameter)
        and parameter.layout == torch.strided
    )


def _no_value(what: str, origin: _Origin) -> PlanError:
    if _is_sharding():
        return PlanError(
            "deferred: a model is sharded when it is built, which is before its values are drawn. "
            f"Got a sharding of {origin.text} inside of `with deferred():`. Shard after the block, "
            "and call fanin.initialize after that."
        )
    return PlanError(
        f"deferred: the values of deferred parameters are drawn after construction. Got {what}, "
        f"which needs that of {origin.text}. Build this part after fanin.initialize (as for "
        "spectral_norm and orthogonal), or outside of deferred()."
    )


def _is_sharding() -> bool:
    """Whether it is FSDP or DTensor that asks for a value; they are told by their modules' names.

    They say so nowhere else: FSDP2 makes its class of a module after it has copied the shards.
    """
    names = (frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_stack(None))
    return any(name.startswith(_SHARDING) for name in names)
