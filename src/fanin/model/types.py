"""The class of a module as its author wrote it."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin

__all__ = ["module_type"]

# torch gives an instance a class made for the occasion, called after the one it had: by
# `register_parametrization`, by FSDP2's `fully_shard` and by its `replicate`.
_MADE = ("Parametrized", "FSDP", "Replicate")


def module_type(module: nn.Module) -> type[nn.Module]:
    """The class that a user wrote, without what torch makes of it at run time.

    A parametrized or sharded `nn.Linear` counts as one, and a lazy module as what it becomes.

    Example:
        >>> module = nn.utils.parametrizations.weight_norm(nn.Linear(2, 3))
        >>> type(module).__name__, module_type(module).__name__
        ('ParametrizedLinear', 'Linear')
        >>> module_type(nn.LazyLinear(3)).__name__
        'Linear'
    """
    kind: type[Any] = type(module)
    while kind.__name__.startswith(_MADE) and _is_made(kind):
        kind = kind.__bases__[-1]
    becomes = kind.cls_to_become if issubclass(kind, LazyModuleMixin) else None
    return becomes or kind


def _is_made(kind: type) -> bool:
    """Whether torch made the class: in its own namespace, and called after the last base."""
    is_named_after = kind.__name__.removesuffix(kind.__bases__[-1].__name__) in _MADE
    return is_named_after and kind.__module__.startswith("torch.")
