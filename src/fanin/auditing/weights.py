"""`Weight`: what an audit knows of one parameter or buffer, read once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, nn

from fanin.auditing.numbers import Numbers, numbers_of
from fanin.auditing.unwritten import Traces, traces_of
from fanin.errors import LayoutError
from fanin.geometry import Layout
from fanin.model import Entry, Site, layout_of, module_type

__all__ = ["Weight", "weight_of"]


@dataclass(frozen=True, eq=False)
class Weight:
    """A parameter, or a buffer, and the numbers in it.

    Args:
        name: canonical; the owner's, for tied ones.
        aliases: its other names.
        tensor: detached; of a parametrized weight, the value.
        numbers: of all of it.
        site: where it hangs; None for a tensor of a checkpoint that was read without its model.
        layout: None where no adapter knows the axes.
        parts: name, layout and numbers of the parts that are packed in it (q, k, v; gates).
    """

    name: str
    aliases: tuple[str, ...]
    tensor: Tensor
    numbers: Numbers
    site: Site | None = None
    layout: Layout | None = None
    parts: tuple[tuple[str, Layout, Numbers], ...] = ()

    @property
    def module(self) -> nn.Module | None:
        """The module whose parameter it is."""
        return self.site.module if self.site is not None else None

    @property
    def kind(self) -> type[nn.Module] | None:
        """That module's class, as it was before wrappers and parametrizations."""
        return module_type(self.site.module) if self.site is not None else None

    @property
    def attribute(self) -> str:
        """Its own name in its module: ``"weight"``."""
        return self.name.rpartition(".")[2]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor."""
        return tuple(self.tensor.shape)

    @property
    def is_matrix(self) -> bool:
        """Whether it has in and out axes: outputs are sums over inputs, or rows of a table."""
        layout = self.layout
        return layout is not None and bool(layout.in_axes and layout.out_axes)

    @property
    def is_lookup(self) -> bool:
        """Whether it is the table of an embedding."""
        return self.layout is not None and self.layout.is_lookup

    @cached_property
    def traces(self) -> Traces | None:
        """Signs that nobody wrote it; every check that takes its values for meant asks."""
        return traces_of(self.tensor, self.numbers)

    def pieces(self) -> Iterator[tuple[str, Layout | None, Numbers]]:
        """Its parts, each under a name of its own; itself, where nothing is packed."""
        if not self.parts:
            yield self.name, self.layout, self.numbers
        for part, layout, numbers in self.parts:
            yield f"{self.name}[{part}]", layout, numbers


def weight_of(entry: Entry) -> Weight:
    """Read a parameter that has memory."""
    site = entry.owner
    tensor = entry.tensor.detach()
    try:
        layout = layout_of(site)
    except LayoutError:  # of an adapter of the user's; a plan would say so
        layout = None
    if layout is not None and layout.shape != tuple(tensor.shape):
        layout = None
    parts = layout.split() if layout is not None else ()
    return Weight(
        site.name,
        entry.aliases,
        tensor,
        numbers_of(tensor),
        site,
        layout,
        tuple(
            (part, own, numbers_of(tensor.narrow(layout.part_dim, start, stop - start)))
            for part, start, stop, own in parts
            if layout is not None
        ),
    )
