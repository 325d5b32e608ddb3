from __future__ import annotations

import copy
import functools
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import UninitializedParameter, is_lazy
from torch.nn.utils import parametrizations

import fanin
from fanin.errors import LayoutError, PlanError
from fanin.initializers import kaiming_normal
from fanin.model.construction import infer_shapes, when_materialized
from torch_modules import LAZY


def shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    held = (*module.named_parameters(), *module.named_buffers())
    return {name: tuple(tensor.shape) for name, tensor in held}


class LazyScale(LazyModuleMixin, nn.Module):
    """A lazy module as users write them: it becomes nothing else, and takes a keyword."""

    def __init__(self, *, is_unsure: bool = False) -> None:
        super().__init__()
        self.is_unsure = is_unsure
        self.scale = UninitializedParameter()

    def initialize_parameters(self, x: Tensor, *, shift: Tensor) -> None:
        if self.has_uninitialized_params():
            self.scale.materialize((shift.shape[0], x.shape[-1]))
            if self.is_unsure and not self.scale.is_meta:
                raise ValueError("not on a real device")

    def forward(self, x: Tensor, *, shift: Tensor) -> Tensor:
        return x @ self.scale.T + shift


class Net(nn.Module):
    """Lazy modules among others, reached by keyword and through containers."""

    def __init__(self, scale: nn.Module | None = None) -> None:
        super().__init__()
        self.rnn = nn.LSTM(5, 6, batch_first=True)
        self.norm = nn.LazyBatchNorm1d()
        self.scale = scale or LazyScale()
        self.head = parametrizations.spectral_norm(nn.Linear(4, 4))
        self.last = nn.LazyLinear(2)
        self.register_buffer("is_on", torch.tensor(True))
        self.plain = torch.ones(4)  # neither parameter nor buffer

    def forward(self, x: Tensor, *, extra: dict[str, list[Tensor]]) -> Tensor:
        states, _ = self.rnn(x)
        scaled = self.scale(self.norm(states[:, -1]), shift=extra["shift"][0])
        scaled = self.head(scaled) * self.plain + torch.arange(4)
        return self.last(scaled if self.is_on else scaled[:, :1])


INPUTS = {"x": torch.ones(1, 3, 5), "extra": {"shift": [torch.ones(4)]}}


@pytest.mark.parametrize("name", LAZY)
def test_every_lazy_module_of_torch_gets_the_shapes_of_a_real_forward(name: str) -> None:
    build, shape = LAZY[name]
    inferred, real = build(), build()
    infer_shapes(inferred, torch.empty(shape))
    real(torch.empty(shape).zero_())
    assert type(inferred) is type(real)
    assert shapes(inferred) == shapes(real)
    assert vars(inferred).keys() == vars(real).keys()
    inferred(torch.empty(shape).zero_())


def test_users_own_lazy_modules_and_nested_keywords() -> None:
    net = Net()
    infer_shapes(net, INPUTS)
    assert shapes(net)["scale.scale"] == (4, 6)
    assert shapes(net)["norm.running_var"] == (6,)
    assert type(net.last) is nn.Linear
    assert net.eval()(**INPUTS).shape == (1, 2)


@pytest.mark.parametrize("inputs", [torch.ones(2, 3), (torch.ones(2, 3),), {"x": torch.ones(2, 3)}])
def test_inputs_are_a_tensor_or_positional_or_by_keyword(inputs: object) -> None:
    class Only(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.LazyLinear(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x)

    only = Only()
    infer_shapes(only, inputs)
    assert shapes(only) == {"layer.weight": (4, 3), "layer.bias": (4,)}


def test_nothing_but_the_lazy_modules_changes() -> None:
    net = Net().train()
    calls: list[nn.Module] = []
    for module in net.modules():
        module.register_forward_pre_hook(lambda module, _: calls.append(module))
        module.register_forward_hook(lambda module, *_: calls.append(module))
    parameters = list(net.parameters())
    before = {n: t.clone() for n, t in net.state_dict().items() if not is_lazy(t)}
    state = torch.get_rng_state()
    infer_shapes(net, INPUTS)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in net.modules())
    assert not calls
    assert all(a is b for a, b in zip(net.parameters(), parameters, strict=True))
    after = net.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert torch.equal(net.norm.running_var, torch.ones(6))
    net.eval()(**INPUTS)
    assert calls  # the hooks are still there


def test_a_model_without_lazy_modules_is_left_alone() -> None:
    infer_shapes(nn.Linear(2, 3), "no input at all")


def test_devices_and_dtypes_stay() -> None:
    layer = nn.LazyLinear(4, device="meta", dtype=torch.bfloat16)
    infer_shapes(layer, torch.empty(2, 3, dtype=torch.bfloat16))
    assert layer.weight.is_meta
    assert layer.weight.dtype == torch.bfloat16


def test_shapes_alone_are_enough_for_a_huge_layer() -> None:
    layer = nn.Sequential(nn.LazyLinear(2**20, device="meta"), nn.LazyLinear(2**20, device="meta"))
    infer_shapes(layer, torch.empty(8, 4))
    assert layer[1].weight.shape == (2**20, 2**20)


class NeedsValues(Net):
    def forward(self, x: Tensor, *, extra: dict[str, list[Tensor]]) -> Tensor:
        result = super().forward(x, extra=extra)
        return result[result > 0][: int(x.sum())]


