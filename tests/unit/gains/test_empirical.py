"""Gains from samples and their standard error."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fanin.errors import ArgumentError
from fanin.gains import EmpiricalGain, gain


@pytest.mark.parametrize("of", ["second_moment", "variance", "backward"])
@pytest.mark.parametrize("name", ["relu", "tanh", "gelu", "softplus", "sigmoid", "hardshrink"])
def test_samples_find_the_gain_within_their_error(name: str, of: str) -> None:
    # 6 standard errors: 2e-9 a case, 4e-8 over all 18.
    sampled = gain(name, of=of, method="empirical", samples=200_000, seed=3)
    assert abs(sampled.value - gain(name, of=of)) < 6 * sampled.standard_error


@pytest.mark.parametrize("of", ["second_moment", "variance", "backward"])
def test_the_standard_error_is_the_spread_over_seeds(of: str) -> None:
    many = [
        gain("softplus", of=of, method="empirical", samples=2_000, seed=seed) for seed in range(400)
    ]
    spread = np.std([sampled.value for sampled in many], ddof=1)
    stated = np.mean([sampled.standard_error for sampled in many])
    # The relative error of a std from 400 values is 1/sqrt(800) = 3.5%; 5 of them fail with 6e-7.
    assert spread / stated == pytest.approx(1, abs=5 / math.sqrt(800))


def test_samples_are_the_learners_way() -> None:
    x = np.random.default_rng(11).standard_normal(1_000)
    sampled = gain("gelu", of="variance", method="empirical", samples=1_000, seed=11)
    y = F.gelu(torch.from_numpy(x)).numpy()
    assert sampled.value == pytest.approx(x.std() / y.std(), rel=1e-12)
    assert float(sampled) == sampled.value
    assert re.fullmatch(r"1\.\d+ ± 0\.0\d+ \(1000 samples\)", str(sampled))


def test_a_line_has_no_error() -> None:
    assert gain("linear", method="empirical", samples=100) == EmpiricalGain(1.0, 0.0, 100)


def test_seeds() -> None:
    first, again, other = (
        gain("tanh", method="empirical", samples=100, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize("wrong", [{"samples": 1}, {"samples": 2.5}, {"seed": -1}, {"seed": "1"}])
def test_wrong_sampling(wrong: dict[str, int]) -> None:
    with pytest.raises(ArgumentError, match=r"Got samples=\d.* and seed="):
        gain("tanh", method="empirical", **wrong)
    with pytest.raises(ArgumentError, match="belong to the empirical method"):
        gain("tanh", **wrong)
