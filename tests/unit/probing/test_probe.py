"""Which calls have rows, and what is in them."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small_models import Calls, X, names, only
from torch import Tensor, nn

import fanin
from fanin.probing import probe

# Which calls have a row.


def test_a_hundred_linear_layers_overflow_at_layer_31() -> None:
    model = nn.Sequential(*(nn.Linear(256, 256, bias=False) for _ in range(100)))
    plan = fanin.plan(model, {"**": fanin.initializers.normal(std=1.0)}, seed=0)
    plan.apply(model)
    x = torch.randn(32, 256, generator=torch.Generator().manual_seed(0))
    report = probe(model, x, plan=plan)
    assert len(report.rows) == 100
    stds = [1.0, *(row.output.std for row in report.rows[:31])]
    # A layer's factor is 16 up to the sampling of 32 × 256 entries that share their norms.
    growth = [math.log(after / before) for before, after in pairwise(stds)]
    assert all(abs(step - math.log(16)) < 0.2 for step in growth)
    first = next(row for row in report.rows if not row.output.is_finite)
    assert (first.index, first.name, first.depth) == (31, "31", 32)
    assert first.input == report.rows[30].output
    assert all(row.input is None for row in report.rows if row is not first)
    assert report.rows[30].output.std > 2.0**123
    assert [weight.expected_std for weight in report.weights] == [1.0] * 100
    assert report.weights[0].std == pytest.approx(1.0, abs=0.02)
    assert (report.recipe, report.seed) == (plan.recipe, 0)


def test_stopping_at_what_is_not_finite() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    with torch.no_grad():
        model[1].bias[0] = torch.inf
    report = probe(model, X, stop_at_nonfinite=True)
    assert names(report) == ["0", "1"]
    assert report.rows[1].input == report.rows[0].output
    assert report.rows[1].output.infs == 3
    assert report.notes == ("stopped at '1': its output is not finite",)
    assert report.rows[0].gradient is None
    assert [weight.gradient_rms for weight in report.weights] == [None] * 6
    assert len(probe(model, X).rows) == 3


def test_what_was_overwritten_is_told_from_the_row_before() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.inverse(m.layer(x))

    class Inverse(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mul_(torch.inf)

    report = probe(Calls(forward, layer=nn.Linear(4, 4), inverse=Inverse()), X)
    assert only(report, "inverse").input == only(report, "layer").output


def test_shared_and_unused_modules() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.shared(m.norm(m.shared(x)))

    branch = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model = Calls(
        forward, shared=nn.Linear(4, 4), norm=nn.LayerNorm(4), unused=branch, p=nn.ParameterList()
    )
    report = probe(model, X)
    assert [(row.name, row.call, row.depth) for row in report.rows] == [
        ("shared", 0, 1),
        ("norm", 0, 1),
        ("shared", 1, 2),
    ]
    assert "never called: 'unused'" in report.notes
    unused = next(weight for weight in report.weights if weight.name == "unused.0.weight")
    assert (unused.gradient_rms, unused.ratio) == (0.0, 0.0)


def test_a_module_that_is_read_and_not_called_is_not_unused() -> None:
    model = Calls(lambda m, x: F.linear(x, m.table.weight), table=nn.Linear(4, 4, bias=False))
    assert not any("never called" in note for note in probe(model, X).notes)


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "tanh": torch.tanh,
    "sigmoid": lambda x: x.sigmoid(),
    "gelu": F.gelu,
    "softmax": lambda x: F.softmax(x, dim=-1),
    "silu": F.silu,
    "leaky_relu": F.leaky_relu,
    "hardtanh": F.hardtanh,
    "log_softmax": lambda x: x.log_softmax(-1),
    "expit": torch.special.expit,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_have_rows(name: str) -> None:
    block = Calls(lambda m, x: FUNCTIONS[name](m.layer(x)) + 1, layer=nn.Linear(4, 4))
    report = probe(nn.Sequential(block), X)
    assert names(report) == ["0.layer", f"0/{name}", "0"]
    assert report.rows[1].kind == name
    assert not report.rows[1].is_layer
    assert report.rows[1].gradient is not None


def test_functions_in_place() -> None:
    model = Calls(lambda m, x: m.layer(x).relu_(), layer=nn.Linear(4, 4))
    report = probe(model, X)
    assert names(report) == ["layer", "relu"]
    assert report.rows[0].output.zeros == 0
    assert report.rows[1].output.zeros > 0
    assert report.rows[0].gradient != report.rows[1].gradient


MODULES = [nn.Tanh(), nn.ReLU(), nn.ReLU(inplace=True), nn.GELU(), nn.Softmax(-1), nn.PReLU()]


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_the_module_of_an_activation_is_one_row(module: nn.Module) -> None:
    report = probe(nn.Sequential(nn.Linear(4, 4), module), X)
    assert [(row.name, row.kind) for row in report.rows] == [
        ("0", "Linear"),
        ("1", type(module).__name__),
    ]


def test_a_layer_with_its_activation_is_one_row() -> None:
    class Dense(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(super().forward(x))

    (row,) = probe(Dense(4, 4), X * 100).rows
    assert (row.name, row.kind, row.is_layer, row.depth) == ("", "Dense", True, 1)
    assert row.output.saturated is not None
    assert row.output.saturated > 0.5


def test_a_module_that_is_a_function_is_not_opened() -> None:
    class GELU(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 0.5 * x * (1 + torch.tanh(0.8 * x))

    assert names(probe(nn.Sequential(nn.Linear(4, 4), GELU()), X)) == ["0", "1"]


def test_a_block_has_a_row_where_it_adds_something() -> None:
    residual = Calls(lambda m, x: x + m.layer(x), layer=nn.Linear(4, 4))
    view = Calls(lambda m, x: m.layer(x).view(2, 6), layer=nn.Linear(4, 4))
    report = probe(nn.Sequential(nn.Sequential(residual), view), X)
    assert names(report) == ["0.0.layer", "0.0", "1.layer"]
    assert [row.depth for row in report.rows] == [1, 1, 2]


def test_a_layer_has_a_row_where_its_last_child_returns_the_same() -> None:
    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4, 4))
            self.act = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.act(F.linear(x, self.weight))

    report = probe(nn.Sequential(Dense(), nn.Identity()), X)
    assert [(row.name, row.is_layer) for row in report.rows] == [
        ("0.act", False),
        ("0", True),
        ("1", False),
    ]


def test_attention_is_a_layer_and_uses_its_projection() -> None:
    report = probe(nn.MultiheadAttention(4, 2, batch_first=True), [X[None]] * 3, backward=False)
    assert [(row.kind, row.is_layer) for row in report.rows if not row.name] == [
        ("MultiheadAttention", True)
    ]
    assert report.notes == ()


def test_parametrizations_have_no_rows() -> None:
    report = probe(nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))), X)
    assert [(row.name, row.kind, row.is_layer) for row in report.rows] == [("0", "Linear", True)]
    weight = next(weight for weight in report.weights if weight.name == "0.weight")
    assert weight.gradient_rms is None


def test_a_module_that_raises_where_the_model_expects_it() -> None:
    class Raises(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise NotImplementedError

    def forward(m: Any, x: Tensor) -> Tensor:
        with suppress(NotImplementedError):
            m.first(x)
        return m.second(x) * 2

    report = probe(Calls(forward, first=Raises(), second=nn.Linear(4, 4)), X)
    assert names(report) == ["second", ""]


# What is in a row.


BOUNDED = [
    (nn.Tanh(), [-0.99, 0.0, 0.97]),
    (nn.Sigmoid(), [0.005, 0.5, 0.98]),
    (nn.Hardtanh(-2, 3), [-1.96, 0.0, 2.94]),
    (nn.ReLU6(), [0.05, 3.0, 5.9]),
    (nn.Softsign(), [-0.99, 0.0, 0.97]),
    (nn.Hardsigmoid(), [0.005, 0.5, 0.98]),
]


@pytest.mark.parametrize(("module", "outputs"), BOUNDED, ids=lambda value: str(value))
def test_saturation_of_bounded_functions(module: nn.Module, outputs: list[float]) -> None:
    wanted = torch.tensor(outputs, dtype=torch.float64)
    inverse = {
        "Tanh": torch.atanh,
        "Sigmoid": torch.logit,
        "Softsign": lambda y: y / (1 - y.abs()),
        "Hardsigmoid": lambda y: 6 * y - 3,
    }.get(type(module).__name__, lambda y: y)
    (row,) = probe(module, inverse(wanted)).rows
    assert row.output.saturated == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("function", "share"),
    [
        (lambda x: F.hardtanh(x), 4 / 5),
        (lambda x: F.hardtanh(x, -2.0), 3 / 5),
        (lambda x: F.hardtanh(x, -2.0, 3.0), 2 / 5),
        (lambda x: F.hardtanh(x, max_val=3.0, min_val=-2.0), 2 / 5),
    ],
)
def test_range_of_a_hardtanh(function: Callable[[Tensor], Tensor], share: float) -> None:
    model = Calls(lambda m, x: function(m.same(x)), same=nn.Identity())
    (_, row) = probe(model, torch.tensor([-2.5, -1.5, 0.0, 1.5, 3.5])).rows
    assert (row.name, row.output.saturated) == ("hardtanh", pytest.approx(share))


def test_unbounded_functions_do_not_saturate() -> None:
    assert probe(nn.ReLU(), X).rows[0].output.saturated is None
    assert probe(nn.Softmax(-1), X).rows[0].output.saturated is None
