"""Shapes of lazy modules: from a forward pass that computes nothing, or from the first real one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import is_lazy

from fanin.errors import PlanError
from fanin.model.construction.generators import generators_kept
from fanin.model.construction.meta_copy import meta_copy
from fanin.model.wrappers import unwrapped

__all__ = ["infer_shapes", "when_materialized"]


def infer_shapes(model: nn.Module, example_inputs: object) -> None:
    """Give every lazy module the shapes that these inputs lead to, without computing anything.

    A copy of the model on the meta device goes through one forward pass, and notes what reaches
    its lazy modules; then torch's own inference runs on the modules of the model itself. Their
    new values are torch's defaults. torch's random generators, buffers that had values, and
    training modes stay as they are. The hooks of the model do not run, in the copy either.

    Args:
        model: a module with lazy modules in it; one without is left alone.
        example_inputs: a tensor; a tuple of positional arguments; a mapping of keyword arguments.
            Tensors may lie deeper in them. Only shapes and dtypes matter.

    Raises:
        PlanError: when the forward pass fails, or does not reach every lazy module. The model is
            then as it was.

    Example:
        >>> net = nn.Sequential(nn.LazyConv2d(4, kernel_size=3), nn.Flatten(), nn.LazyLinear(2))
        >>> infer_shapes(net, torch.empty(1, 3, 8, 8))
        >>> net[2]
        Linear(in_features=144, out_features=2, bias=True)
    """
    if not any(_is_pending(module) or _uninitialized(module) for module in model.modules()):
        return
    model = unwrapped(model)
    with generators_kept():  # torch's inference resets parameters by drawing
        arrivals = _Rehearsal(model, example_inputs).run()
        _infer(model, arrivals)


def when_materialized(module: nn.Module, attribute: str, callback: Callable[[], None]) -> None:
    """Call back once, when a first forward pass has given a lazy module its shapes.

    That is before the module computes with them. A module whose parameters were loaded before it
    ran keeps them: nothing is called back. A callback that raises is called again by the next
    forward pass, unless its parameter was written in the meantime. A copy of the module has a
    copy of the callback, so this should be a method or a `functools.partial` that refers to the
    module, not a closure.

    Args:
        module: a lazy module that has not seen an input yet.
        attribute: of the parameter that is called back for; a later callback replaces the one
            before.
        callback: called without arguments.
    """
    owners = (getattr(hook, "__self__", None) for hook in module._forward_pre_hooks.values())
    waiting = next((owner for owner in owners if isinstance(owner, _Waiting)), None)
    (waiting or _Waiting.at(module)).callbacks[attribute] = callback


class _Waiting:
    """Callbacks on their way: one hook before torch's own inference, one after it."""

    def __init__(self) -> None:
        self.callbacks: dict[str, Callable[[], None]] = {}  # by attribute
        self.is_due = False
        self.left: dict[str, tuple[Any, int]] = {}  # what a failure left behind, with its version
        self.handles: tuple[torch.utils.hooks.RemovableHandle, ...] = ()

    @classmethod
    def at(cls, module: nn.Module) -> _Waiting:
        waiting = cls()
        before = module.register_forward_pre_hook(waiting.look, prepend=True)
        after = module.register_forward_pre_hook(waiting.fire)
        waiting.handles = (before, after)
        return waiting

    def look(self, module: nn.Module, _: object) -> None:
        self.is_due = self.is_due or bool(_uninitialized(module))

    def fire(self, module: nn.Module, _: object) -> None:
        try:
            for attribute, callback in list(self.callbacks.items() if self.is_due else ()):
                if not self._is_written(module, attribute):
                    callback()
                del self.callbacks[attribute]
        except BaseException:
            held = ((name, module._parameters.get(name)) for name in self.callbacks)
            self.left = {name: (tensor, _version(tensor)) for name, tensor in held}
            raise
        for handle in self.handles:
            handle.remove()

    def _is_written(self, module: nn.Module, attribute: str) -> bool:
        """Whether a parameter is another one, or changed, since a callback failed."""
        if attribute not in self.left:
            return False
        tensor, version = self.left[attribute]
        return module._parameters.get(attribute) is not tensor or _version(tensor) != version

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "left": {}}  # versions mean nothing to a copy


def _version(tensor: torch.Tensor | None) -> int:
    """How often autograd saw a tensor written; of one made in inference mode it does not know."""
    return 0 if tensor is None or tensor.is_inference() else tensor._version


