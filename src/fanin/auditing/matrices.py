"""`Matrix`: a weight, or a packed part of one, as a stack of matrices that are read in places."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fanin.auditing.numbers import Numbers
from fanin.auditing.weights import Weight
from fanin.geometry import Layout

__all__ = ["Matrix", "matrices"]


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """A stack of matrices (out, in · kernel): one, or one for each group or batch index.

    Args:
        name: of the weight, and of the part in brackets.
        weight: that it is of.
        tensor: of the part.
        layout: of the part.
        numbers: in it.
    """

    name: str
    weight: Weight
    tensor: Tensor
    layout: Layout
    numbers: Numbers

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many matrices, and how many rows and columns each has."""
        batch, rows, columns = (math.prod(sizes) for sizes in self._sizes(self._view()))
        return batch, rows, columns

    def entries(self, batch: Tensor | int, rows: Tensor, columns: Tensor) -> Tensor:
        """The entries at these indices, which are broadcast against each other."""
        view = self._view()
        index: list[Tensor] = []
        chosen = (torch.as_tensor(batch), rows, columns)
        for places, sizes in zip(chosen, self._sizes(view), strict=True):
            index += _unravelled(places.to(view.device), sizes)
        return view[tuple(index)]

    def _view(self) -> Tensor:
        order = self.layout.matrix
        tensor = self.tensor
        if order.groups > 1:
            tensor = tensor.reshape(order.groups, -1, *tensor.shape[1:])
        return tensor.permute(order.dims)

    def _sizes(self, view: Tensor) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        shape, order = tuple(view.shape), self.layout.matrix
        rows = order.num_batch + order.num_out
        return shape[: order.num_batch], shape[order.num_batch : rows], shape[rows:]


def matrices(weight: Weight) -> Iterator[Matrix]:
    """The stacks of matrices in a weight; none in a table, and where axes are unknown."""
    layout = weight.layout
    if layout is None or not weight.is_matrix or weight.is_lookup:
        return
    if not weight.parts:
        yield Matrix(weight.name, weight, weight.tensor, layout, weight.numbers)
        return
    for (part, own, numbers), (_, start, stop, _) in zip(weight.parts, layout.split(), strict=True):
        tensor = weight.tensor.narrow(layout.part_dim, start, stop - start)
        yield Matrix(f"{weight.name}[{part}]", weight, tensor, own, numbers)


def _unravelled(places: Tensor, sizes: tuple[int, ...]) -> list[Tensor]:
    """Flat places as an index for each dim."""
    index = []
    for size in reversed(sizes):
        index.append(places % size)
        places = places // size
    return index[::-1]
