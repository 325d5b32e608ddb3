"""What a sharded model meets besides its first initialization, each in two processes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from processes import run
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import (
    DTensor,
    Partial,
    Replicate,
    Shard,
    distribute_tensor,
)
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)

import fanin
from fanin.drawing.targets import WriteError
from fanin.errors import PlanError
from fanin.geometry import Region
from fanin.initializers import normal

EVERYTHING = {"**": normal(std=0.5)}


def blocks() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))


def whole() -> nn.Sequential:
    model = blocks()
    fanin.initialize(model, EVERYTHING, seed=3)
    return model


def sharded() -> nn.Sequential:
    model = blocks()
    fully_shard(model[0])
    return fully_shard(model)


def same(ours: nn.Module, theirs: nn.Module) -> None:
    for (name, parameter), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        held = parameter.full_tensor() if isinstance(parameter, DTensor) else parameter
        assert torch.equal(held, other), name


def after_a_forward() -> None:
    model, inputs = sharded(), torch.randn(2, 4)
    model(inputs)
    gathered = model[2].weight
    assert not isinstance(gathered, DTensor)  # and what is written into it is lost
    fanin.initialize(model, EVERYTHING, seed=3)
    assert isinstance(model[2].weight, DTensor)
    same(model, whole())
    torch.testing.assert_close(model(inputs), whole()(inputs))
    fanin.plan(model, EVERYTHING, seed=3).apply(model)
    same(model, whole())


def in_training() -> None:
    model = sharded()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.randn(2, 4)).sum().backward()
    optimizer.step()
    fanin.initialize(model, EVERYTHING, seed=3)
    same(model, whole())
    saved = (model[0].weight.clone() * model[0].weight).sum()
    fanin.initialize(model, EVERYTHING, seed=3)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        saved.backward()


def in_another_dtype() -> None:
    model = sharded()
    fanin.initialize(model, EVERYTHING, seed=3, dtype=torch.bfloat16, device="cpu")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    other = blocks()
    fanin.initialize(other, EVERYTHING, seed=3, dtype=torch.bfloat16)
    same(model, other)


def in_another_dtype_after_a_forward() -> None:
    """FSDP2 would gather the old dtype: refused before the first write, and the model still runs.

    That torch's own conversion fails is what makes the refusal right; it is asked too.
    """
    inputs = torch.randn(2, 4)
    for start in (lambda model: model(inputs), lambda model: [m.unshard() for m in fsdp(model)]):
        model = sharded()
        fanin.initialize(model, EVERYTHING, seed=3, dtype=torch.bfloat16)
        fanin.initialize(model, EVERYTHING, seed=3, dtype=torch.float32)  # as often as one likes
        start(model)
        for options in ({"dtype": torch.bfloat16}, {"device": "cuda:0"}):
            with pytest.raises(PlanError, match=r"first forward pass. Got d.*, which has run"):
                fanin.initialize(model, EVERYTHING, seed=4, **options)
        same(model, whole())
        fanin.initialize(model, EVERYTHING, seed=3, dtype=torch.float32, device="cpu")
        torch.testing.assert_close(model(inputs), whole()(inputs))
        same(model, whole())
    model.to(torch.bfloat16)
    with pytest.raises(RuntimeError, match="dtype"):
        model(inputs.bfloat16())


def fsdp(model: nn.Module) -> list[FSDPModule]:
    return [module for module in model.modules() if isinstance(module, FSDPModule)]


class Scaled(nn.Module):
    """With values of its own: one computed, one handed to a layer, one that is copied in."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.arange(1.0, 6))
        self.table = nn.Embedding.from_pretrained(torch.arange(15.0).view(3, 5), freeze=False)
        self.mix = nn.Linear(5, 5)
        self.out = nn.Linear(5, 3)
        with torch.no_grad():
            self.mix.weight.copy_(torch.eye(5))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.out(self.mix(self.table(inputs) * self.scale))


