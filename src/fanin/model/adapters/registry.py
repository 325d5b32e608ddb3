"""From a module's type to the axes of its parameters; users register their own types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from fanin.errors import ArgumentError, LayoutError
from fanin.geometry import Layout
from fanin.model.adapters.torch_modules import TORCH_ADAPTERS
from fanin.model.adapters.transformers_modules import transformers_layout
from fanin.model.parametrized.parametrized import parametrized
from fanin.model.site import Site
from fanin.model.types import module_type

__all__ = ["layout_of", "register_adapter"]

# Given the module and the name under which it holds a parameter; None where it does not know it.
Adapter = Callable[[Any, str], Layout | None]

_ADAPTERS: dict[type[nn.Module], Adapter] = dict(TORCH_ADAPTERS)


def register_adapter(kind: type[nn.Module], adapter: Adapter) -> None:
    """State the axes of a module type's parameters; subclasses inherit the statement.

    Args:
        kind: the module type; a second registration replaces the first. The nearest type that
            knows a name is believed, so one for `nn.Module` is asked last of all.
        adapter: called with the module and a parameter's own name (``"weight"``); returns its
            layout, or None for a name it does not know.

    Raises:
        ArgumentError: when ``kind`` is no module type, or the adapter no function.

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
    if not callable(adapter):
        raise ArgumentError(
            "register_adapter: an adapter is called with a module and a parameter's name. Got "
            f"{adapter!r} for {kind.__name__}. Write `lambda module, name: ...`."
        )
    _ADAPTERS[kind] = adapter


def layout_of(site: Site) -> Layout | None:
    """The axes of the parameter at a site, as the nearest type that knows it states them.

    None where no type does, and for a parameter whose shape is not known yet.

    Raises:
        LayoutError: when an adapter raises, or returns something else than a layout or None.
    """
    if site.through is None and is_lazy(site.tensor):
        return None
    kind = module_type(site.module)
    module = site.module if site.through is None else _unparametrized(site, kind)
    for base in kind.__mro__:
        layout = transformers_layout(module, site.attribute) if base is nn.Module else None
        if layout is None and base in _ADAPTERS:
            layout = _asked(base, module, site)
        if layout is not None:
            return layout
    return None


def _asked(kind: type[nn.Module], module: nn.Module, site: Site) -> Layout | None:
    """What the adapter of a type says."""
    try:
        layout = _ADAPTERS[kind](module, site.attribute)
    except Exception as error:
        text = f"{type(error).__name__}: {str(error).rstrip('.')},"
        raise LayoutError(_refusal(text, kind, site)) from error
    if not isinstance(layout, Layout | None):
        raise LayoutError(_refusal(repr(layout), kind, site))
    return layout


def _refusal(got: str, kind: type[nn.Module], site: Site) -> str:
    return (
        "layout_of: an adapter returns a Layout, or None for a name that it does not know. Got "
        f"{got} for {site.name!r} of shape {tuple(site.shape)}. Correct the adapter of "
        f"{kind.__name__}, or register one for the class itself."
    )


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
