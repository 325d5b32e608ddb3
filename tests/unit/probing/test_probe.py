"""Which calls have rows, what is in them, and what a probe refuses."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed import HashStore
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.utils.checkpoint import checkpoint

import fanin
from fanin.errors import ArgumentError, PlanError, ProbeError
from fanin.probing import SignalReport, probe


class Calls(nn.Module):
    """Modules by name, and a function of them and the input for a forward."""

    def __init__(self, forward: Callable[[Any, Any], Any], **modules: nn.Module) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)
        self.does = forward

    def forward(self, x: Any) -> Any:
        return self.does(self, x)


def names(report: SignalReport) -> list[str]:
    return [row.name for row in report.rows]


def only(report: SignalReport, name: str) -> Any:
    (row,) = [row for row in report.rows if row.name == name]
    return row


X = torch.linspace(-2, 2, 12).reshape(3, 4)


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


def test_gradients_are_those_of_autograd() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    report = probe(model, X, loss=lambda y: y.square().mean())
    kept: list[Tensor] = []
    y: Tensor = X
    for layer in model:
        y = layer(y)
        y.retain_grad()
        kept.append(y)
    loss = y.square().mean()
    loss.backward()
    assert report.loss == loss.item()
    for row, tensor in zip(report.rows, kept, strict=True):
        assert row.gradient is not None
        assert tensor.grad is not None
        assert row.gradient.rms == pytest.approx(tensor.grad.square().mean().sqrt().item())
    for weight, parameter in zip(report.weights, model.parameters(), strict=True):
        assert parameter.grad is not None
        rms = parameter.grad.square().mean().sqrt().item()
        assert weight.gradient_rms == pytest.approx(rms)
        assert weight.ratio == pytest.approx(rms / parameter.square().mean().sqrt().item())


def test_without_a_loss_each_output_entry_has_gradient_one() -> None:
    model = nn.LSTM(4, 8)
    first, second = probe(model, X[None]), probe(model, X[None])
    assert first.loss is None
    assert first == second
    assert first.rows[0].gradient is not None
    assert first.rows[0].gradient.rms == 1.0
    assert any(note.startswith("no loss") for note in first.notes)


def test_an_output_that_is_one_number_is_the_loss() -> None:
    report = probe(Calls(lambda m, x: m.layer(x).square().mean(), layer=nn.Linear(4, 4)), X)
    assert report.loss is not None
    assert report.loss > 0
    assert names(report) == ["layer", ""]


def test_no_backward_pass() -> None:
    report = probe(nn.Linear(4, 4), X, backward=False)
    assert report.rows[0].gradient is None
    assert report.weights[0].gradient_rms is None
    assert (report.loss, report.notes) == (None, ())


def test_nothing_asks_for_a_gradient() -> None:
    report = probe(nn.Linear(4, 4).requires_grad_(False), X)
    assert report.rows[0].gradient is None
    assert any(note.startswith("no gradients") for note in report.notes)


def test_an_input_that_asks_for_a_gradient_is_enough() -> None:
    frozen = nn.Sequential(nn.Linear(4, 4), nn.Tanh()).requires_grad_(False)
    for x in (X.clone().requires_grad_(), X.clone().requires_grad_() * 2):
        assert probe(frozen, x).rows[0].gradient is not None


def test_a_frozen_weight_has_no_gradient() -> None:
    model = nn.Linear(4, 4)
    model.weight.requires_grad_(False)
    weight, bias = probe(model, X).weights
    assert weight.gradient_rms is None
    assert bias.gradient_rms is not None


def test_weights_that_are_not_finite_and_sparse_gradients() -> None:
    table = nn.Embedding(10, 4, sparse=True)
    model = nn.Sequential(table, nn.Linear(4, 4))
    with torch.no_grad():
        model[1].weight[0, 0] = torch.nan
    rows = {row.name: row for row in probe(model, torch.tensor([1, 1, 2])).weights}
    assert math.isnan(rows["1.weight"].std)
    assert math.isnan(rows["0.weight"].gradient_rms or 0.0)
    with torch.no_grad():
        model[1].weight.fill_(0.5)
    report = probe(model, torch.tensor([1, 1, 2]), loss=lambda y: y.sum())
    found = report.weights[0].gradient_rms
    # Each looked-up row gets 4 · 0.5 in each entry, row 1 twice.
    assert found == pytest.approx(math.sqrt((4.0**2 + 2.0**2) * 4 / 40))


# Inputs and outputs.


@dataclass
class Pair:
    """A model's own type of output."""

    states: Tensor
    logits: Tensor


