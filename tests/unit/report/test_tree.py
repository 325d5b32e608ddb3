from __future__ import annotations

import pytest

from fanin.errors import ArgumentError
from fanin.report import Branch, Column, tree_table


def test_guides_lead_to_each_branch() -> None:
    inner = Branch("b", ("2",), (Branch("c", ("3",)), Branch("d", ("4",), (Branch("e", ("5",)),))))
    tree = Branch("a", ("1",), (inner, Branch("f", ("10",))))
    table = tree_table(tree, ("name", Column("size", "right")), caption="six")
    assert str(table).splitlines() == [
        "name        size",
        "----------  ----",
        "a              1",
        "├─ b           2",
        "│  ├─ c        3",
        "│  └─ d        4",
        "│     └─ e     5",
        "└─ f          10",
        "",
        "six",
    ]


def test_a_branch_has_a_cell_for_each_column() -> None:
    with pytest.raises(ArgumentError, match="one cell for each column"):
        tree_table(Branch("a", ()), ("name", "size"))