class SkipsOne(Net):
    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.LazyLinear(3)


@pytest.mark.parametrize(
    ("build", "inputs", "message"),
    [
        (Net, {**INPUTS, "x": torch.ones(1, 3, 7)}, r"in 'rnn' \(LSTM\)"),
        (NeedsValues, INPUTS, r"(?s)in 'the model' \(NeedsValues\).* One real forward pass"),
        (SkipsOne, INPUTS, r"none for unused\.weight, unused\.bias"),
        (lambda: Net(LazyScale(is_unsure=True)), INPUTS, r"ValueError in 'scale': not on a real"),
        (Net, {"x": (i for i in "x")}, r"TypeError from copy\.deepcopy"),
    ],
)
def test_a_failure_says_where_and_changes_nothing(
    build: Callable[[], nn.Module], inputs: object, message: str
) -> None:
    net = build()
    parameters = list(net.parameters())
    kinds = [type(tensor) for tensor in parameters]
    state = torch.get_rng_state()
    with pytest.raises(PlanError, match=message):
        infer_shapes(net, inputs)
    assert torch.equal(torch.get_rng_state(), state)
    assert [type(tensor) for tensor in parameters] == kinds
    assert all(a is b for a, b in zip(net.parameters(), parameters, strict=True))
    assert type(net.last) is nn.LazyLinear
    if type(net) is Net and not net.scale.is_unsure:  # torch's own hooks are in place again
        net.eval()(**INPUTS)
        assert type(net.last) is nn.Linear


def set_to(value: float, module: Any) -> None:
    with torch.no_grad():
        module.weight.fill_(value)


def test_a_callback_comes_once_after_the_shapes_and_before_the_result() -> None:
    layer = nn.LazyLinear(3, bias=False)
    when_materialized(layer, "weight", functools.partial(set_to, 2.0, layer))
    assert torch.equal(layer(torch.ones(1, 4)), torch.full((1, 3), 8.0))
    set_to(1.0, layer)
    assert torch.equal(layer(torch.ones(1, 4)), torch.full((1, 3), 4.0))
    assert not layer._forward_pre_hooks


def test_loaded_weights_are_not_called_back_for() -> None:
    layer, loaded = nn.LazyLinear(3), nn.Linear(4, 3)
    when_materialized(layer, "weight", functools.partial(set_to, 2.0, layer))
    layer.load_state_dict(loaded.state_dict())
    layer(torch.ones(1, 4))
    assert torch.equal(layer.weight, loaded.weight)
    assert not layer._forward_pre_hooks


def test_callbacks_come_in_order_and_the_last_one_for_a_parameter() -> None:
    layer = nn.LazyLinear(3)
    seen: list[int] = []
    for number, attribute in enumerate(("weight", "bias", "weight")):
        when_materialized(layer, attribute, functools.partial(seen.append, number))
    layer(torch.ones(1, 4))
    assert seen == [2, 1]


def refuse() -> None:
    raise PlanError("refused")


def test_a_callback_that_raises_is_called_again() -> None:
    layer = nn.LazyLinear(3)
    when_materialized(layer, "weight", functools.partial(set_to, 2.0, layer))
    when_materialized(layer, "bias", refuse)
    for each in (layer, layer, copy.deepcopy(layer)):
        with pytest.raises(PlanError, match="refused"):
            each(torch.ones(1, 4))
    set_to(1.0, layer)
    with pytest.raises(PlanError, match="refused"):
        layer(torch.ones(1, 4))  # the weight was called back for, the bias was not
    with torch.no_grad():
        layer.bias.zero_()
    assert torch.equal(layer(torch.ones(1, 4)), torch.full((1, 3), 4.0))
    assert not layer._forward_pre_hooks


def test_a_model_that_failed_can_be_initialized_anew() -> None:
    recipe = {"0.weight": kaiming_normal(), "0.bias": kaiming_normal()}
    net = nn.Sequential(nn.LazyLinear(3))
    fanin.initialize(net, recipe, seed=0)
    for _ in range(2):
        with pytest.raises(LayoutError, match=r"asked for '0.bias'"):
            net(torch.ones(1, 4))
    fanin.initialize(net, "kaiming", seed=0)
    expected = [parameter.clone() for parameter in net.parameters()]
    net(torch.ones(1, 4))
    assert all(map(torch.equal, net.parameters(), expected))


def by_pickle(module: nn.Module) -> nn.Module:
    copied: nn.Module = pickle.loads(pickle.dumps(module))
    return copied


@pytest.mark.parametrize("duplicate", [copy.deepcopy, by_pickle])
def test_a_copy_is_called_back_for_itself(duplicate: Callable[[nn.Module], nn.Module]) -> None:
    layer = nn.LazyLinear(3, bias=False)
    when_materialized(layer, "weight", functools.partial(set_to, 2.0, layer))
    twin = duplicate(layer)
    assert torch.equal(twin(torch.ones(1, 4)), torch.full((1, 3), 8.0))
    assert is_lazy(layer.weight)
    assert torch.equal(layer(torch.ones(1, 4)), torch.full((1, 3), 8.0))


def test_inferring_shapes_does_not_call_back() -> None:
    layer = nn.LazyLinear(3)
    seen: list[int] = []
    when_materialized(layer, "weight", functools.partial(seen.append, 1))
    infer_shapes(layer, torch.empty(2, 4))
    layer(torch.ones(1, 4))
    assert not seen