def test_any_nesting() -> None:
    def forward(m: Any, x: Any) -> Any:
        hidden = m.layer(x["a"][0])
        return {"ids": x["ids"], "pair": Pair(hidden * 2, hidden + x["a"][1].double().mean())}

    model = Calls(forward, layer=nn.Linear(4, 4))
    inputs = {"x": {"a": (X, X.bfloat16()), "ids": torch.arange(3)}}
    report = probe(model, inputs)
    assert names(report) == ["layer", ""]
    assert report.rows[1].output.rms == pytest.approx(2 * report.rows[0].output.rms)
    assert report.rows[1].gradient is not None


def test_positional_and_keyword_arguments() -> None:
    class Model(nn.Module):
        def forward(self, x: Tensor, *, scale: Tensor) -> Tensor:
            return x * scale

    assert names(probe(Model(), {"x": X, "scale": X})) == [""]
    assert names(probe(nn.Bilinear(4, 4, 2), (X, X))) == [""]


def test_outputs_without_numbers_have_no_row() -> None:
    class Largest(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.argmax(-1)

    model = Calls(lambda m, x: (m.layer(x), m.largest(x)), layer=nn.Linear(4, 4), largest=Largest())
    assert names(probe(model, X)) == ["layer"]


def test_what_is_not_finite_counts_in_every_output() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x / 0

    (row,) = probe(Two(), X + 0.1).rows
    assert (row.output.rms > 0, row.output.infs) == (True, 12)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints(reentrant: bool) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.last(checkpoint(m.block, m.first(x), use_reentrant=reentrant))

    block = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    model = Calls(forward, first=nn.Linear(4, 4), block=block, last=nn.Linear(4, 4))
    report = probe(model, X)
    assert names(report) == ["first", "block.0", "block.1", "last"]
    assert only(report, "first").gradient is not None
    assert (only(report, "block.0").gradient is None) == reentrant
    assert all(weight.gradient_rms for weight in report.weights)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert any("checkpoint" in note for note in report.notes) == reentrant


def test_wrappers_are_left_out() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    assert names(probe(nn.DataParallel(model), X)) == ["0", "1"]
    average = torch.optim.swa_utils.AveragedModel(model)
    assert names(probe(average, X)) == ["0", "1"]


def test_compiled_modules_run_as_written() -> None:
    def fails(*_: object) -> None:
        raise AssertionError("compiled")

    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    assert names(probe(torch.compile(model, backend=fails), X)) == ["0", "1"]
    model[0].compile(backend=fails)
    assert names(probe(model, X)) == ["0", "1"]


# What a probe refuses.


def test_a_model_without_values() -> None:
    model = nn.Linear(4, 4, device="meta")
    with pytest.raises(PlanError, match=r"Got the meta device for 'weight', 'bias'\. Initialize"):
        probe(model, X)


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_a_model_without_shapes() -> None:
    with pytest.raises(PlanError, match=r"Got lazy ones: 'weight', 'bias'\. Give them shapes"):
        probe(nn.LazyLinear(4), X)


def test_the_module_that_raises_is_named() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Tanh(), nn.Linear(5, 4)))
    with pytest.raises(ProbeError, match=r"Got RuntimeError \(mat1 .*\) in '1\.1' \(Linear\)"):
        probe(model, X)
    with pytest.raises(ProbeError, match=r"Got TypeError .* in Sequential"):
        probe(model, (X, X))


def test_the_gradient_that_arrived_last_is_named() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        hidden = m.first(x)
        hidden = hidden * 1
        hidden.register_hook(lambda gradient: gradient[0, 0, 0])
        return m.last(hidden)

    model = Calls(forward, first=nn.Linear(4, 4), last=nn.Linear(4, 4))
    with pytest.raises(ProbeError, match=r"IndexError .* after 'last' had got its gradient"):
        probe(model, X)


