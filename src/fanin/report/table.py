"""A table is data; it is drawn as plain text, or by rich on a terminal of any width."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from fanin.errors import ArgumentError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Column", "Table"]

_GAP = 2  # spaces between columns


@dataclass(frozen=True, slots=True)
class Column:
    """A heading, how its cells are aligned, and whether a narrow terminal may lack it."""

    name: str
    align: Literal["left", "right"] = "left"
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under columns.

    ``str(table)`` is plain text of its natural width: one line a row, for logs and pipes.

    Args:
        columns: headings; a plain string is a left-aligned one.
        rows: one text for each column.
        title: a line above the table.
        caption: lines below it.

    Raises:
        ArgumentError: when a row has not one cell for each column.

    Example:
        >>> print(Table(("name", Column("std", "right")), (("weight", "0.1"), ("bias", "0"))))
        name    std
        ------  ---
        weight  0.1
        bias      0
    """

    columns: tuple[Column | str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""
    caption: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ArgumentError(
                    f"Table: a row has one cell for each column. Got {len(row)} cells for "
                    f"{len(self.columns)} columns in {row}."
                )

    def __str__(self) -> str:
        columns, widths = self._columns(), self._widths()
        head = _line([column.name for column in columns], columns, widths)
        rule = (" " * _GAP).join("-" * width for width in widths)
        body = [_line(row, columns, widths) for row in self.rows]
        above = [self.title] if self.title else []
        below = ["", self.caption] if self.caption else []
        return "\n".join([*above, head, rule, *body, *below])

    def print(self, console: Console) -> None:
        """Draw on a rich console: styled and fitted on a terminal, plain text elsewhere.

        On a narrow terminal columns move closer, then optional ones go, from the right; where
        that is not enough cells wrap.
        """
        if not console.is_terminal:
            console.file.write(f"{self}\n")
            return
        from rich.table import Table as RichTable
        from rich.text import Text

        gap, shown = self._fitting(console.width)
        drawn = RichTable(
            box=None,
            pad_edge=False,
            padding=(0, gap, 0, 0),
            header_style="bold",
            title=self.title or None,
            title_justify="left",
            title_style="bold",
            caption=f"\n{self.caption}" if self.caption else None,
            caption_justify="left",
            caption_style="",
        )
        for i in shown:
            column = self._columns()[i]
            drawn.add_column(column.name, justify=column.align, overflow="fold")
        for row in self.rows:
            drawn.add_row(*(Text(row[i]) for i in shown))
        console.print(drawn)

    def _columns(self) -> list[Column]:
        return [Column(column) if isinstance(column, str) else column for column in self.columns]

    def _widths(self) -> list[int]:
        names = [column.name for column in self._columns()]
        return [max(map(len, cells)) for cells in zip(names, *self.rows, strict=True)]

    def _fitting(self, width: int) -> tuple[int, list[int]]:
        """The gap between columns, and which to show, on a terminal of this width."""
        widths = self._widths()
        shown = list(range(len(widths)))
        optional = [i for i, column in enumerate(self._columns()) if column.optional]
        while True:
            for gap in range(_GAP, 0, -1):
                if sum(widths[i] + gap for i in shown) - gap <= width:
                    return gap, shown
            if not optional:
                return 1, shown
            shown.remove(optional.pop())


def _line(cells: list[str] | tuple[str, ...], columns: list[Column], widths: list[int]) -> str:
    padded = [
        cell.rjust(width) if column.align == "right" else cell.ljust(width)
        for cell, column, width in zip(cells, columns, widths, strict=True)
    ]
    return (" " * _GAP).join(padded).rstrip()
