"""What holds of every plan: of models of the zoo, and of models that Hypothesis puts together."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import fanin
from fanin.planning import Plan
from fanin.zoo import MODELS

SMALL = sorted(name for name in MODELS if name != "alexnet")

LAYERS: tuple[Callable[[], nn.Module], ...] = (
    lambda: nn.Linear(3, 4),
    lambda: nn.Conv2d(2, 4, 3, groups=2),
    lambda: nn.ConvTranspose1d(2, 4, 3, stride=2),
    lambda: nn.LSTM(3, 4, bidirectional=True),
    lambda: nn.MultiheadAttention(4, 2, add_bias_kv=True),
    lambda: nn.Embedding(5, 3, padding_idx=1),
    lambda: nn.BatchNorm1d(3),
    lambda: nn.PReLU(),
    lambda: nn.Bilinear(2, 3, 4),
    lambda: nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)),
)
models = st.lists(st.sampled_from(LAYERS), min_size=1, max_size=5)
recipes = st.sampled_from(["kaiming", "xavier", "lecun", "torch_default"])
seeds = st.integers(0, 2**64 - 1)


def built(layers: list[Callable[[], nn.Module]]) -> nn.Sequential:
    return nn.Sequential(*(layer() for layer in layers))


def assert_equal(a: nn.Module, b: nn.Module) -> None:
    ours, theirs = a.state_dict(), b.state_dict()
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


@settings(max_examples=40, deadline=None)
@given(models, recipes, seeds)
def test_a_plan_read_back_is_the_plan(
    layers: list[Callable[[], nn.Module]], recipe: str, seed: int
) -> None:
    plan = fanin.plan(built(layers), recipe, seed=seed)
    again = Plan.from_json(plan.to_json())
    assert again == plan
    assert not plan.diff(again)


@settings(max_examples=40, deadline=None)
@given(models, recipes, seeds)
def test_deferred_construction_changes_no_bit(
    layers: list[Callable[[], nn.Module]], recipe: str, seed: int
) -> None:
    real = built(layers)
    with fanin.deferred():
        late = built(layers)
    assert fanin.initialize(late, recipe, seed=seed) == fanin.initialize(real, recipe, seed=seed)
    assert_equal(late, real)


@settings(max_examples=40, deadline=None)
@given(models, st.sampled_from(LAYERS), seeds)
def test_a_layer_more_changes_no_other_parameter(
    layers: list[Callable[[], nn.Module]], extra: Callable[[], nn.Module], seed: int
) -> None:
    """Pain 18."""
    small, large = built(layers), built([*layers, extra])
    for model in (small, large):
        fanin.initialize(model, "kaiming", seed=seed)
    assert_equal(small, large[: len(layers)])


@pytest.mark.parametrize("name", SMALL)
def test_one_seed_gives_one_set_of_bits(name: str) -> None:
    models = [MODELS[name]() for _ in range(2)]
    for model in models:
        fanin.initialize(model, "kaiming", seed=7)
    fanin.initialize(models[1], "xavier", seed=8)
    fanin.initialize(models[1], "kaiming", seed=7)
    assert_equal(*models)


@pytest.mark.parametrize("name", SMALL)
def test_every_model_of_the_zoo_is_planned_alike_when_deferred(name: str) -> None:
    with fanin.deferred():
        late = MODELS[name]()
    assert fanin.plan(late, "kaiming", seed=7) == fanin.plan(MODELS[name](), "kaiming", seed=7)
