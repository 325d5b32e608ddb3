"""Parameters that a constructor gave a value, and whether that value is still there.

Under `fanin.deferred` such a parameter gets a mark. A mark outlasts its value: ``to_empty`` leaves
the parameter, with its attributes, and exchanges the memory under it, just as ``.to(device)`` does.
So the storages are known in which a value was met; in any other one a sample of the numbers tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from fanin.errors import ArgumentError
from fanin.geometry import Region, is_dtensor, local_tensor, partition
from fanin.model.construction.fsdp2 import is_fully_sharded

__all__ = [
    "follow_value",
    "is_computed",
    "is_computed_at",
    "is_lost_at",
    "mark_computed",
    "remember_value",
]


def is_computed(tensor: Tensor) -> bool:
    """Whether a parameter was built under `fanin.deferred` with a value of its own.

    `copy.deepcopy` drops the mark, as it drops every attribute of a parameter.

    Example:
        >>> from fanin import deferred
        >>> with deferred():
        ...     scale = nn.ParameterList([nn.Parameter(torch.ones(3))])
        >>> is_computed(scale[0]), is_computed(nn.Parameter(torch.ones(3)))
        (True, False)
    """
    return bool(getattr(tensor, _MARK, False))


def is_computed_at(parents: Sequence[nn.Module], name: str) -> bool:
    """Whether a parameter was built under `fanin.deferred` with a value, sharded or not.

    ``fully_shard``, ``parallelize_module`` and ``distribute_tensor`` make other parameters, with
    the same values. So a DTensor in the place of a parameter with the mark has it too, and what
    FSDP2 gathers there for a while.

    Args:
        parents: the modules from the model down to the one whose parameter it is.
        name: under which this one has it.

    Example:
        >>> from fanin import deferred
        >>> with deferred():
        ...     table = nn.Embedding.from_pretrained(torch.ones(3, 2))
        >>> is_computed_at((table,), "weight")
        True
    """
    module = parents[-1]
    tensor = module._parameters.get(name)
    if tensor is None or is_computed(tensor):
        return tensor is not None
    return (
        name in _MARKED_IN.get(module, ())
        and not tensor.is_meta
        and (is_dtensor(tensor) or any(map(is_fully_sharded, parents)))
    )


def is_lost_at(module: nn.Module, name: str) -> bool:
    """Whether a parameter of which `is_computed_at` holds has other memory, with other numbers.

    What was written in place is not lost, nor what ``.to`` or sharding copied; both, one after the
    other, count as lost. torch exchanges memory in one way for ``.to`` and for ``to_empty``, the
    count of writes being the same after both, and garbage that was kept would never be noticed.
    A process that holds none of the sampled elements cannot tell, and takes the value to be there.

    Example:
        >>> from fanin import deferred
        >>> with deferred():
        ...     table = nn.Embedding.from_pretrained(torch.ones(3, 2))
        >>> is_lost_at(table.double(), "weight")
        False
        >>> table.weight.data = torch.zeros(3, 2)  # as to_empty does
        >>> is_lost_at(table, "weight")
        True
    """
    tensor = module._parameters.get(name)
    if tensor is None or tensor.is_meta or not (is_computed(tensor) or is_dtensor(tensor)):
        return False  # what FSDP2 has gathered is gone when it shards again
    sample = getattr(tensor, _SAMPLE, None) or _MARKED_IN.get(module, {}).get(name)
    if sample is None or partition(tensor) is not None:
        return False
    try:
        region = Region.of(tensor)
        local = local_tensor(tensor, region.local_shape).detach()
    except ArgumentError:
        return False  # for who wants to write it, to refuse in words of his own
    storage = local.untyped_storage()
    if storage in _HOMES or not storage.nbytes():
        return False
    if not _is_there(sample, region, local):
        return True
    _HOMES.add(storage)
    return False


def mark_computed(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
    """Mark a parameter of a module, and the place it has there."""
    setattr(parameter, _MARK, True)
    _MARKED_IN.setdefault(module, {}).setdefault(name, None)


def remember_value(module: nn.Module, name: str) -> None:
    """Take the present value of a marked parameter for what its constructor made of it."""
    parameter = module._parameters.get(name)
    if parameter is None or not is_computed(parameter) or parameter.is_meta:
        return
    sample = _sampled(parameter.detach())
    setattr(parameter, _SAMPLE, sample)
    _MARKED_IN.setdefault(module, {})[name] = sample
    _HOMES.add(parameter.untyped_storage())


def follow_value(tensor: Tensor, moved: Tensor) -> None:
    """Say that one tensor has the value of another one, which was perhaps written since."""
    if is_lazy(tensor) or tensor.layout != torch.strided or moved.layout != torch.strided:
        return
    if is_dtensor(tensor):
        tensor, moved = (local_tensor(each.detach()) for each in (tensor, moved))
    if tensor.untyped_storage() in _HOMES:
        _HOMES.add(moved.untyped_storage())


# The shape, row-major indices into it, and the numbers there in double precision; in types that
# torch.load takes without unpickling code, for they go where the parameter goes.
_Sample: TypeAlias = tuple[tuple[int, ...], Tensor, Tensor]

_MARK, _SAMPLE = "_fanin_computed", "_fanin_sample"
# The names of parameters with a mark, for what takes their place when they are sharded.
_MARKED_IN: WeakKeyDictionary[nn.Module, dict[str, _Sample | None]] = WeakKeyDictionary()
# Compared by identity: torch keeps one Python object for each as long as it lives.
_HOMES: WeakSet[torch.UntypedStorage] = WeakSet()

_SPREAD = 128  # elements at even distances, the first and the last among them
# Stretches of which the largest element is taken too: new memory is often zero, as most of an
# identity matrix is. And elements that are compared at a time, in 8 MiB.
_STRETCHES, _PIECE = 16, 2**20
# One number rounded to any dtype in between: the coarsest, float8_e5m2, has 2 bits after the first.
_ROUNDING = 2.0**-3


def _sampled(value: Tensor) -> _Sample:
    flat = value.reshape(-1)
    count = len(flat)
    spread = torch.arange(min(count, _SPREAD), device="cpu")
    places = (spread * (count - 1) // max(1, len(spread) - 1)).tolist()
    step = max(1, min(_PIECE, -(-count // _STRETCHES)))
    for start in range(0, count, step):
        places.append(start + int(_wide(flat[start : start + step]).abs().argmax()))
    indices = torch.tensor(sorted({*places}), dtype=torch.int64, device="cpu")
    return tuple(value.shape), indices, _wide(flat[indices.to(flat.device)]).cpu()


def _is_there(sample: _Sample, region: Region, local: Tensor) -> bool:
    """Whether the held part of a parameter has the numbers, rounded perhaps to another dtype."""
    shape, indices, numbers = sample
    if region.shape != shape:
        return False
    is_held = torch.ones(len(indices), dtype=torch.bool, device="cpu")
    places = []
    for dim, index in enumerate(torch.unravel_index(indices, shape)):
        place = torch.full((shape[dim],), -1, device="cpu")
        place[region.indices(dim)] = torch.arange(region.local_shape[dim], device="cpu")
        places.append(place[index])
        is_held &= places[-1] >= 0
    if not is_held.any():
        return True
    held = local[tuple(place[is_held].to(local.device) for place in places)].reshape(-1)
    expected = _wide(numbers[is_held].to(local.dtype))
    return torch.allclose(_wide(held).cpu(), expected, rtol=_ROUNDING, atol=0, equal_nan=True)


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)
