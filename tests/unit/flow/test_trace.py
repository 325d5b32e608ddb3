"""What a trace records: operations, values, modules, arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint

import fanin
from fanin.flow import Operation, Trace, Value, trace


class Calls(nn.Module):
    """Calls one function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


def names(found: Trace) -> list[str]:
    return [operation.name for operation in found.operations]


def labels(operation: Operation) -> list[str | None]:
    return [v.parameter or v.buffer or v.argument for v in operation.inputs]


def replayed(found: Trace, given: dict[Value, Tensor]) -> list[Tensor]:
    """The outputs of a trace, from calling its functions again."""

    def fill(nested: Any) -> Any:
        if isinstance(nested, Value):
            return given[nested]
        if isinstance(nested, dict):
            return {key: fill(item) for key, item in nested.items()}
        return type(nested)(map(fill, nested)) if type(nested) in (list, tuple) else nested

    def tensors(result: Any) -> list[Tensor]:
        if isinstance(result, Tensor):
            return [result]
        return [tensor for item in result for tensor in tensors(item)]

    for operation in found.operations:
        result = operation.function(*fill(operation.args), **fill(dict(operation.kwargs)))
        given.update(zip(operation.outputs, tensors(result), strict=True))
    return [given[value] for value in found.outputs]


def test_each_step_is_one_operation_in_its_module() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten())
    found = trace(net.eval(), torch.empty(2, 3, 8, 8))
    assert names(found) == ["conv2d", "batch_norm", "relu", "flatten"]
    assert [operation.module for operation in found.operations] == ["0", "1", "2", "3"]
    assert labels(found.operations[0]) == ["0", "0.weight", "0.bias"]
    assert labels(found.operations[1])[1:3] == ["1.running_mean", "1.running_var"]
    assert [value.shape for value in found.outputs] == [(2, 144)]
    assert [(call.name, call.kind) for call in found.calls][-1] == ("", "Sequential")
    assert found.notes == ()


def test_producers_and_consumers() -> None:
    found = trace(nn.Sequential(nn.Linear(3, 4), nn.Tanh()), torch.empty(2, 3))
    linear, tanh = found.operations
    assert found.producer(tanh.inputs[0]) is linear
    assert found.consumers(linear.outputs[0]) == (tanh,)
    assert found.producer(found.arguments[0]) is None
    assert found.consumers(found.outputs[0]) == ()


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x + 1, ["add"]),
        (lambda x: 1 + x, ["add"]),
        (lambda x: torch.add(x, x), ["add"]),
        (lambda x: x.add_(1), ["add"]),
        (lambda x: x.__iadd__(x), ["add"]),
        (lambda x: 1 - x, ["rsub"]),
        (lambda x: 1 / x, ["rdiv"]),
        (lambda x: x / 2, ["div"]),
        (lambda x: F.relu(x, inplace=True), ["relu"]),
        (lambda x: torch.special.expit(x), ["sigmoid"]),
        (lambda x: x.mT, ["t"]),
        (lambda x: F.max_pool1d(x, 2), ["max_pool1d"]),
        (lambda x: F.adaptive_avg_pool1d(x, 2), ["adaptive_avg_pool1d"]),
        (lambda x: x.contiguous().to(x.dtype), []),
        (lambda x: x.cpu().cuda().to("cuda:1"), []),
        (lambda x: x.to("cuda", torch.float64), ["to"]),
        (lambda x: x.to(torch.zeros((), dtype=torch.float64)), ["zeros", "to"]),
        (lambda x: x * torch.ones(x.shape[-1], device="cuda"), ["ones", "mul"]),
    ],
)
def test_names_are_those_of_torch_whatever_the_spelling(
    function: Callable[[Tensor], Tensor], expected: list[str]
) -> None:
    assert names(trace(Calls(function), torch.empty(2, 4, 4))) == expected