def values_of_a_constructor() -> None:
    """A model that was built under `deferred` has one plan, sharded or not (pain 5)."""
    mesh = init_device_mesh("cpu", (2,))
    recipe = "kaiming"

    def build() -> Scaled:
        with fanin.deferred():
            return Scaled()

    def by_columns(model: Scaled) -> None:
        parallelize_module(model, mesh, {"mix": ColwiseParallel(), "out": RowwiseParallel()})

    def by_hand(model: Scaled) -> None:
        for module in (model, model.table):
            for name, parameter in module.named_parameters(recurse=False):
                spread = distribute_tensor(parameter.detach(), mesh, [Shard(0)])
                module.register_parameter(name, nn.Parameter(spread))

    alone = build()
    plan = fanin.initialize(alone, recipe, seed=3)
    kept = [step.name for step in plan.steps if step.fill is None]
    assert kept == ["scale", "table.weight", "mix.weight"]
    for shard in (lambda model: fully_shard(model.out) and fully_shard(model), by_columns, by_hand):
        model = build()
        shard(model)
        assert fanin.plan(model, recipe, seed=3) == plan
        assert fanin.initialize(model, recipe, seed=3) == plan
        same(model, alone)
        assert fanin.plan(model, recipe, seed=3) == plan

    model = fully_shard(build())
    fanin.initialize(model, recipe, seed=3)
    model(torch.tensor([0, 2]))
    assert not isinstance(model.scale, DTensor)
    assert fanin.plan(model, recipe, seed=3) == plan

    model = build()
    model.scale = nn.Parameter(torch.zeros(5))  # nobody knows this one
    with pytest.raises(PlanError, match="scale"):
        fanin.plan(model, recipe, seed=3)


def values_that_are_lost() -> None:
    """``to_empty`` after sharding leaves other memory under what had a value."""
    with fanin.deferred():
        model = Scaled()
    fully_shard(model)
    kept = [parameter.to_local() for parameter in model.parameters()]  # so as not to get it again
    model.to_empty(device="cpu")
    for parameter in model.parameters():
        parameter.detach().to_local().fill_(0.5)
    for refused in (fanin.plan, fanin.initialize):
        with pytest.raises(PlanError, match=r"(?s)numbers, for\n  scale .*table.weight .*to_empty"):
            refused(model, "kaiming", seed=3)
    assert kept


def sharding_inside_of_deferred() -> None:
    with (
        pytest.raises(PlanError, match=r"sharding of 'weight' of Linear.*Shard after the block"),
        fanin.deferred(),
    ):
        fully_shard(nn.Linear(4, 4))


def buffers_without_memory() -> None:
    mesh = init_device_mesh("cpu", (2,))
    with torch.device("meta"):
        model = nn.Linear(4, 3)
        cache = torch.empty(2, 7, 3)
    model.register_buffer("cache", distribute_tensor(cache, mesh, [Shard(1)], src_data_rank=None))
    fanin.initialize(model, EVERYTHING, seed=3)
    other = nn.Linear(4, 3)
    other.register_buffer("cache", torch.empty(2, 7, 3, device="meta"))
    fanin.initialize(other, EVERYTHING, seed=3)
    assert torch.equal(model.cache.full_tensor(), other.cache)


def refusals() -> None:
    mesh = init_device_mesh("cpu", (2,))
    terms = DTensor.from_local(torch.zeros(4, 3), mesh, [Partial()])
    with pytest.raises(
        WriteError, match=r"normal: Region.of: .*sharded or replicated. Got Partial"
    ):
        fanin.init.normal_(terms)
    with pytest.raises(WriteError, match=r"eye_: Region.of: .*sharded or replicated"):
        fanin.init.eye_(terms)
    model = nn.Linear(3, 4)
    model.weight = nn.Parameter(terms)
    with pytest.raises(PlanError, match=r"apply: 'weight': Region.of: .* Got Partial"):
        fanin.initialize(model, EVERYTHING, seed=3)
    assert terms.to_local().eq(0).all()

    rank = distributed.get_rank()
    uneven = DTensor.from_local(
        torch.zeros(1 + 2 * rank, 3), mesh, [Shard(0)], shape=(4, 3), stride=(3, 1)
    )
    with pytest.raises(WriteError, match=rf"Got \({1 + 2 * rank}, 3\) instead of \(2, 3\)"):
        fanin.init.normal_(uneven)

    normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    with pytest.raises(PlanError, match=r"parametrized weight.*Initialize before sharding"):
        fanin.initialize(fully_shard(normed), EVERYTHING, seed=3)
    with pytest.raises(PlanError, match="Pass the same seed= on every rank"):
        fanin.initialize(sharded(), EVERYTHING)


def outside_of_the_mesh() -> None:
    first = init_device_mesh("cpu", (2,))
    alone = torch.distributed.device_mesh.DeviceMesh("cpu", [0])
    tensor = distribute_tensor(torch.zeros(4, 3), alone, [Shard(0)], src_data_rank=None)
    expected = 12 if first.get_coordinate() == (0,) else 0
    assert Region.of(tensor).numel == expected
    before = torch.get_rng_state()
    fanin.init.normal_(tensor)
    assert tensor.to_local().count_nonzero() == expected
    assert not torch.equal(torch.get_rng_state(), before)


