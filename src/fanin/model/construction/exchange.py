"""A parameter takes over another tensor's memory, and nobody who holds the parameter notices."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["attach_hooks", "is_in_use", "take_over"]


def take_over(holder: Tensor, tensor: Tensor) -> None:
    """Give a tensor the memory, shape, dtype and device of another one, which is used up by it.

    The Python object stays: ties, attributes, optimizers, weak references, ``requires_grad`` and
    hooks with it.
    """
    tensor.requires_grad_(holder.requires_grad)
    # Private: the public torch.utils.swap_tensors wraps this very call, refuses a tensor that
    # anything refers to weakly, and exchanges class and attributes, which are to stay here.
    torch._C._swap_tensor_impl(holder, tensor)
    attach_hooks(holder)


def attach_hooks(tensor: Tensor) -> None:
    """Make the hooks that a tensor lists fire again.

    Python lists them on the object, autograd on the memory's side, which was exchanged. Assigning
    the list registers it there; torch has no public name for either.
    """
    tensor._backward_hooks = tensor._backward_hooks
    tensor._post_accumulate_grad_hooks = tensor._post_accumulate_grad_hooks


def is_in_use(tensor: Tensor) -> bool:
    """Whether autograd refers to what the tensor is now: by a graph, or by a hook on its node.

    Private: nothing public tells. It is what torch.utils.swap_tensors checks.
    """
    private: Any = tensor
    return bool(private._use_count() > 1)
