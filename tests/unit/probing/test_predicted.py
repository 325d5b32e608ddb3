from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import fanin
from fanin.errors import ArgumentError
from fanin.probing import SignalReport


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))


X = torch.randn(32, 64, generator=torch.Generator().manual_seed(0))


def test_a_traced_plan_brings_predictions() -> None:
    model = net()
    plan = fanin.initialize(model, "auto", seed=0, example_inputs=X)
    report = fanin.probe(model, X, plan=plan)
    for row in report.rows:
        assert row.expected is not None
        assert row.expected.low < row.expected.median < row.expected.high
        assert row.ratio == row.output.std / row.expected.median
        assert 0.5 < row.ratio < 2
    names = [getattr(each, "name", each) for each in report.table().columns]
    assert names[-2:] == ["predicted std", "ratio"]
    assert "measured / predicted" in report.to_html()
    assert SignalReport.from_json(report.to_json()).rows == report.rows
    assert list(report.to_dataframe()["expected_median"]) == [
        row.expected.median for row in report.rows if row.expected
    ]


def test_others_bring_them_when_asked() -> None:
    model = net()
    plan = fanin.initialize(model, "kaiming", seed=0)
    assert all(row.expected is None for row in fanin.probe(model, X, plan=plan).rows)
    rows = fanin.probe(model, X, plan=plan, predict=True).rows
    assert all(row.expected is not None for row in rows)
    traced = fanin.initialize(model, "auto", seed=0, example_inputs=X)
    assert all(r.expected is None for r in fanin.probe(model, X, plan=traced, predict=False).rows)
    with pytest.raises(ArgumentError, match="predictions follow from a plan"):
        fanin.probe(model, X, predict=True)


class Unseen(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        return y if float(y.detach().sum()) else -y


def test_a_model_that_cannot_be_traced_is_measured_all_the_same() -> None:
    model = Unseen()
    plan = fanin.initialize(model, "kaiming", seed=0)
    report = fanin.probe(model, X, plan=plan, predict=True)
    assert report.rows[0].expected is None
    assert any(note.startswith("no predictions: trace") for note in report.notes)
