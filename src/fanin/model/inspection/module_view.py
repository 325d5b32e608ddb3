"""What one module and one tensor look like from outside: data, without the tensors themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["ModuleView", "TensorView"]


@dataclass(frozen=True, slots=True)
class TensorView:
    """A parameter or a buffer at one of its places.

    Args:
        name: canonical name.
        label: its own name in its module.
        shape: of the logical tensor; None before a lazy module has seen an input.
        dtype: ``"float32"``.
        device: ``"cpu"``, ``"cuda:0"``, ``"meta"``.
        is_buffer: whether it is no parameter but a buffer.
        is_saved: whether `state_dict` holds it.
        requires_grad: whether autograd computes its gradient; False for a frozen parameter.
        has_grad: whether a gradient is there.
        tied_to: the name that owns the same tensor; empty for the owner.
        numel: elements that are stored; for a parametrized weight those it is computed from.
        num_bytes: their size in memory.
        computed_from: for a parametrized weight, what it is computed from and with which shapes.
        hooks: names of the functions that hang on the tensor.
    """

    name: str
    label: str
    shape: tuple[int, ...] | None
    dtype: str
    device: str
    is_buffer: bool
    is_saved: bool
    requires_grad: bool
    has_grad: bool
    tied_to: str
    numel: int
    num_bytes: int
    computed_from: tuple[tuple[str, tuple[int, ...]], ...] = ()
    hooks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModuleView:
    """A module at one of its places, and all that is registered in it.

    Args:
        name: canonical name; empty for the root.
        label: its own name in its parent.
        type_name: its class.
        tensors: its own parameters, then its own buffers.
        modules: the modules below it.
        hooks: by kind (``"forward hooks"``), the names of the functions; only kinds it has.
        same_as: the name under which the same module came before; empty for the first place.
    """

    name: str
    label: str
    type_name: str
    tensors: tuple[TensorView, ...] = ()
    modules: tuple[ModuleView, ...] = ()
    hooks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    same_as: str = ""

    def walk(self) -> Iterator[ModuleView]:
        """This module and all below it, in registration order."""
        yield self
        for module in self.modules:
            yield from module.walk()

    def all_tensors(self) -> Iterator[TensorView]:
        """Its tensors and those of all modules below it."""
        for module in self.walk():
            yield from module.tensors
