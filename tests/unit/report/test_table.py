from __future__ import annotations

import io

import pytest
from rich.console import Console

from fanin.errors import ArgumentError
from fanin.report import Column, Table

TABLE = Table(
    ("name", Column("std", "right"), Column("rule", optional=True)),
    (("features.0.weight", "0.07", "conv weight"), ("b", "0", "conv bias")),
    caption="tied: a = b",
)


def drawn(table: Table, *, width: int, terminal: bool = True, **options: bool) -> str:
    file = io.StringIO()
    table.print(Console(file=file, width=width, force_terminal=terminal, **options))
    return file.getvalue()


def test_text_has_a_line_a_row_and_aligned_columns() -> None:
    assert str(TABLE).splitlines() == [
        "name                std  rule",
        "-----------------  ----  -----------",
        "features.0.weight  0.07  conv weight",
        "b                     0  conv bias",
        "",
        "tied: a = b",
    ]


def test_a_pipe_gets_plain_text_of_any_width() -> None:
    assert drawn(TABLE, width=10, terminal=False) == f"{TABLE}\n"


@pytest.mark.parametrize("width", [12, 24, 30, 80])
def test_a_terminal_gets_lines_no_wider_than_it_is(width: int) -> None:
    lines = drawn(TABLE, width=width, no_color=True, color_system=None).splitlines()
    assert max(map(len, lines)) <= width


def test_optional_columns_go_before_cells_wrap() -> None:
    assert "rule" not in drawn(TABLE, width=24)
    assert "features.0.weight" in drawn(TABLE, width=24)
    assert "conv weight" in drawn(TABLE, width=80)


def test_square_brackets_are_text() -> None:
    table = Table(("name",), (("[bold]",),))
    assert "[bold]" in drawn(table, width=80)


def test_a_ragged_row_is_refused() -> None:
    with pytest.raises(ArgumentError, match="one cell for each column"):
        Table(("a", "b"), (("1",),))


def test_a_table_without_rows_is_its_heading() -> None:
    assert str(Table(("a", "bc"), ())) == "a  bc\n-  --"
