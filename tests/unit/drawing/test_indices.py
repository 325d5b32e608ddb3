"""Indices made on a device from few numbers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fanin.drawing.indices import _FEW, _progressions, beside
from fanin.errors import ArgumentError

META = torch.device("meta")
SQUARES = torch.arange(2 * _FEW + 2) ** 2


@given(st.lists(st.integers(0, 40), max_size=30))
def test_progressions_hold_every_index_in_its_place(numbers: list[int]) -> None:
    spaced = _progressions(torch.tensor(numbers, dtype=torch.int64))
    assert spaced is not None
    assert [start + i * step for start, step, size in spaced for i in range(size)] == numbers


@pytest.mark.parametrize(
    ("numbers", "spaced"),
    [
        (range(5, 900), [(5, 1, 895)]),
        (range(1, 900, 8), [(1, 8, 113)]),
        ([*range(10, 20), *range(5)], [(10, 1, 10), (0, 1, 5)]),
        ([7], [(7, 1, 1)]),
        ([3, 3, 3], [(3, 0, 3)]),
        ([], []),
    ],
    ids=["a shard", "every eighth", "two runs", "one", "one again and again", "none"],
)
def test_a_shard_is_a_few_numbers(numbers, spaced) -> None:
    indices = torch.tensor([*numbers], dtype=torch.int64)
    assert _progressions(indices) == spaced
    assert beside(indices, META).shape == indices.shape
    assert beside(indices, META).dtype == torch.int64


def test_indices_in_no_order_are_sent() -> None:
    assert _progressions(SQUARES) is None
    assert beside(SQUARES, META).shape == SQUARES.shape


def test_a_captured_graph_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(ArgumentError, match=r"cannot copy indices.* Got 66 indices of more than"):
        beside(SQUARES, torch.device("cuda", 0))


def test_on_the_cpu_they_are_there() -> None:
    indices = torch.arange(3)
    assert beside(indices, torch.device("cpu")) is indices