def test_a_tensor_that_was_written_is_another_value() -> None:
    def function(x: Tensor) -> Tensor:
        x.view(-1)[:2].mul_(2.0)
        x[:, 0] += 3
        y = torch.zeros_like(x)
        y[:, 1:] = x[:, 1:]
        return y

    found = trace(Calls(function), torch.empty(2, 3))
    x = torch.randn(2, 3)
    [again] = replayed(found, {found.arguments[0]: x.clone()})
    assert torch.equal(again, function(x.clone()))


def test_views_are_visible_to_the_recorder() -> None:
    """``Tensor._base`` is private; here it fails if torch changes what it is without gradients."""
    with torch.no_grad():
        whole = torch.empty(3, 4, device="meta")
        assert whole[0].view(2, 2)._base is whole
        assert whole._base is None


def test_functions_called_again_compute_what_the_model_does() -> None:
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    x = torch.randn(2, 5, 8)
    found = trace(model, x)
    given = {value: model.get_parameter(name) for name, value in found.parameters.items()}
    with torch.no_grad():
        [again] = replayed(found, {**given, found.arguments[0]: x})
        torch.testing.assert_close(again, model(x))


@pytest.mark.parametrize("is_training", [True, False])
def test_attention_is_opened_and_its_fast_path_is_not_taken(is_training: bool) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).train(is_training)
    model = nn.TransformerEncoder(layer, 2)
    found = trace(model, torch.empty(2, 5, 8))
    assert names(found).count("scaled_dot_product_attention") == 2
    assert names(found).count("linear") == 8
    assert not any("fast" in name or "multi_head" in name for name in names(found))
    assert found.users("layers.1.self_attn.in_proj_weight")[0].module == "layers.1.self_attn"


def test_attention_with_weights_shows_its_softmax() -> None:
    found = trace(nn.MultiheadAttention(8, 2), (torch.empty(5, 1, 8),) * 3)
    assert "softmax" in names(found)
    assert len(found.outputs) == 2


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_networks_are_one_operation(kind: Callable[..., nn.Module]) -> None:
    found = trace(kind(3, 4, num_layers=2, bidirectional=True), torch.empty(7, 1, 3))
    assert names(found)[-1] in ("lstm", "gru", "rnn_tanh")
    assert len(found.users("weight_hh_l1_reverse")) == 1


@pytest.mark.parametrize(
    "wrap",
    [
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
        parametrizations.orthogonal,
        nn.utils.spectral_norm,
    ],
)
def test_a_weight_that_is_computed_is_a_parameter(wrap: Callable[[nn.Module], nn.Module]) -> None:
    model = nn.Sequential(wrap(nn.Linear(3, 3)), nn.ReLU(), wrap(nn.Linear(3, 3)))
    found = trace(model, torch.empty(2, 3))
    assert names(found) == ["linear", "relu", "linear"]
    assert labels(found.operations[0]) == ["0", "0.weight", "0.bias"]
    assert found.followed_by("0.weight") == ("relu",)


def test_a_parametrization_that_fails_where_the_model_goes_on() -> None:
    refuses = False

    class Refuses(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            if refuses:
                raise ValueError
            return weight

    class Tries(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tried, self.taken = nn.Linear(2, 3), nn.Linear(2, 2)
            parametrize.register_parametrization(self.tried, "weight", Refuses())

        def forward(self, x: Tensor) -> Tensor:
            try:
                return torch.tanh(self.tried(x))
            except ValueError:
                return torch.relu(self.taken(x))

    model = Tries()
    assert names(trace(model, torch.empty(1, 2))) == ["linear", "tanh"]
    refuses = True
    found = trace(model, torch.empty(1, 2))
    assert [(operation.name, operation.module) for operation in found.operations] == [
        ("linear", "taken"),
        ("relu", ""),
    ]


def test_tied_and_wrapped_parameters_go_by_their_owner() -> None:
    net = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 7, bias=False))
    net[1].weight = net[0].weight
    found = trace(AveragedModel(net), torch.zeros(1, 3, dtype=torch.long))
    assert [operation.name for operation in found.users("0.weight")] == ["embedding", "linear"]
    assert found.users("1.weight") == ()
    assert [operation.module for operation in found.operations] == ["0", "1"]


