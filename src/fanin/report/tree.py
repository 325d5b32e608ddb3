"""A tree is data too; it is drawn as a table whose first column has the branches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fanin.report.table import Column, Table

__all__ = ["Branch", "tree_table"]


@dataclass(frozen=True, slots=True)
class Branch:
    """A label, the cells beside it, and the branches below it."""

    label: str
    cells: tuple[str, ...]
    below: tuple[Branch, ...] = ()


def tree_table(root: Branch, columns: tuple[Column | str, ...], *, caption: str = "") -> Table:
    """The tree as a table: a row for each branch, the guide lines in the first column.

    Args:
        root: the topmost branch.
        columns: headings, the first for the labels.
        caption: lines below the table.

    Raises:
        ArgumentError: when a branch has not one cell for each column after the first.

    Example:
        >>> root = Branch("a", ("1",), (Branch("b", ("2",)), Branch("c", ("3",))))
        >>> print(tree_table(root, ("name", "size")))
        name  size
        ----  ----
        a     1
        ├─ b  2
        └─ c  3
    """
    return Table(columns, tuple(_rows(root, "", "")), caption=caption)


def _rows(branch: Branch, guide: str, guide_below: str) -> Iterator[tuple[str, ...]]:
    """The row of a branch after its guide, then those below, whose guides begin alike."""
    yield (guide + branch.label, *branch.cells)
    for i, child in enumerate(branch.below):
        last = i == len(branch.below) - 1
        bend, line = ("└─ ", "   ") if last else ("├─ ", "│  ")
        yield from _rows(child, guide_below + bend, guide_below + line)
