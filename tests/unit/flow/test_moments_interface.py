"""Walking a trace step by step, what is asked for, what is noted, what is refused."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from measured_models import parameter_moments, predicted
from torch import Tensor, nn

from fanin.errors import ArgumentError
from fanin.flow.graph import Operation
from fanin.flow.moments import Forward, Incoming, Moments, ParameterMoments, predict, prediction_of
from fanin.flow.trace import trace


class Solver:
    """Chooses weights whose outputs have a second moment of 1."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, float]] = []

    def __call__(self, name: str, operation: Operation, incoming: Incoming) -> ParameterMoments:
        self.asked.append((name, operation.name, incoming.terms))
        if name.endswith("bias"):
            return ParameterMoments(0.0, 0.0)
        return ParameterMoments(0.0, 1 / math.sqrt(incoming.terms * incoming.moments.second))


def test_scales_are_asked_once_where_a_parameter_is_used() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(20, 16)
            self.inner = nn.Parameter(torch.empty(16, 32))

        def forward(self, x: Tensor) -> Tensor:
            turned = self.inner.t()  # long before its use
            hidden = torch.relu(self.table(x) @ self.inner)
            return (hidden @ turned) @ self.table.weight.t()

    solver = Solver()
    forward = Forward(trace(Tied(), torch.zeros(2, 5, dtype=torch.long)), solver)
    steps = 0
    while forward.advance():
        steps += 1
    assert steps == len(forward.trace.operations)
    assert [(name, terms) for name, _, terms in solver.asked] == [
        ("table.weight", 1.0),
        ("inner", 16.0),
    ]


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.GELU])
def test_a_solver_reaches_its_target(activation: type[nn.Module]) -> None:
    model = nn.Sequential(nn.Linear(8, 64), activation(), nn.Linear(64, 64), activation())
    forward = Forward(trace(model, torch.zeros(4, 8)), Solver()).finish()
    prediction = prediction_of(forward)
    for name in ("0", "2"):
        found = prediction.module(name)
        assert found is not None
        assert found.moments.second == pytest.approx(1.0)


def test_he_is_exact() -> None:
    model = nn.Sequential(nn.Linear(50, 100), nn.ReLU(), nn.Linear(100, 100))
    forward = Forward(trace(model, torch.zeros(4, 50)), Solver()).finish()
    assert forward.parameters["2.weight"].std == pytest.approx(math.sqrt(2 / 100), rel=1e-12)


def test_padding_counts_in_terms() -> None:
    solver = Solver()
    Forward(trace(nn.Conv2d(3, 8, 3, padding=1), torch.zeros(1, 3, 8, 8)), solver).finish()
    assert solver.asked[0] == ("weight", "conv2d", pytest.approx(27 * (22 / 24) ** 2))


def test_missing_moments_are_refused() -> None:
    model = nn.Linear(4, 4)
    with pytest.raises(ArgumentError, match="Got none for 'bias'"):
        predict(trace(model, torch.zeros(2, 4)), {"weight": ParameterMoments(0.0, 1.0)})


def test_prediction_is_the_same_every_time_and_leaves_generators_alone() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.5))
    state = torch.get_rng_state()
    first = predicted(model, torch.zeros(2, 3, 10, 10))
    second = predicted(model, torch.zeros(2, 3, 10, 10))
    assert torch.equal(torch.get_rng_state(), state)
    for one, two in zip(first.values.values(), second.values.values(), strict=True):
        assert one == two


def test_handwritten_functions_are_themselves() -> None:
    """x * sigmoid(x), a tanh GELU, an rms norm: as torch's own."""

    class Written(nn.Module):
        def __init__(self, function: str) -> None:
            super().__init__()
            self.first = nn.Linear(64, 64)
            self.function = function

        def forward(self, x: Tensor) -> Tensor:
            x = 1.7 * self.first(x)
            if self.function == "silu":
                return x * torch.sigmoid(x)
            if self.function == "gelu":
                inner = math.sqrt(2 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))
                return 0.5 * x * (1.0 + torch.tanh(inner))
            if self.function == "rms_norm":
                return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
            own: dict[str, Tensor] = {
                "torch silu": F.silu(x),
                "torch gelu": F.gelu(x, approximate="tanh"),
                "torch rms_norm": F.rms_norm(x, (64,), eps=1e-6),
            }
            return own[self.function]

    for name in ("silu", "gelu", "rms_norm"):
        torch.manual_seed(0)
        written, own = Written(name), Written(f"torch {name}")
        own.load_state_dict(written.state_dict())
        found = []
        for model in (written, own):
            prediction = predicted(model, torch.zeros(8, 64))
            found.append(prediction[prediction.trace.outputs[0]])
        assert found[0].moments.second == pytest.approx(found[1].moments.second, rel=1e-6)
        assert found[0].std == pytest.approx(found[1].std, rel=1e-2)


