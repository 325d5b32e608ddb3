"""The modules of a model whose calls a probe sees, and what each of them is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.nn.utils.parametrize import ParametrizationList

from fanin.model import module_type, sites
from fanin.model.wrappers import wrapped_attribute

__all__ = ["Watched", "watched"]


@dataclass(frozen=True, eq=False, slots=True)
class Watched:
    """A module, under the first canonical name it has.

    Args:
        name: without components for wrappers; ``""`` for the root.
        module: that is called.
        kind: the name of its class.
        is_layer: whether it has a parameter of two dims or more, and no sub-module that has one.
        is_container: whether there are modules in it.
        is_function: whether there is neither a module nor a parameter in it.
    """

    name: str
    module: nn.Module
    kind: str
    is_layer: bool
    is_container: bool
    is_function: bool

    @property
    def can_idle(self) -> bool:
        """Whether it is worth a word that it never runs.

        A `ParameterList` cannot run, and attention reads the probability of its dropout.
        """
        has_forward = type(self.module).forward is not nn.Module.forward
        return self.is_container or (has_forward and not isinstance(self.module, _DropoutNd))

    @property
    def label(self) -> str:
        """For messages."""
        return f"{self.name!r} ({self.kind})" if self.name else self.kind


def watched(model: nn.Module) -> tuple[Watched, ...]:
    """Every module of a model but wrappers, and those that compute weights; each one once."""
    with_weights, above_weights = _layers(model)
    found = []
    seen: set[int] = set()
    for name, module in _walk(model, ""):
        if id(module) in seen:
            continue
        seen.add(id(module))
        is_container = any(True for _ in _children(module))
        is_layer = id(module) in with_weights - above_weights
        is_function = not is_container and not any(True for _ in module.parameters())
        kind = module_type(module).__name__
        found.append(Watched(name, module, kind, is_layer, is_container, is_function))
    return tuple(found)


def _layers(model: nn.Module) -> tuple[set[int], set[int]]:
    """Modules with a weight of their own, and modules that have one below them."""
    own: set[int] = set()
    below: set[int] = set()
    for site in sites(model):
        if site.tensor.dim() < 2:
            continue
        parents = site.parents
        if isinstance(parents[-1], _READ_NOT_CALLED) and len(parents) > 1:
            parents = parents[:-1]
        own.add(id(parents[-1]))
        below.update(id(parent) for parent in parents[:-1])
    return own, below


# Attention reads the weight of its ``out_proj`` and never calls it: it is the layer.
_READ_NOT_CALLED = (NonDynamicallyQuantizableLinear,)


def _walk(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """The modules in registration order, wrappers left out; those shared at each place."""
    attribute = wrapped_attribute(module)
    if attribute is not None:
        yield from _walk(getattr(module, attribute), name)
        return
    yield name, module
    for child_name, child in _children(module):
        yield from _walk(child, f"{name}.{child_name}" if name else child_name)


def _children(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, child in module._modules.items():
        is_weights = isinstance(child, _READ_NOT_CALLED)
        if name == "parametrizations" and isinstance(child, nn.ModuleDict):
            is_weights = any(isinstance(part, ParametrizationList) for part in child.values())
        if child is not None and not is_weights:
            yield name, child
