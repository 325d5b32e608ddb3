"""What every initializer promises, row by row of the table."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
import torch
from initializers_table import ROWS, Row

from fanin.drawing import draw
from fanin.geometry import Layout, Region
from fanin.initializers import BUILDERS, Initializer, orthogonal, parse
from fanin.stream import Key

each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.text)


def test_the_table_is_complete() -> None:
    # Initializers of a user's function have no text.
    assert {row.name for row in ROWS} | {"mapped", "from_function"} == set(BUILDERS)


@each_row
def test_resolves_to_its_fill(row: Row) -> None:
    fill = parse(row.text).resolve(row.layout)
    assert fill == row.fill
    # 1e-9: derived numbers have 32 significant bits.
    assert fill.moments(row.layout.shape)[1] == pytest.approx(row.std, rel=1e-9)


@each_row
def test_survives_every_form(row: Row) -> None:
    initializer = parse(row.text)
    assert str(initializer) == row.text
    assert Initializer.from_json(json.loads(json.dumps(initializer.to_json()))) == initializer
    assert pickle.loads(pickle.dumps(initializer)) == initializer
    assert copy.deepcopy(initializer) == initializer
    assert len({initializer, parse(row.text)}) == 1


@each_row
def test_is_drawn_with_finite_numbers(row: Row) -> None:
    out = torch.full(row.layout.shape, torch.nan)
    draw(row.fill, Key(0, row.text), Region.whole(row.layout.shape), out)
    assert out.isfinite().all()


def test_orthogonal_of_a_transposed_linear_is_the_transpose() -> None:
    stored, transposed = torch.empty(5, 8), torch.empty(8, 5)
    for layout, out in (
        (Layout.linear(5, 8), stored),
        (Layout.linear_transposed(8, 5), transposed),
    ):
        draw(orthogonal().resolve(layout), Key(0, "weight"), Region.whole(layout.shape), out)
    # The vectors are the same bits; products agree to 4e-6.
    torch.testing.assert_close(transposed.T, stored, rtol=0, atol=4e-6)
