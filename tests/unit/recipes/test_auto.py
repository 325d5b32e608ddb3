from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

import fanin
from fanin.errors import ArgumentError, PlanError, UnknownNameError
from fanin.fills import Constant, Orthogonal, Uniform
from fanin.initializers import zeros
from fanin.recipes import get_recipe
from fanin.recipes.toml import from_toml, to_toml

X = torch.empty(8, 64, device="meta")  # of which only the shape is known


def net() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 5)
    )


def planned(model: nn.Module, recipe: Any = "auto", inputs: Any = X, **options: Any) -> fanin.Plan:
    return fanin.plan(model, recipe, seed=0, example_inputs=inputs, **options)


def std(plan: fanin.Plan, name: str) -> float:
    moments = next(step.moments for step in plan.steps if name in step.names)
    assert moments is not None
    return moments[1]


def test_each_layer_gets_what_its_input_asks_for() -> None:
    plan = planned(net())
    assert std(plan, "0.weight") == pytest.approx(1 / 8)
    assert std(plan, "2.weight") == pytest.approx(math.sqrt(2 / 96))
    assert std(plan, "4.weight") == pytest.approx(0.25 * math.sqrt(2 / 96))
    assert {plan.steps[at].fill for at in (1, 3, 5)} == {Constant(0.0)}


def test_padding_is_no_input() -> None:
    conv = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3))
    plan = planned(conv, inputs=torch.empty(1, 8, 4, 4))
    assert std(plan, "0.weight") == pytest.approx(1 / math.sqrt(8 * 9 * (10 / 12) ** 2))


@pytest.mark.parametrize(("family", "fill"), [("orthogonal", Orthogonal), ("uniform", Uniform)])
def test_families_have_the_same_std(family: str, fill: type) -> None:
    model = net()
    plan = planned(model, f"auto(family={family})")
    assert isinstance(plan.steps[2].fill, fill)
    assert std(plan, "2.weight") == pytest.approx(std(planned(model), "2.weight"), rel=1e-6)


def test_balance_divides_by_what_gradients_meet() -> None:
    model = net()
    forward, backward, both = (
        std(planned(model, f"auto(balance={way})"), "0.weight")
        for way in ("forward", "backward", "geometric")
    )
    assert backward == pytest.approx(forward * math.sqrt(64 / 96))
    assert both == pytest.approx(math.sqrt(forward * backward))


