from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim.swa_utils import AveragedModel

import fanin
from fanin.errors import ArgumentError, PlanError, UnknownNameError
from fanin.initializers import zeros


def net(*, extra: bool = False) -> nn.Sequential:
    layers = {"a": nn.Linear(4, 4), "extra": nn.Linear(4, 4), "b": nn.Linear(4, 2)}
    if not extra:
        del layers["extra"]
    return nn.Sequential(OrderedDict(layers))


def weights(model: nn.Module, seed: int = 0) -> dict[str, torch.Tensor]:
    fanin.initialize(model, "xavier", seed=seed)
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def test_one_seed_gives_equal_bits() -> None:
    a, b, other = weights(net()), weights(net()), weights(net(), seed=1)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["a.weight"], other["a.weight"])


def test_initialising_again_gives_the_same_bits() -> None:
    model = net()
    first = weights(model)
    assert all(torch.equal(first[name], value) for name, value in weights(model).items())


def test_an_inserted_layer_changes_no_other_parameter() -> None:
    """Pain 18."""
    short, long = weights(net()), weights(net(extra=True))
    assert set(long) - set(short) == {"extra.weight", "extra.bias"}
    assert all(torch.equal(short[name], long[name]) for name in short)


def test_a_clone_under_another_name_differs() -> None:
    """Pain 11."""
    model = weights(net(extra=True))
    assert not torch.equal(model["a.weight"], model["extra.weight"])


def test_a_wrapped_model_gets_the_bits_of_the_plain_one() -> None:
    plain, wrapped = net(), nn.DataParallel(AveragedModel(net()))
    fanin.initialize(plain, "xavier", seed=0)
    fanin.initialize(wrapped, "xavier", seed=0)
    assert torch.equal(plain.a.weight, wrapped.module.module.a.weight)


def test_no_seed_follows_and_records_torchs_generator() -> None:
    torch.manual_seed(3)
    first = fanin.plan(net(), "kaiming").seed
    model = net()
    torch.manual_seed(3)
    assert fanin.plan(model, "kaiming").seed != first  # net() itself took numbers
    torch.manual_seed(3)
    net()
    assert fanin.plan(model, "kaiming").seed == first
    assert 0 <= first < 2**64


def test_a_seed_leaves_torchs_generator_alone() -> None:
    model = net()
    before = torch.get_rng_state()
    fanin.initialize(model, "kaiming", seed=0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("call", [fanin.plan, fanin.initialize])
def test_a_refusal_leaves_torchs_generator_alone(call: Callable[..., object]) -> None:
    model = net()
    before = torch.get_rng_state()
    with pytest.raises(PlanError, match="needs a rule"):
        call(model, {"a.weight": zeros()})
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("recipe", ["kaiming", "orthogonal", "torch_default"])
def test_fake_tensors_go_through_the_motions(recipe: str) -> None:
    """As in an estimate of what a job needs of memory, made from its own code."""
    torch.manual_seed(0)
    real = net()
    torch.manual_seed(0)
    with FakeTensorMode():
        layer = nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))
        model = nn.Sequential(nn.Embedding(4, 8, padding_idx=0), layer)
        made = fanin.initialize(model, recipe)
        assert "8×8" in str(made.table(model))
    torch.manual_seed(0)
    assert fanin.plan(real, recipe).seed == made.seed


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_has_64_bits(seed: int) -> None:
    with pytest.raises(ArgumentError, match=r"\[0, 2\*\*64\)"):
        fanin.plan(net(), "kaiming", seed=seed)


def test_the_largest_seed_works() -> None:
    assert fanin.plan(net(), "kaiming", seed=2**64 - 1).seed == 2**64 - 1


def test_no_seed_is_refused_where_processes_share_a_model(tmp_path) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        with pytest.raises(PlanError, match="share a seed"):
            fanin.plan(net(), "kaiming")
        assert fanin.plan(net(), "kaiming", seed=1).seed == 1
    finally:
        torch.distributed.destroy_process_group()


def test_a_recipe_can_be_a_mapping_or_a_rule() -> None:
    model = net()
    assert fanin.initialize(model, {"**": zeros()}, seed=0).recipe == "custom@1 + 1 rule"
    assert not any(p.any() for p in model.parameters())
    fanin.initialize(model, fanin.rule(nn.Linear, fanin.initializers.ones()), seed=0)
    assert all((p == 1).all() for p in model.parameters())


def test_an_unknown_recipe_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"'kaimin'. Did you mean kaiming@1"):
        fanin.plan(net(), "kaimin", seed=0)


def test_a_model_without_parameters_has_an_empty_plan() -> None:
    assert fanin.initialize(nn.ReLU(), "kaiming", seed=0).steps == ()


def test_values_do_not_depend_on_precision_but_for_rounding() -> None:
    full, half = net(), net().bfloat16()
    fanin.initialize(full, "xavier", seed=0)
    fanin.initialize(half, "xavier", seed=0)
    assert torch.equal(full.a.weight.bfloat16(), half.a.weight)