@pytest.mark.parametrize(
    ("loss", "got"),
    [
        (lambda y: y, r"a torch.float32 tensor of shape \(3, 4\)"),
        (lambda y: 1.0, "1.0"),
        (lambda y: y.argmax(), r"a torch.int64 tensor of shape \(\)"),
    ],
)
def test_a_loss_is_one_number(loss: Any, got: str) -> None:
    with pytest.raises(ArgumentError, match=f"one floating-point number as a tensor. Got {got}"):
        probe(nn.Linear(4, 4), X, loss=loss)


def test_the_plan_of_another_model() -> None:
    plan = fanin.plan(nn.Sequential(nn.Linear(4, 4)), "kaiming", seed=0)
    with pytest.raises(ArgumentError, match=r"Got one for '0.bias', '0.weight', and a model with"):
        probe(nn.Linear(4, 4), X, plan=plan)


# Models and arguments that a probe cannot take, or takes with a note.


def test_what_is_no_module_and_no_plan() -> None:
    function: Any = torch.tanh
    name: Any = "kaiming"
    with pytest.raises(ArgumentError, match=r"the model is an nn.Module. Got builtin_function"):
        probe(function, X)
    with pytest.raises(ArgumentError, match=r"plan= is a Plan. Got 'kaiming'. Make one with"):
        probe(nn.Linear(4, 4), X, plan=name)


def test_a_program_of_torch_jit_is_refused() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        program = torch.jit.trace(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), X)
    with pytest.raises(ArgumentError, match=r"torch.jit program does not. Got one for all of it"):
        probe(program, X)
    with pytest.raises(ArgumentError, match=r"torch.jit program does not. Got one for '1'\. Probe"):
        probe(nn.Sequential(nn.ReLU(), program), X)


def test_shards_are_refused(one_process_mesh: DeviceMesh) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    fully_shard(model, mesh=one_process_mesh)
    with pytest.raises(ArgumentError, match=r"Got pieces, or DTensors, for '0.weight', '0.bias'\."):
        probe(model, X)


@pytest.fixture
def one_process_mesh() -> Iterator[DeviceMesh]:
    torch.distributed.init_process_group("gloo", rank=0, world_size=1, store=HashStore())
    yield init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


def test_calls_inside_vmap_have_no_row_but_a_note() -> None:
    model = Calls(lambda m, x: torch.func.vmap(lambda v: torch.tanh(m.l(v)))(x), l=nn.Linear(4, 4))
    report = probe(model, X)
    assert names(report) == [""]
    assert "no rows inside torch.func transforms: 'l'" in report.notes
    gradient = {row.name: row.gradient_rms for row in report.weights}["l.weight"]
    assert gradient is not None
    assert gradient > 0


def test_a_frozen_float8_parameter_is_measured() -> None:
    model = nn.Linear(4, 4)
    values = torch.linspace(-1, 1, 6000).reshape(2, 3000).t().to(torch.float8_e4m3fn)
    model.scales = nn.Parameter(values, requires_grad=False)
    (row,) = [row for row in probe(model, X).weights if row.name == "scales"]
    assert row.std == pytest.approx(float(values.double().std(correction=0)))
    assert row.histogram is not None
    assert (row.histogram.low, row.histogram.high) == (-1, 1)


@pytest.mark.parametrize("backward", [True, False])
def test_a_model_made_in_inference_mode(backward: bool) -> None:
    with torch.inference_mode():
        model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    with pytest.raises(ProbeError, match=r"Make the model outside torch.inference_mode\(\), or"):
        probe(model, X, backward=backward)
    assert probe(copy.deepcopy(model), X).rows[0].gradient is not None


def test_inputs_made_in_inference_mode() -> None:
    with torch.inference_mode():
        x = torch.ones(3, 4)
    assert probe(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), x).rows[0].gradient is not None


def test_a_computed_weight_has_no_gradient_but_a_note() -> None:
    report = probe(nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))), X)
    assert "no gradients of weights that are computed: '0.weight'" in report.notes
    assert {row.name: row.gradient_rms is None for row in report.weights} == {
        "0.weight": True,
        "0.bias": False,
    }


def test_a_loss_that_is_nan_is_reported() -> None:
    loss = probe(nn.Linear(4, 4), X, loss=lambda y: (y * torch.inf).sum()).loss
    assert loss is not None
    assert not math.isfinite(loss)
