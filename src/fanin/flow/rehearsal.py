"""A copy of a model that goes through a forward pass without values, and is watched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from fanin.errors import TraceError
from fanin.flow.graph import Trace, Value
from fanin.flow.known import Known
from fanin.flow.recorder import Recorder
from fanin.model import buffers, entries, module_type, sites
from fanin.model.construction.meta_copy import meta_copy, uncopyable
from fanin.model.parametrized import parametrized
from fanin.model.wrappers import wrapped_attribute

__all__ = ["Rehearsal", "named_tensors"]


class Rehearsal:
    """A model's copy, with a recorder that knows its parts.

    Args:
        model: is copied, with meta tensors in the place of tensors.
        example_inputs: likewise.
    """

    def __init__(self, model: nn.Module, example_inputs: object) -> None:
        try:
            self.copy, self.inputs = meta_copy(model, example_inputs)
        except Exception as error:
            attribute = uncopyable(model)
            where = f", for {attribute!r}" if attribute else ""
            raise TraceError(
                "trace: the pass is tried on a copy of the model and its inputs. Got "
                f"{type(error).__name__} from copy.deepcopy: {_text(error)}{where}. Trace the "
                "model before it is sharded, or without the attribute that cannot be copied."
            ) from error
        self.known = Known()
        self.recorder = Recorder(self.known)
        self.kinds: dict[str, str] = {}  # of modules, by name
        self.weights: dict[str, Value] = {}  # by the owner's name
        self.owners = {name: entry.name for entry in entries(model) for name in entry.names}
        self.arguments = tuple(self._arguments(example_inputs))
        self._know_parameters()
        self._know_buffers(model)
        for name, module in [*_named_modules(self.copy)]:
            self._watch(name, module)

    def run(self) -> Trace:
        """The pass.

        Raises:
            TraceError: when it raises.
        """
        inputs, recorder = self.inputs, self.recorder
        try:
            with recorder:
                if isinstance(inputs, Mapping):
                    output = self.copy(**inputs)
                elif isinstance(inputs, tuple):
                    output = self.copy(*inputs)
                else:
                    output = self.copy(inputs)
        except Exception as error:
            name = recorder.raised
            raise TraceError(
                "trace: a forward pass runs on tensors that have shapes and no values. Got "
                f"{type(error).__name__} in {name or 'the model'!r} ({self.kinds[name]}): "
                f"{_text(error)}. {_way_out(error)}"
            ) from error
        recorder.note_unseen(output)
        return Trace(
            tuple(recorder.operations),
            tuple(recorder.calls),
            self.arguments,
            recorder.values_of(output),
            tuple(recorder.notes),
        )

    def _arguments(self, example_inputs: object) -> Iterator[Value]:
        twins, real = named_tensors(self.inputs), named_tensors(example_inputs)
        for (name, twin), (_, tensor) in zip(twins, real, strict=True):
            value = self.recorder.new_value(twin, argument=name)
            self._remember(value, tensor)
            yield value

    def _know_parameters(self) -> None:
        for site in sites(self.copy):
            if site.through is None:
                self._know_weight(self.owners[site.name], site.tensor)

    def _know_weight(self, name: str, weight: Tensor) -> None:
        """One value for all places of a tied parameter, and all times that one is computed."""
        if name in self.weights:
            self.recorder.set_value(weight, self.weights[name])
        else:
            self.weights[name] = self.recorder.new_value(weight, parameter=name)

    def _know_buffers(self, model: nn.Module) -> None:
        values: dict[int, Value] = {}
        for site, twin in zip(buffers(model), buffers(self.copy), strict=True):
            if id(twin.tensor) not in values:
                value = self.recorder.new_value(twin.tensor, buffer=site.name)
                values[id(twin.tensor)] = value
                self._remember(value, site.tensor)

    def _remember(self, value: Value, tensor: Tensor) -> None:
        if not tensor.is_meta:
            self.known.add(value, tensor.detach().cpu())

    def _watch(self, name: str, module: nn.Module) -> None:
        self.kinds[name] = module_type(module).__name__
        computed = {
            attribute: self.owners.get(place, place)
            for attribute in parametrized(module)
            for place in [f"{name}.{attribute}".lstrip(".")]
        }
        hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
        old = [hook for hook in hooks if _computes_weight(hook)]
        if len(old) < sum(not _collects(hook) for hook in hooks):
            self.recorder.notes[f"The hooks of {name or 'the model'!r} do not run."] = None
        _clear_hooks(module)
        module.register_forward_pre_hook(partial(self._enter, name, old, computed))
        module.register_forward_hook(partial(self._leave, self.kinds[name]), always_call=True)
        lists = module._modules.get("parametrizations")
        for attribute, weight in computed.items():
            chain = lists._modules.get(attribute) if isinstance(lists, nn.ModuleDict) else None
            if isinstance(chain, ParametrizationList):
                quiet: list[AbstractContextManager[None]] = []
                chain.register_forward_pre_hook(partial(self._compute, quiet))
                done = partial(self._computed, quiet, weight)
                chain.register_forward_hook(done, always_call=True)

    def _enter(
        self,
        name: str,
        old: list[Any],
        computed: Mapping[str, str],
        module: nn.Module,
        args: object,
    ) -> None:
        self.recorder.enter(name)
        for hook in old:
            with self.recorder.paused():
                hook(module, args)
            self._know_weight(computed[hook.name], getattr(module, hook.name))

    def _leave(self, kind: str, module: nn.Module, args: object, output: object) -> None:
        self.recorder.leave(kind, output)

    def _compute(self, quiet: list[AbstractContextManager[None]], *_: object) -> None:
        """A parametrization begins: what it calls is no operation of the model."""
        quiet.append(self.recorder.paused())
        quiet[-1].__enter__()

    def _computed(
        self,
        quiet: list[AbstractContextManager[None]],
        name: str,
        module: nn.Module,
        args: object,
        weight: object,
    ) -> None:
        quiet.pop().__exit__(None, None, None)
        if isinstance(weight, Tensor):
            self._know_weight(name, weight)


def _named_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Each module once, under the first canonical name it has; none that computes weights."""
    seen: set[int] = set()
    waiting = [("", model)]
    while waiting:
        name, module = waiting.pop()
        wrapped = wrapped_attribute(module)
        if id(module) in seen:
            continue
        seen.add(id(module))
        if wrapped is None:
            yield name, module
        children = []
        for attribute, child in module._modules.items():
            if child is not None and not _holds_parametrizations(attribute, child):
                own = name if attribute == wrapped else f"{name}.{attribute}".lstrip(".")
                children.append((own, child))
        waiting.extend(reversed(children))