class Stream(nn.Module):
    def __init__(self, blocks: int = 4) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(64) for _ in range(blocks))
        self.up = nn.ModuleList(nn.Linear(64, 128) for _ in range(blocks))
        self.down = nn.ModuleList(nn.Linear(128, 64) for _ in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        for norm, up, down in zip(self.norms, self.up, self.down, strict=True):
            x = x + down(F.relu(up(norm(x))))
        return x


@pytest.mark.parametrize(
    ("law", "last"), [("scaled", 1.25**4), ("sqrt_depth", 5.0), ("constant", 1.0)]
)
def test_a_residual_stream_grows_by_its_law(law: str, last: float) -> None:
    model = Stream()
    plan = planned(model, f"auto(residual={law})")
    found = fanin.predict(model, plan, X).module("")
    assert found is not None
    assert found.moments.second == pytest.approx(last, rel=0.01)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(100, 64)
        self.inner = nn.Linear(64, 64)
        self.head = nn.Linear(64, 100, bias=False)
        self.head.weight = self.table.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(F.layer_norm(self.inner(self.table(ids)), (64,)))


def test_a_tied_table_is_a_head() -> None:
    model, ids = Tied(), torch.zeros(2, 8, dtype=torch.long)
    plan = planned(model, inputs=ids)
    assert std(plan, "head.weight") == pytest.approx(0.25 / 8)
    found = fanin.predict(model, plan, ids).module("head")
    assert found is not None
    assert found.moments.rms == pytest.approx(0.25, rel=0.01)


def test_a_layer_amplifies_four_times_at_most() -> None:
    """A projection of a tied table: 32 times would be needed for an rms of 1."""

    class Projected(Tied):
        def forward(self, ids: Tensor) -> Tensor:
            return self.head(self.inner(self.table(ids)))

    plan = planned(Projected(), inputs=torch.zeros(2, 3, dtype=torch.long))
    assert std(plan, "table.weight") == pytest.approx(0.25 / 8)
    assert std(plan, "inner.weight") == pytest.approx(4 / 8)
    assert "layer, 4 / √64, the most" in str(plan)


class Scores(nn.Module):
    """Attention of two inputs with weights of its own, which divides by nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.empty(64, 4, 16))
        self.key = nn.Parameter(torch.empty(48, 4, 16))
        self.gate = nn.Linear(64, 48)
        self.end = nn.Linear(48, 3)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        q = torch.einsum("btd,dhk->bhtk", x, self.query)
        k = torch.einsum("bsd,dhk->bhsk", other, self.key)
        weights = torch.softmax(q @ k.transpose(-1, -2), -1).mean(1)
        return self.end((weights @ other) * torch.sigmoid(self.gate(x)))


def test_a_module_that_nothing_was_tuned_for() -> None:
    model = Scores()
    generator = torch.Generator().manual_seed(0)
    inputs = (
        torch.randn(16, 8, 64, generator=generator),
        torch.randn(16, 12, 48, generator=generator),
    )
    plan = fanin.initialize(model, "auto", seed=0, example_inputs=inputs)
    # Scores sum 16 products: without a division, queries have the second moment 1 / 16.
    assert std(plan, "query") == pytest.approx(1 / math.sqrt(64 * 16), rel=0.01)
    assert std(plan, "key") == pytest.approx(1 / math.sqrt(48), rel=0.01)
    found = fanin.predict(model, plan, inputs).module("end")
    assert found is not None
    # One draw of 48 x 3 weights: a relative std of the second moment of sqrt(2 / 3) at most.
    with torch.no_grad():
        assert 0.4 < float(model(*inputs).std()) / found.std < 2.0


def test_names_that_are_not_the_obvious_ones() -> None:
    layer = nn.Linear(64, 64)
    shared = planned(nn.Sequential(layer, nn.ReLU(), layer))
    assert [step.name for step in shared.steps] == ["0.weight", "0.bias"]
    normed = planned(nn.Sequential(weight_norm(nn.Linear(64, 64)), nn.ReLU(), nn.Linear(64, 64)))
    assert std(normed, "0.weight") == pytest.approx(1 / 8)


def test_a_part_of_a_model_has_its_names_in_the_whole() -> None:
    model = nn.Sequential(net(), nn.Linear(5, 5))
    plan = planned(model[0], prefix="0")
    assert std(plan, "0.2.weight") == pytest.approx(math.sqrt(2 / 96))
    assert plan.steps[2].rule == "layer, √(1 / (96 · 0.5))"
    assert not plan.unused


def test_shapes_and_memory_may_come_later() -> None:
    with fanin.deferred():
        later = net()
    with torch.device("meta"):
        nowhere = net()
    plans = (planned(net()), planned(nowhere), planned(later))
    assert len({plan.fingerprint() for plan in plans}) == 1
    lazy = nn.Sequential(
        nn.LazyLinear(96), nn.ReLU(), nn.LazyLinear(96), nn.ReLU(), nn.LazyLinear(5)
    )
    made = fanin.initialize(lazy, "auto", seed=0, example_inputs=torch.zeros(8, 64))
    assert made.fingerprint() == plans[0].fingerprint()
    assert fanin.initialize(later, "auto", seed=0, example_inputs=X) == plans[0]


def test_more_rules_and_files() -> None:
    recipe = get_recipe("auto(family=uniform)") + {"4.weight": zeros()}
    plan = planned(net(), recipe)
    assert plan.steps[4].fill == Constant(0.0)
    assert 'base = "auto@1(family=uniform)"' in to_toml(recipe)
    assert planned(net(), from_toml(to_toml(recipe))).fingerprint() == plan.fingerprint()
    assert fanin.Plan.from_json(plan.to_json()) == plan
    with pytest.raises(ArgumentError, match="rules from a trace come before all others"):
        get_recipe("kaiming") + get_recipe("auto")


def test_what_is_asked_for_is_checked() -> None:
    with pytest.raises(UnknownNameError, match="auto: family is one of a closed list"):
        get_recipe("auto(family=cauchy)")
    with pytest.raises(ArgumentError, match="auto: head_std is a std"):
        get_recipe("auto(head_std=-1)")
    with pytest.raises(PlanError, match="needs inputs to trace it with"):
        fanin.plan(net(), "auto")


def test_an_lstm_forgets_little_and_its_head_is_small() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(32, 64, batch_first=True)
            self.head = nn.Linear(64, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.lstm(x)[0])

    model, x = Recurrent(), torch.randn(8, 16, 32, generator=torch.Generator().manual_seed(0))
    plan = fanin.initialize(model, "auto", seed=0, example_inputs=x)
    assert model.lstm.bias_ih_l0[64:128].eq(1).all()
    assert not model.lstm.bias_ih_l0[:64].any()
    found = fanin.predict(model, plan, x).module("head")
    assert found is not None
    assert found.moments.rms == pytest.approx(0.25, rel=0.05)
    # 640 weights: 20 % is more than five standard deviations of what the head's own draw does.
    with torch.no_grad():
        assert float(model(x).std()) / found.std == pytest.approx(1, abs=0.3)
