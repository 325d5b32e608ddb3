"""One walk over a model that notes everything registered in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin

from fanin.model.inspection.module_view import ModuleView, TensorView
from fanin.model.site import Site
from fanin.model.types import module_type
from fanin.model.view import buffers, identity, sites
from fanin.model.wrappers import wrapped_attribute

__all__ = ["collect"]

# The attribute of a module, and what its functions are called here, in the order they run.
_HOOKS = {
    "_forward_pre_hooks": "forward pre-hooks",
    "_forward_hooks": "forward hooks",
    "_backward_pre_hooks": "backward pre-hooks",
    "_backward_hooks": "backward hooks",
    "_state_dict_pre_hooks": "state_dict pre-hooks",
    "_state_dict_hooks": "state_dict hooks",
    "_load_state_dict_pre_hooks": "load_state_dict pre-hooks",
    "_load_state_dict_post_hooks": "load_state_dict post-hooks",
}


def collect(model: nn.Module) -> ModuleView:
    """The view of a model and of all below it; what is met again refers to its first place."""
    return _Collection(model).root


class _Collection:
    """One walk over a model, which knows what it has met before."""

    def __init__(self, model: nn.Module) -> None:
        self._held: dict[tuple[int, str], list[Site]] = {}
        for site in (*sites(model), *buffers(model)):
            prefix = site.name.removesuffix(site.attribute)
            self._held.setdefault((id(site.module), prefix), []).append(site)
        self._owner: dict[object, str] = {}
        self._first: dict[int, str] = {}
        self.root = self._module(model, "", "(model)", ())

    def _module(
        self, module: nn.Module, name: str, label: str, parents: tuple[nn.Module, ...]
    ) -> ModuleView:
        """The view of a module at one place; of one inside itself, only that it is."""
        place = name or "(model)"
        first = self._first.setdefault(id(module), place)
        view = ModuleView(
            name=name,
            label=label,
            type_name=_type_name(module),
            hooks=_hooks(module),
            same_as=first if first != place else "",
        )
        if any(module is parent for parent in parents):
            return view
        prefix = f"{name}." if name else ""
        held = self._held.get((id(module), prefix), [])
        children = self._children(module, name, prefix, (*parents, module))
        return replace(
            view, tensors=tuple([self._tensor(site) for site in held]), modules=tuple(children)
        )

    def _children(
        self, module: nn.Module, name: str, prefix: str, parents: tuple[nn.Module, ...]
    ) -> Iterator[ModuleView]:
        wrapped = wrapped_attribute(module)
        for attribute, child in module._modules.items():
            if child is None:
                continue
            if attribute == wrapped:
                yield self._module(child, name, "(module)", parents)
            else:
                yield self._module(child, prefix + attribute, attribute, parents)

    def _tensor(self, site: Site) -> TensorView:
        tensor = site.tensor
        originals = site.through.originals if site.through is not None else ()
        stored: list[torch.Tensor] = [part for _, part in originals] or [tensor]
        is_lazy = nn.parameter.is_lazy(tensor)
        owner = self._owner.setdefault(identity(site), site.name)
        return TensorView(
            name=site.name,
            label=site.attribute,
            shape=None if is_lazy else tuple(tensor.shape),
            dtype=str(tensor.dtype).removeprefix("torch."),
            device=str(tensor.device),
            is_buffer=site.is_buffer,
            is_saved=bool(site.stored),
            requires_grad=any(part.requires_grad for part in stored),
            has_grad=any(part.is_leaf and part.grad is not None for part in stored),
            tied_to=owner if owner != site.name else "",
            numel=0 if is_lazy else sum(part.numel() for part in stored),
            num_bytes=0 if is_lazy else sum(part.numel() * part.element_size() for part in stored),
            computed_from=tuple((name, tuple(part.shape)) for name, part in originals),
            hooks=tuple([name for part in stored for name in _tensor_hooks(part)]),
        )


def _type_name(module: nn.Module) -> str:
    """The class that a user wrote; a lazy module is called lazy while it is."""
    is_lazy = isinstance(module, LazyModuleMixin)
    return type(module).__name__ if is_lazy else module_type(module).__name__


def _hooks(module: nn.Module) -> dict[str, tuple[str, ...]]:
    registered = {kind: getattr(module, attribute, None) for attribute, kind in _HOOKS.items()}
    return {
        kind: tuple(_function_name(hook) for hook in hooks.values())
        for kind, hooks in registered.items()
        if hooks
    }


def _tensor_hooks(tensor: torch.Tensor) -> Iterator[str]:
    for attribute in ("_backward_hooks", "_post_accumulate_grad_hooks"):
        for hook in (getattr(tensor, attribute, None) or {}).values():
            yield _function_name(hook)


def _function_name(hook: Any) -> str:
    """The name of a function or method, of what a partial calls, else the class of an object."""
    hook = getattr(hook, "hook", hook)  # torch wraps those of load_state_dict
    function = getattr(hook, "func", hook)
    return str(getattr(function, "__name__", type(function).__name__))
