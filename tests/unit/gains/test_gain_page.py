"""The numbers on the page about gains."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fanin.gains import gain, nonlinearities

PAGE = Path(__file__).parents[3] / "docs" / "gains.md"
PAIR = (0.1, 0.3)  # for threshold, which has no defaults


def test_the_pages_table_is_what_gain_returns() -> None:
    rows = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| `"):
            names, *numbers = (cell.strip() for cell in line.strip("|").split("|"))
            rows |= dict.fromkeys(re.findall(r"`(\w+)`", names), numbers)
    assert rows == {name: _row(name) for name in nonlinearities()}


def test_the_pages_words_on_tanh() -> None:
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    for factor, words in ((gain("tanh"), "std 1.000 and grows gradients"), (5 / 3, "1.086")):
        q = _fixed_point(factor, torch.tanh)
        growth = factor**2 / gain(lambda x, s=q: torch.tanh(x * s) / s, of="backward") ** 2
        assert f"{q:.3f}" in words
        assert words in page
        assert f"{growth:.3f}" in page


def test_the_pages_words_on_selu() -> None:
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert f"settles at std {_fixed_point(3 / 4, F.selu):.2f}" in page


def _row(name: str) -> list[str]:
    """A line of the page: parameter, second moment, variance, backward, torch."""
    parameters = nonlinearities()[name]
    param = PAIR if name == "threshold" else None
    values = param or [value for value in parameters.values() if value is not None]
    words = ", ".join(f"{k} = {v:.4g}" for k, v in zip(parameters, values, strict=True))
    numbers = (gain(name, param, of=of) for of in ("second_moment", "variance", "backward"))
    try:
        torchs = f"{nn.init.calculate_gain(name):.4f}"
    except ValueError:
        torchs = "–"
    return [words or "–", *(f"{number:.4f}" for number in numbers), torchs]


def _fixed_point(factor: float, function: Callable[[Tensor], Tensor]) -> float:
    """The std at which a deep chain of ``factor``-scaled layers settles."""
    std = 1.0
    for _ in range(150):
        std = factor / gain(lambda x, s=std: function(x * s))
    return std