class Unusual(nn.Module):
    def __init__(self, function: str) -> None:
        super().__init__()
        self.first = nn.Linear(256, 256)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if self.function == "elementwise":
            return torch.asinh(3 * x)
        if self.function == "sampled":
            return torch.cumsum(x, 1)
        return torch.sort(x, 1).values


@pytest.mark.parametrize(
    ("function", "note"),
    [
        ("elementwise", "asinh: integrated"),
        ("sampled", "cumsum: sampled"),
        ("sorted", "sort: sampled"),
    ],
)
def test_unknown_functions_are_run(function: str, note: str) -> None:
    torch.manual_seed(0)
    model = Unusual(function)
    with torch.no_grad():
        model.first.weight.normal_(0, 1 / 16)
        model.first.bias.zero_()
        measured = float(model(torch.randn(256, 256)).std())
    prediction = predicted(model, torch.zeros(256, 256))
    found = prediction[prediction.trace.outputs[0]]
    assert found.median == pytest.approx(measured, rel=0.05)
    assert any(note in each for each in prediction.notes)


def test_weights_with_a_mean() -> None:
    """All weights the same: every output is their sum."""
    model = nn.Sequential(nn.Linear(64, 64, bias=False), nn.ReLU(), nn.Linear(64, 32, bias=False))
    given = {"0.weight": ParameterMoments(0.0, 0.1), "2.weight": ParameterMoments(0.5, 0.0)}
    prediction = predict(trace(model, torch.zeros(8, 64)), given)
    hidden, output = prediction.module("1"), prediction.module("2")
    assert hidden is not None
    assert output is not None
    assert output.moments.mean == pytest.approx(0.5 * 64 * hidden.moments.mean)
    variance = 0.25 * 64 * hidden.moments.variance
    assert output.moments.variance == pytest.approx(variance)


def test_eval_and_train_differ() -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.Dropout(0.5))
    nn.init.normal_(model[0].weight, 0, 1.0)
    trained = predicted(model.train(), torch.zeros(8, 64))
    evaluated = predicted(model.eval(), torch.zeros(8, 64))
    outputs = [each[each.trace.outputs[0]].moments.second for each in (trained, evaluated)]
    assert outputs[0] == pytest.approx(2.0, rel=1e-3)
    assert outputs[1] == pytest.approx(64.0, rel=0.1)


def test_moments_of_sums_and_products() -> None:
    one = Moments.independent(mean=1.0, second=3.0)
    two = Moments.shared(mean=2.0, second=5.0)
    assert one.plus(two).second == 3 + 5 + 2 * 2
    assert one.plus(two).positions == 1 + 5 + 2 * 2
    assert one.times(two).second == 15
    assert one.scaled(4.0).mean == 2.0
    assert Moments.mixture([one, two], [0.5, 0.5]).second == 4.0
    assert two.correlations == (1.0, 1.0, 1.0)
    assert one.correlations == (0.0, 0.0, 0.0)


def test_no_parameter_is_left_out() -> None:
    """Every way to use a parameter that a model may have."""

    class Many(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.zeros(1, 1, 16))
            self.places = nn.Parameter(torch.zeros(5, 16))
            self.scale = nn.Parameter(torch.ones(16))
            self.experts = nn.Parameter(torch.zeros(3, 16, 16))
            self.bilinear = nn.Bilinear(16, 16, 16)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
            x = torch.einsum("btd,edf->betf", x * self.scale, self.experts).mean(1)
            output: Tensor = self.bilinear(x, x)
            return output

    model = Many()
    forward = Forward(
        trace(model, torch.zeros(2, 4, 16)), lambda name, *_: parameter_moments(model)[name]
    ).finish()
    assert set(forward.parameters) == {name for name, _ in model.named_parameters()}
