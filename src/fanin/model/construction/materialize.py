"""Memory for parameters on the meta device, under everything that already refers to them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass  # it has no other home

from fanin.errors import ArgumentError, PlanError
from fanin.geometry import is_dtensor
from fanin.model.construction.computed import follow_value
from fanin.model.construction.conversion import converted_dtype
from fanin.model.construction.deferred import asked_device, forget_device
from fanin.model.construction.exchange import attach_hooks, is_in_use, take_over
from fanin.model.construction.fsdp2 import check_not_settled
from fanin.model.construction.pages import advise_large_pages
from fanin.model.view import buffers as buffer_sites

__all__ = ["materialize"]


def materialize(
    model: nn.Module,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    buffers: Collection[str] = (),
) -> None:
    """Give memory to the parameters of a model that are on the meta device.

    Their values are whatever the memory held: initialize them. Each parameter stays the object it
    was, so ties, optimizers, hooks, attributes and weak references hold. All else moves as by
    ``model.to(device, dtype)``. DTensors get the memory of their shard.

    Args:
        model: any module; one without meta parameters is only moved.
        device: for everything. None: meta parameters go where their constructor asked for them
            under `fanin.deferred`, or to torch's default device; the rest stays.
        dtype: of floating-point tensors, and where it is complex of complex ones; None keeps
            theirs.
        buffers: canonical names of meta buffers that will be written, and so get memory too.

    Raises:
        ArgumentError: for the meta device, or a dtype that is neither floating-point nor complex.
        PlanError: for other meta buffers; and for meta parameters that share memory, have a
            gradient, or are held by a graph or by a hook on their gradient's node; and for an
            FSDP2 model that has run and would get another dtype or device. Nothing has changed
            then.

    Example:
        >>> from fanin.model.construction.deferred import deferred
        >>> with deferred():
        ...     layer = nn.Linear(3, 2)
        >>> weight = layer.weight
        >>> materialize(layer, dtype=torch.bfloat16)
        >>> layer.weight is weight, weight.device, weight.dtype
        (True, device(type='cpu'), torch.bfloat16)
    """
    place = None if device is None else torch.device(device)
    _check_arguments(place, dtype)
    check_not_settled(model, device=place, dtype=dtype)
    move = _Move(place, dtype)
    move.pending = _pending_buffers(model, buffers) | _pending_parameters(model)
    if not (move.pending or place or dtype):
        return
    # Private, and the one method that modules override to learn of new memory: RNNs, FSDP.
    apply: Callable[[_Move], nn.Module] = model._apply
    with _in_place_conversion():
        apply(move)
    for wrapper, attributes in move.wrappers:
        for key in attributes.keys() - wrapper.__dict__.keys():
            wrapper.__dict__[key] = attributes[key]
        attach_hooks(wrapper)


def _pending_parameters(model: nn.Module) -> dict[int, Tensor]:
    """The meta parameters by id, after every reason not to exchange one of them."""
    found: dict[int, Tensor] = {}
    behind = _behind_results(model)
    seen: dict[torch.UntypedStorage, str] = {}
    for name, parameter in model.named_parameters():
        if parameter.device.type != "meta":
            continue
        found[id(parameter)] = parameter
        if nn.parameter.is_lazy(parameter):
            continue
        if parameter.grad is not None or (is_in_use(parameter) and id(parameter) not in behind):
            raise PlanError(
                "materialize: a parameter gets its memory before its first forward. Got a "
                f"gradient, a graph or a hook on its gradient's node for {name!r}. Delete what a "
                "forward returned, set gradients to None, and register such hooks afterwards."
            )
        if not is_traceable_wrapper_subclass(parameter) and parameter.layout == torch.strided:
            other = seen.setdefault(parameter.untyped_storage(), name)
            if other != name:
                raise PlanError(
                    "materialize: each parameter has memory of its own. Got the same for "
                    f"{other!r} and {name!r}. Register one Parameter under both names to tie them."
                )
    return found


def _behind_results(model: nn.Module) -> set[int]:
    """The ids of parameters of modules that hold a result with its graph in a plain attribute.

    The older `torch.nn.utils.weight_norm` keeps the weight so, and makes it anew at each forward.
    """
    return {
        id(parameter)
        for module in model.modules()
        if any(isinstance(value, Tensor) and not value.is_leaf for value in vars(module).values())
        for parameter in module.parameters(recurse=False)
    }


def _pending_buffers(model: nn.Module, named: Collection[str]) -> dict[int, Tensor]:
    """The meta buffers by id; all of them are named."""
    sites = [site for site in buffer_sites(model) if site.tensor.device.type == "meta"]
    unnamed = [
        site.name
        for site in sites
        if site.name not in named and not nn.parameter.is_lazy(site.tensor)
    ]
    if unnamed:
        raise PlanError(
            "materialize: a buffer has values that only its constructor knows. Got buffers on the "
            f"meta device: {', '.join(map(repr, unnamed))}. Build the model under fanin.deferred() "
            "instead of torch.device('meta'): it leaves buffers real."
        )
    return {id(site.tensor): site.tensor for site in sites}


@contextmanager
def _in_place_conversion() -> Iterator[None]:
    """`nn.Module._apply` as torch ships it: it assigns to ``.data``, whatever a user has set."""
    future = torch.__future__
    swaps = future.get_swap_module_params_on_conversion()
    overwrites = future.get_overwrite_module_params_on_conversion()
    future.set_swap_module_params_on_conversion(False)
    future.set_overwrite_module_params_on_conversion(False)
    try:
        yield
    finally:
        future.set_swap_module_params_on_conversion(swaps)
        future.set_overwrite_module_params_on_conversion(overwrites)


@dataclass
class _Move:
    """What happens to each tensor of a model, in the form that `nn.Module._apply` calls."""

    device: torch.device | None
    dtype: torch.dtype | None
    pending: dict[int, Tensor] = field(default_factory=dict)  # by id: what is to get memory
    wrappers: list[tuple[Tensor, dict[str, object]]] = field(default_factory=list)

    def __call__(self, tensor: Tensor) -> Tensor:
        is_wrapper = is_traceable_wrapper_subclass(tensor)
        if is_wrapper:  # _apply exchanges these, attributes and all
            self.wrappers.append((tensor, dict(tensor.__dict__)))
        if tensor.device.type != "meta":
            dtype = converted_dtype(tensor.dtype, self.dtype)
            moved = tensor.to(self.device, dtype) if self.device or self.dtype else tensor
            if not is_wrapper or is_dtensor(tensor):
                follow_value(tensor, moved)
            return moved
        if id(tensor) not in self.pending:
            return tensor  # an attribute that its module hands to _apply: not ours to fill
        if is_wrapper:
            return self._memory(tensor)
        take_over(tensor, self._memory(tensor))
        forget_device(tensor)
        return tensor

    def _memory(self, tensor: Tensor) -> Tensor:
        dtype = converted_dtype(tensor.dtype, self.dtype)
        device = self.device or asked_device(tensor) or _default_device(tensor)
        if nn.parameter.is_lazy(tensor):
            return torch.empty(0, dtype=dtype, device=device)
        memory = torch.empty_like(tensor, dtype=dtype, device=device, requires_grad=False)
        if not is_traceable_wrapper_subclass(memory):
            advise_large_pages(memory)
        return memory


def _default_device(tensor: Tensor) -> torch.device:
    """Where a tensor goes that nobody placed; a DTensor has stated it by its mesh."""
    mesh = getattr(tensor, "device_mesh", None)
    return torch.get_default_device() if mesh is None else torch.device(mesh.device_type)


def _check_arguments(device: torch.device | None, dtype: torch.dtype | None) -> None:
    if (device or torch.get_default_device()).type == "meta":
        raise ArgumentError(
            "materialize: memory is on a real device. Got the meta device, asked for or as torch's "
            "default. Pass another one, outside of torch.device('meta')."
        )
    if dtype is not None and not (dtype.is_floating_point or dtype.is_complex):
        raise ArgumentError(
            f"materialize: parameters hold floating-point or complex numbers. Got {dtype}. "
            "Pass a dtype such as torch.bfloat16, or None."
        )