@dataclass(frozen=True)
class _Arrival:
    """What reached a lazy module: its name, and meta tensors in the place of tensors."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class _Rehearsal:
    """A forward pass of a copy on the meta device, in which lazy modules get their shapes."""

    def __init__(self, model: nn.Module, example_inputs: object) -> None:
        self.arrivals: list[_Arrival] = []
        self.running: list[str] = []
        try:
            self.copy, self.inputs = meta_copy(model, example_inputs)
        except Exception as error:
            raise PlanError(
                "infer_shapes: shapes are tried on a copy of the model and its inputs. Got "
                f"{type(error).__name__} from copy.deepcopy: {_text(error)}. {_ALTERNATIVE}"
            ) from error
        for name, module in self.copy.named_modules():
            for hooks in _HOOKS:
                getattr(module, hooks).clear()
            if isinstance(module, _NormBase):
                module.eval()  # one example is enough for shapes, and too few for statistics
            module.register_forward_pre_hook(self._entering(name), with_kwargs=True)
            module.register_forward_hook(self._leaving)

    def run(self) -> list[_Arrival]:
        """What reached each lazy module, in the order of the first calls."""
        try:
            with torch.no_grad(), torch.device("meta"):
                if isinstance(self.inputs, Mapping):
                    self.copy(**self.inputs)
                elif isinstance(self.inputs, tuple):
                    self.copy(*self.inputs)
                else:
                    self.copy(self.inputs)
        except Exception as error:
            name = self.running[-1] if self.running else ""
            module = self.copy.get_submodule(name)
            raise PlanError(
                "infer_shapes: the forward pass runs on meta tensors, which have shapes and no "
                f"values. Got {type(error).__name__} in {name or 'the model'!r} "
                f"({type(module).__name__}): {_text(error)}. Correct example_inputs if they do not "
                f"fit. {_ALTERNATIVE}"
            ) from error
        left = [
            f"{name}.{own}".lstrip(".")
            for name, module in self.copy.named_modules()
            for own in _uninitialized(module)
        ]
        if left:
            raise PlanError(
                "infer_shapes: the forward pass gives every lazy parameter its shape. Got none "
                f"for {', '.join(left)}. Pass example_inputs with which the modules that hold "
                "them run, or take them out of the model."
            )
        return self.arrivals

    def _entering(self, name: str) -> Callable[..., None]:
        def enter(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self.running.append(name)
            if _is_pending(module):
                self.arrivals.append(_Arrival(name, args, kwargs))
                module._infer_parameters(module, args, kwargs)

        return enter

    def _leaving(self, *_: object) -> None:
        self.running.pop()


def _infer(model: nn.Module, arrivals: list[_Arrival]) -> None:
    """torch's own inference, on all of the modules or on none."""
    modules = {arrival.name: model.get_submodule(arrival.name) for arrival in arrivals}
    undo = [_restorer(module) for module in modules.values()]
    name = ""
    try:
        for arrival in arrivals:
            name = arrival.name
            module: Any = modules[name]
            module._infer_parameters(module, arrival.args, arrival.kwargs)
    except Exception as error:
        for restore in undo:
            restore()
        raise PlanError(
            "infer_shapes: a lazy module initializes itself from the shapes of its inputs. Got "
            f"{type(error).__name__} in {name!r}: {_text(error)}. {_ALTERNATIVE}"
        ) from error


def _restorer(module: nn.Module) -> Callable[[], None]:
    """A function that takes back what inference does to a lazy module."""
    kind, state = type(module), dict(vars(module))
    inner = {name: copy.copy(value) for name, value in state.items() if isinstance(value, dict)}
    held = (*module._parameters.values(), *module._buffers.values())
    tensors: list[Any] = [(t, type(t), t.data) for t in held if t is not None and is_lazy(t)]

    def restore() -> None:
        module.__class__ = kind
        vars(module).clear()
        vars(module).update(state)
        for name, content in inner.items():  # the same dictionaries: handles of hooks hold them
            state[name].clear()
            state[name].update(content)
        for tensor, tensor_kind, data in tensors:
            tensor.data = data
            tensor.__class__ = tensor_kind

    return restore


def _uninitialized(module: nn.Module) -> list[str]:
    held = {**module._parameters, **module._buffers}
    return [name for name, tensor in held.items() if tensor is not None and is_lazy(tensor)]


def _is_pending(module: nn.Module) -> bool:
    """Whether torch would infer its shapes, or already loaded ones, at the next call."""
    return isinstance(module, LazyModuleMixin) and hasattr(module, "_initialize_hook")


def _text(error: Exception) -> str:
    return str(error).rstrip(". \n")


_ALTERNATIVE = "One real forward pass gives the shapes as well: torch infers them there."

# The dictionaries of `nn.Module` whose hooks a forward pass runs.
_HOOKS = ("_forward_pre_hooks", "_forward_hooks")
