from __future__ import annotations

import pytest

from fanin.report import bytes_text, shape_text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (244_404_960, "244.4 MB"), (10**16, "10000.0 TB")],
)
def test_sizes(count: int, text: str) -> None:
    assert bytes_text(count) == text


@pytest.mark.parametrize(("shape", "text"), [((), "-"), ((3,), "3"), ((64, 3, 11), "64×3×11")])
def test_shapes(shape: tuple[int, ...], text: str) -> None:
    assert shape_text(shape) == text
