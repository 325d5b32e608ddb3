from __future__ import annotations

import math

import pytest

from fanin.errors import ArgumentError
from fanin.report.series import Series
from fanin.report.sparkline import sparkline


def test_points_are_pairs() -> None:
    assert Series("rms", (0, 2), (1.0, math.inf)).points == ((0, 1.0), (2, math.inf))


@pytest.mark.parametrize(("y", "labels"), [((1.0,), ()), ((1.0, 2.0), ("a",))])
def test_a_ragged_series_is_refused(y: tuple[float, ...], labels: tuple[str, ...]) -> None:
    with pytest.raises(ArgumentError, match="one entry for each x"):
        Series("rms", (0, 1), y, labels)


def test_the_lowest_and_the_highest_block_are_the_extremes() -> None:
    assert sparkline([5.0, -1.0, 2.0]) == "▇▁▄"


@pytest.mark.parametrize("values", [[3.0, 3.0, 3.0], [3.0, 3.01, 2.99]])
def test_noise_below_the_least_span_is_level(values: list[float]) -> None:
    assert sparkline(values, least_span=2.0) == "▄▄▄"
    assert len(sparkline(values)) == 3


def test_what_is_not_finite_is_marked_and_moves_no_block() -> None:
    assert sparkline([0.0, math.inf, 1.0, math.nan]) == "▁×▇×"
    assert sparkline([math.nan]) == "×"
    assert sparkline([]) == ""


def test_many_values_keep_their_shape_and_their_gaps() -> None:
    line = sparkline([*range(500), *[math.inf] * 500], width=10)
    assert line == "▁▃▄▅▇×××××"
