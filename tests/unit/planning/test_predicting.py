from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import fanin
from fanin.errors import ArgumentError, PlanError, TraceError
from fanin.planning.predicting import drawn_moments


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))


X = torch.empty(16, 64, device="meta")


def test_a_prediction_is_a_table_of_layers() -> None:
    model = net()
    prediction = fanin.predict(model, fanin.plan(model, "kaiming", seed=0), X)
    table = prediction.table()
    assert [row[:2] for row in table.rows] == [("0", "Linear"), ("1", "ReLU"), ("2", "Linear")]
    assert table.rows[0][3] == "1.41"
    assert "95 % of draws" in str(prediction)


def test_inputs_with_values_count() -> None:
    model = net()
    plan = fanin.plan(model, "lecun", seed=0)
    loud, plain = (fanin.predict(model, plan, x).module("0") for x in (torch.full((4, 64), 3.0), X))
    assert loud is not None
    assert plain is not None
    assert loud.moments.rms == pytest.approx(3 * plain.moments.rms)


def test_what_a_plan_keeps_counts_as_it_is() -> None:
    model = net()
    plan = fanin.plan(model, "lecun", seed=0, skip="0.weight")
    found = fanin.predict(model, plan, X).module("0")
    assert found is not None
    assert found.moments.second == pytest.approx(1 / 3, rel=0.1)  # torch's own
    with torch.device("meta"):
        nowhere = net()
    with pytest.raises(PlanError, match=r"how each parameter is drawn. Got none for '0\.weight'"):
        fanin.predict(nowhere, fanin.plan(nowhere, "lecun", seed=0, skip="0.weight"), X)


def test_a_model_that_does_not_run_is_refused() -> None:
    model = net()
    with pytest.raises(TraceError, match="trace"):
        fanin.predict(model, fanin.plan(model, "lecun", seed=0), torch.empty(4, 3))


def test_a_part_of_a_model_is_predicted_by_its_own_names() -> None:
    model = net()
    plan = fanin.plan(model, "lecun", seed=0, prefix="stage.1")
    found = fanin.predict(model, plan, X).module("0")
    assert found is not None
    assert found.moments.rms == pytest.approx(1)


def test_the_plan_table_names_each_layer_once() -> None:
    model = net()
    plan = fanin.plan(model, "lecun", seed=0)
    table = plan.table(trace=fanin.trace(model, X))
    column = [getattr(each, "name", each) for each in table.columns].index("output std")
    first, _, second, _ = (row[column] for row in table.rows)
    assert float(first) == pytest.approx(1, rel=0.01)
    # Half of the second moment is left after a ReLU, some of it the same for all samples.
    assert 0.6 < float(second) < 0.71
    assert [row[column] for row in table.rows[1::2]] == ["-", "-"]


def test_a_plan_knows_whether_it_was_traced() -> None:
    model = net()
    traced = fanin.plan(model, "auto", seed=0, example_inputs=X)
    assert traced.is_traced
    assert not fanin.plan(model, "lecun", seed=0).is_traced
    assert fanin.Plan.from_json(traced.to_json()) == traced


def test_gates_are_told_apart() -> None:
    plan = fanin.plan(nn.LSTM(8, 16), "auto", seed=0, example_inputs=torch.empty(3, 2, 8))
    bias = next(step for step in plan.steps if step.name == "bias_ih_l0")
    moments = drawn_moments(bias)
    assert moments is not None
    assert [part.mean for part in moments.parts] == [0, 1, 0, 0]


def test_orthogonal_weights_keep_lengths() -> None:
    """Without the steps of random lengths a deep linear net does not drift."""

    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(32, 32) for _ in range(30))

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = layer(x)
            return x

    model, x = Deep(), torch.empty(8, 32, device="meta")
    spreads = []
    for family in ("normal", "orthogonal"):
        plan = fanin.plan(model, f"auto(family={family})", seed=0, example_inputs=x)
        found = fanin.predict(model, plan, x).module("layers.28")
        assert found is not None
        spreads.append(found.spread)
    assert spreads[1] < 0.1 * spreads[0]


def test_a_plan_for_other_shapes_is_refused() -> None:
    plan = fanin.plan(net(), "lecun", seed=0)
    other = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8))
    with pytest.raises(
        PlanError, match=r"64×64 in the plan and 32×64 in the model for '0\.weight'"
    ):
        fanin.predict(other, plan, X)


def test_inputs_that_are_no_numbers_are_refused() -> None:
    model = net()
    plan = fanin.plan(model, "lecun", seed=0)
    with pytest.raises(ArgumentError, match=r"inputs are numbers\. Got NaN for argument '0'"):
        fanin.predict(model, plan, torch.full((16, 64), torch.nan))


def test_values_that_are_far_from_standard_ones_are_told() -> None:
    model = net()
    plan = fanin.plan(model, "lecun", seed=0)
    told = fanin.predict(model, plan, torch.zeros(4, 64)).notes
    assert told == (
        "the values of argument '0' count: mean 0, std 0. Example inputs on meta stand for N(0, 1)",
    )
    assert fanin.predict(model, plan, X).notes == ()
    plain = torch.randn(16, 64, generator=torch.Generator().manual_seed(0))
    assert fanin.predict(model, plan, plain).notes == ()


def test_the_plan_table_is_for_standard_inputs_whatever_those_of_the_trace_hold() -> None:
    model = net()
    plan = fanin.plan(model, "lecun", seed=0)
    tables = {str(plan.table(trace=fanin.trace(model, x))) for x in (X, torch.full((16, 64), 9.0))}
    assert len(tables) == 1
    assert "output std: the median over draws, for inputs N(0, 1)" in tables.pop()


def test_the_plan_table_says_why_it_predicts_nothing() -> None:
    model = net()
    plan = fanin.plan(model, "lecun", seed=0, skip="0.weight")
    caption = plan.table(trace=fanin.trace(model, X)).caption
    assert "Got none for '0.weight'" in caption
    assert caption.endswith("With a model, those that it holds count.")
    assert "Got none" not in plan.table(model, trace=fanin.trace(model, X)).caption


class Reusing(nn.Module):
    """One layer, six times; then an operation that nobody knows."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.end = nn.Linear(32, 32), nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(6):
            x = torch.tanh(self.cell(x))
        out: Tensor = self.end(torch.cumsum(x, 1))
        return out


@pytest.mark.parametrize("prefix", [None, "stage.1"])
def test_what_auto_approximates_is_in_its_plan(prefix: str | None) -> None:
    model, x = Reusing(), torch.empty(4, 32, device="meta")
    plan = fanin.plan(model, "auto", seed=0, example_inputs=x, prefix=prefix)
    assert len(plan.notes) == 2
    assert "note: cumsum: sampled" in str(plan)
    start = f"{prefix}." if prefix else ""
    assert "note       'cell.weight' is used on what was" in plan.explain(f"{start}cell.weight")
    assert "note" not in plan.explain(f"{start}end.weight")
    assert str(plan.table(trace=fanin.trace(model, x))).count("cumsum: sampled") == 1
    assert plan.cast(torch.bfloat16).notes == plan.notes
    assert fanin.Plan.from_json(plan.to_json()) == plan


def test_the_plan_table_has_the_notes_of_its_predictions() -> None:
    model, x = Reusing(), torch.empty(4, 32, device="meta")
    plan = fanin.plan(model, "lecun", seed=0)
    assert "output std: cumsum: sampled" in str(plan.table(trace=fanin.trace(model, x)))
    assert "sampled" not in str(plan)
