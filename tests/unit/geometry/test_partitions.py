"""ZeRO-3's empty parameters never pass for initialized ones (pain 5)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import fanin
from fanin.drawing.targets import WriteError
from fanin.errors import PlanError
from fanin.geometry import partition


def partitioned() -> nn.Linear:
    """A layer whose weight has the attributes that DeepSpeed gives it, and no elements."""
    layer = nn.Linear(4, 3)
    weight: torch.Tensor = layer.weight
    weight.ds_id, weight.ds_shape = 0, weight.shape
    weight.ds_tensor = weight.detach().reshape(-1)[:6].clone()
    weight.data = torch.empty(0)
    return layer


def test_a_partition_is_refused_and_the_way_out_named() -> None:
    layer = partitioned()
    for call in (fanin.plan, fanin.initialize):
        with pytest.raises(
            PlanError, match=r"'weight', a parameter of shape \(3, 4\).*GatheredPar"
        ):
            call(layer, "kaiming", seed=0)
    with pytest.raises(WriteError, match=r"normal: a tensor to fill is whole.*ZeRO-3"):
        fanin.init.normal_(layer.weight)


CALLS: dict[str, dict[str, Any]] = {name: {} for name in fanin.init.__all__ if name.endswith("_")}
CALLS |= {"constant_": {"val": 3.0}, "sparse_": {"sparsity": 0.5}}


@pytest.mark.parametrize("name", CALLS)
def test_every_function_refuses_a_partition(name: str) -> None:
    weight = partitioned().weight
    before = torch.get_rng_state()
    with pytest.raises(WriteError, match=r"tensor to fill is whole.*ZeRO-3.*GatheredParameters"):
        getattr(fanin.init, name)(weight, **CALLS[name])
    assert torch.equal(torch.get_rng_state(), before)


def test_a_piece_whose_flat_parameter_is_out_of_sight_is_refused() -> None:
    bias = nn.Parameter(torch.zeros(3))
    bias._fsdp_flattened = True
    with pytest.raises(WriteError, match=r"a flat piece, of shape \(3,\).*fully_shard"):
        fanin.init.normal_(bias)
    assert not bias.any()
    weight = nn.Parameter(torch.zeros(3, 4))  # pieces are 1-D
    weight._fsdp_flattened = True
    assert fanin.init.normal_(weight).count_nonzero() == 12


def test_a_gathered_parameter_is_written() -> None:
    layer = partitioned()
    layer.weight.data = torch.zeros(3, 4)
    assert partition(layer.weight) is None
    fanin.initialize(layer, "kaiming", seed=0)
    assert layer.weight.count_nonzero() == 12


def test_a_whole_parameter_is_none() -> None:
    assert partition(torch.empty(0)) is None