CALLS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "uniform_": ((5, 7), {"a": -1.0}),
    "normal_": ((5, 7), {"std": 2.0}),
    "trunc_normal_": ((5, 7), {}),
    "constant_": ((5, 7), {"val": 3.0}),
    "ones_": ((5, 7), {}),
    "zeros_": ((5, 7), {}),
    "eye_": ((5, 7), {}),
    "dirac_": ((6, 3, 3), {"groups": 2}),
    "xavier_uniform_": ((5, 7), {}),
    "xavier_normal_": ((5, 7), {}),
    "kaiming_uniform_": ((5, 7, 2), {"nonlinearity": "relu"}),
    "kaiming_normal_": ((1, 7), {"mode": "fan_out"}),  # one process holds nothing
    "orthogonal_": ((5, 7), {"gain": 0.5}),
    "sparse_": ((5, 7), {"sparsity": 0.3}),
}


def in_place() -> None:
    mesh = init_device_mesh("cpu", (2,))
    for name, (shape, options) in CALLS.items():
        fill = getattr(fanin.init, name)
        for placement in (Replicate(), Shard(0), Shard(1)):
            for dtype in (torch.float32, torch.complex64):
                if dtype.is_complex and name in ("orthogonal_", "sparse_", "trunc_normal_"):
                    continue
                here = torch.full(shape, torch.nan, dtype=dtype)
                spread = distribute_tensor(here, mesh, [placement])
                states = []
                for tensor in (here, spread):
                    torch.manual_seed(5)
                    assert fill(tensor, **options) is tensor
                    states.append(torch.get_rng_state())
                near = 4e-6 if name == "orthogonal_" else 0
                torch.testing.assert_close(
                    spread.full_tensor(), here, rtol=0, atol=near, msg=lambda m, n=name: f"{n}: {m}"
                )
                assert torch.equal(*states), name


def flattened() -> None:
    """FSDP1: refused in pieces, written where its whole parameters are at hand."""
    for keeps_originals in (True, False):
        model = FullyShardedDataParallel(
            blocks(), use_orig_params=keeps_originals, device_id=torch.device("cpu")
        )
        words = "a flat piece" if keeps_originals else "a FlatParameter"
        with pytest.raises(PlanError, match=f"{words}.*fully_shard.*summon_full_params"):
            fanin.initialize(model, EVERYTHING, seed=3)
        for parameter in model.parameters():
            before = parameter.detach().clone()
            for name, (_, options) in CALLS.items():
                with pytest.raises(WriteError, match=f"{words}.*fully_shard.*summon_full_params"):
                    getattr(fanin.init, name)(parameter, **options)
            assert torch.equal(parameter, before)
        if keeps_originals:
            with pytest.raises(PlanError, match="a flat piece"):
                fanin.plan(model.module, EVERYTHING, seed=3)
        with FullyShardedDataParallel.summon_full_params(model):
            fanin.initialize(model, EVERYTHING, seed=3)
        with FullyShardedDataParallel.summon_full_params(model):
            same(model, whole())
            fill_in_place(model)
        with FullyShardedDataParallel.summon_full_params(model):
            other = blocks()
            fill_in_place(other)
            same(model, other)


def fill_in_place(model: nn.Module) -> None:
    torch.manual_seed(4)
    for parameter in model.parameters():
        fill = fanin.init.normal_ if parameter.dim() == 1 else fanin.init.kaiming_normal_
        fill(parameter)


CASES = (
    after_a_forward,
    in_training,
    in_another_dtype,
    in_another_dtype_after_a_forward,
    values_of_a_constructor,
    values_that_are_lost,
    sharding_inside_of_deferred,
    buffers_without_memory,
    refusals,
    outside_of_the_mesh,
    in_place,
    flattened,
)


def check_all() -> dict[str, str]:
    """What went wrong in each case, if anything did."""
    failed = {}
    for case in CASES:
        try:
            case()
        except Exception as error:
            failed[case.__name__] = f"{type(error).__name__}: {error}"
    return failed


@pytest.fixture(scope="module")
def failures() -> list[dict[str, str]]:
    return run(2, check_all)


@pytest.mark.parametrize("name", [case.__name__ for case in CASES])
def test_sharded(name: str, failures: list[dict[str, str]]) -> None:
    assert [failed.get(name) for failed in failures] == [None, None]
