"""Writes through a view, which change the tensor that it is a view of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from fanin.flow.graph import Operation

__all__ = ["View", "base_of", "view_by", "with_part"]


class View(NamedTuple):
    """How one tensor looks at another: a function, its other arguments, which of its results."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    position: int

    def __call__(self, tensor: Tensor) -> Tensor:
        """The view of a tensor."""
        result = self.function(tensor, *self.args, **self.kwargs)
        made: Tensor = result if isinstance(result, Tensor) else result[self.position]
        return made


def base_of(tensor: Tensor) -> Tensor | None:
    """The tensor that a view looks at in the end; None for one that is no view.

    Private: torch has no public name for it, and tensors without memory no address to compare.
    """
    return tensor._base


def view_by(operation: Operation, position: int) -> View | None:
    """The view that an operation makes; None where it takes other tensors besides."""
    if len(operation.inputs) != 1 or operation.args[:1] != operation.inputs:
        return None
    return View(operation.function, operation.args[1:], operation.kwargs, position)


def with_part(views: tuple[View, ...], whole: Tensor, part: Tensor) -> Tensor:
    """A copy of a tensor in which what a chain of views shows is another one."""
    copy = whole.clone()
    shown = copy
    for view in views:
        shown = view(shown)
    shown.copy_(part)
    return copy