def _holds_parametrizations(attribute: str, module: nn.Module) -> bool:
    return (
        attribute == "parametrizations"
        and isinstance(module, nn.ModuleDict)
        and any(isinstance(each, ParametrizationList) for each in module.values())
    )


def _computes_weight(hook: object) -> bool:
    """Whether it is one of the older hooks of `torch.nn.utils` that set a weight."""
    return isinstance(hook, WeightNorm | SpectralNorm)


def _collects(hook: object) -> bool:
    """Whether it is one of transformers', by which models come to the states of their layers."""
    return getattr(hook, "__module__", None) == "transformers.utils.output_capturing"


def _clear_hooks(module: nn.Module) -> None:
    for attribute in _HOOKS:
        hooks = getattr(module, attribute)
        for key in [key for key, hook in hooks.items() if not _collects(hook)]:
            del hooks[key]


def named_tensors(inputs: object) -> Iterator[tuple[str, Tensor]]:
    """The tensors among a model's arguments: ``"0"``, ``"input_ids"``, ``"0.mask"`` deeper."""
    yield from _below(inputs if isinstance(inputs, Mapping | tuple) else (inputs,), "")


def _below(nested: object, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(nested, Tensor):
        yield name, nested
    elif isinstance(nested, Mapping):
        for key, item in nested.items():
            yield from _below(item, f"{name}.{key}".lstrip("."))
    elif isinstance(nested, list | tuple):
        for i, item in enumerate(nested):
            yield from _below(item, f"{name}.{i}".lstrip("."))
    elif is_dataclass(nested) and not isinstance(nested, type):
        for each in fields(nested):
            yield from _below(getattr(nested, each.name, None), f"{name}.{each.name}".lstrip("."))


def _way_out(error: Exception) -> str:
    if isinstance(error, NotImplementedError) or "meta" in str(error):
        return (
            "Code that reads values (.item(), .numpy(), nonzero(), a mask as an index) cannot be "
            "traced where they depend on parameters: trace the parts of the model that do not read "
            "any, or a form of it that computes all entries and masks the results."
        )
    return "Correct example_inputs if they do not fit, or the code that raises."


def _text(error: Exception) -> str:
    line = str(error).partition("\n")[0]
    if len(line) > _LONG:  # torch's further advice is about its own switches
        line = line.partition(". ")[0]
    return line.rstrip(". ")


_LONG = 160

# The dictionaries of `nn.Module` whose hooks run with a forward pass.
_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
