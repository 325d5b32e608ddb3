from __future__ import annotations

import pytest

from fanin.report import number_text, times_text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0625, "0.0625"), (1.94e37, "1.94e+37"), (None, "-")]
)
def test_numbers(value: float | None, text: str) -> None:
    assert number_text(value) == text


@pytest.mark.parametrize(
    ("factor", "text"), [(16.02, "×16"), (0.41, "×0.41"), (0.997, "×0.997"), (112000, "×1.1e+05")]
)
def test_factors(factor: float, text: str) -> None:
    assert times_text(factor) == text
