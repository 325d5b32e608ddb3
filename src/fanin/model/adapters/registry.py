"""From a module's type to the axes of its parameters; users register their own types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from fanin.errors import ArgumentError
from fanin.geometry import Layout
from fanin.model.adapters.torch_modules import TORCH_ADAPTERS
from fanin.model.adapters.transformers_modules import transformers_layout
from fanin.model.parametrized.parametrized import parametrized
from fanin.model.site import Site
from fanin.model.types import module_type

__all__ = ["layout_of", "missing_adapter", "register_adapter"]

# Given the module and the name under which it holds a parameter; None where it does not know it.
Adapter = Callable[[Any, str], Layout | None]

# What no nearer type knows is asked of the last one.
_ADAPTERS: dict[type[nn.Module], Adapter] = {**TORCH_ADAPTERS, nn.Module: transformers_layout}


def register_adapter(kind: type[nn.Module], adapter: Adapter) -> None:
    """State the axes of a module type's parameters; subclasses inherit the statement.

    Args:
        kind: the module type; a second registration replaces the first.
        adapter: called with the module and a parameter's own name (``"weight"``); returns its
            layout, or None for a name it does not know.

    Raises:
        ArgumentError: when ``kind`` is no module type.

    Example:
        >>> import torch
        >>> from fanin.model import sites
        >>> class Scale(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.scale = nn.Parameter(torch.empty(3))
        >>> register_adapter(Scale, lambda module, name: Layout.vector(*module.scale.shape))
        >>> next(layout_of(site) for site in sites(Scale()))
        Layout((3,))
    """
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise ArgumentError(f"register_adapter: an adapter is for a module type. Got {kind!r}.")
    _ADAPTERS[kind] = adapter


def layout_of(site: Site) -> Layout | None:
    """The axes of the parameter at a site, as the nearest type that knows it states them.

    None where no type does, and for a parameter whose shape is not known yet.
    """
    if is_lazy(site.tensor):
        return None
    kind = module_type(site.module)
    module = site.module if site.through is None else _unparametrized(site, kind)
    for base in kind.__mro__:
        adapter = _ADAPTERS.get(base)
        layout = adapter(module, site.attribute) if adapter is not None else None
        if layout is not None:
            return layout
    return None


def _unparametrized(site: Site, kind: type[nn.Module]) -> nn.Module:
    """A stand-in for a module with parametrized weights, which holds their values.

    Reading such a weight computes it, and in training mode `spectral_norm` advances its estimate
    each time: an adapter that asks for a shape changes nothing.
    """
    weights = parametrized(site.module).items()
    values = {name: weight.value() for name, weight in weights if name != site.attribute}
    values[site.attribute] = site.tensor
    module = object.__new__(kind)
    hidden = {name: own for name, own in vars(site.module).items() if name not in values}
    vars(module).update(hidden, _parameters={**site.module._parameters, **values})
    return module


def missing_adapter(site: Site) -> str:
    """The adapter to paste for a module type that has none, as part of a message."""
    kind, shape = module_type(site.module), tuple(site.tensor.shape)
    out_axes, in_axes = ("(0,)", "(1,)") if len(shape) > 1 else ("()", "()")
    return (
        f"Register its axes (in: summed over, out: different outputs, batch: independent):\n\n"
        f"    from fanin.geometry import Layout\n"
        f"    from fanin.model import register_adapter\n\n"
        f"    def {kind.__name__.lower()}_layout(module, name):\n"
        f"        if name == {site.attribute!r}:\n"
        f"            shape = tuple(module.{site.attribute}.shape)  # {shape}\n"
        f"            return Layout(shape, out_axes={out_axes}, in_axes={in_axes}, batch_axes=())\n"
        f"        return None\n\n"
        f"    register_adapter({kind.__name__}, {kind.__name__.lower()}_layout)\n"
    )