def test_a_shared_module_has_two_calls_of_its_first_name() -> None:
    layer = nn.Linear(4, 4)
    found = trace(nn.Sequential(layer, nn.ReLU(), layer), torch.empty(1, 4))
    users = found.users("0.weight")
    assert [(operation.module, operation.call) for operation in users] == [("0", 0), ("0", 1)]
    assert found.followed_by("0.weight") == ("relu", "output")
    assert [(call.name, call.call) for call in found.calls if call.name] == [
        ("0", 0),
        ("1", 0),
        ("0", 1),
    ]


def test_arguments_are_named_by_place_key_and_depth() -> None:
    x = torch.empty(2)
    function = Calls(lambda *args, **kwargs: x.new_zeros(2))
    assert [v.argument for v in trace(function, x).arguments] == ["0"]
    assert [v.argument for v in trace(function, (x, [x.clone()])).arguments] == ["0", "1.0"]
    given = {"a": x, "state": {"h": x.clone()}}
    assert [v.argument for v in trace(function, given).arguments] == ["a", "state.h"]


def test_deferred_meta_and_real_models_have_one_trace() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2))

    with fanin.deferred():
        deferred = build()
    with torch.device("meta"):
        meta = build()
    traces = [trace(model, torch.empty(1, 3)) for model in (build(), deferred, meta)]
    described = [[(o.name, labels(o)) for o in found.operations] for found in traces]
    assert described[0] == described[1] == described[2]


def test_branches_go_as_the_values_that_need_no_parameter_say() -> None:
    class Masked(nn.Module):
        limit: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)
            self.register_buffer("limit", torch.tensor([3]))

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            positions = torch.arange(mask.shape[1], device=x.device)
            x = self.linear(x)
            if bool((mask & (positions < self.limit)).all()):
                return torch.tanh(x)
            return torch.relu(x[mask]) * int(mask.sum())

    x, full = torch.empty(1, 3, 4), torch.ones(1, 3, dtype=torch.bool)
    assert trace(Masked(), (x, full)).followed_by("linear.weight") == ("tanh",)
    partly = full.clone()
    partly[0, 1] = False
    found = trace(Masked(), (x, partly))
    assert found.followed_by("linear.weight") == ("relu",)
    assert found.outputs[0].shape == (2, 4)
    assert found.operations[-1].args[1] == 2


def test_a_constant_that_nothing_made_is_told() -> None:
    class Holds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.randn(4)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.table

    found = trace(Holds(), torch.empty(2, 4))
    assert len(found.notes) == 1
    assert "a tensor of shape (4,)" in found.notes[0]


class Doubled(torch.autograd.Function):
    """A function with a gradient of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0] * 2


doubled: Any = Doubled.apply


@pytest.mark.parametrize(
    ("wrap", "expected"),
    [
        (lambda layer: lambda x: checkpoint(layer, x, use_reentrant=False), ["linear", "tanh"]),
        (lambda layer: lambda x: doubled(layer(x)), ["linear", "mul", "tanh"]),
        (lambda layer: torch.compile(layer, backend="eager"), ["linear", "tanh"]),
        (torch.func.vmap, ["linear", "tanh"]),
    ],
)
def test_what_runs_around_a_module(wrap: Callable[..., Any], expected: list[str]) -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(wrap(self.layer)(x))

    found = trace(Wrapped(), torch.empty(2, 4))
    # A checkpoint of torch 2.10 and older makes an empty tensor of its own.
    assert [name for name in names(found) if name != "empty"] == expected
    is_mapped = wrap is torch.func.vmap  # inside it tensors are others, which is noted
    assert found.followed_by("layer.weight") == (() if is_mapped else ("tanh",))
    assert bool(found.notes) == is_mapped
    assert all("code that torch does not see" in note for note in found.notes)


def test_a_compiled_model_goes_by_its_own_names() -> None:
    model: Any = torch.compile(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), backend="eager")
    assert trace(model, torch.empty(3, 4)).followed_by("0.weight") == ("relu",)
