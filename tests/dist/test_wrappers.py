"""Wrapping a model changes no parameter's name, and so no bit (pains 18, 37)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import distributed, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.optim.swa_utils import AveragedModel

import fanin
from fanin.model import entries, sites


@pytest.fixture(autouse=True)
def group(tmp_path: Path) -> Iterator[None]:
    """A process group of one."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    yield
    distributed.destroy_process_group()


class Net(nn.Module):
    """With an attribute called as wrappers call theirs, and a tie."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        self.head = nn.Linear(4, 4, bias=False)
        self.head.weight = self.module[0].weight


NAMES = [
    ("module.0.weight", "head.weight"),
    ("module.0.bias",),
    ("module.1.weight",),
    ("module.1.bias",),
]

WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "DDP": nn.parallel.DistributedDataParallel,
    "DataParallel": nn.DataParallel,
    "torch.compile": lambda model: torch.compile(model, backend="eager"),
    "AveragedModel": AveragedModel,
    "checkpoint": checkpoint_wrapper,
    "several": lambda model: torch.compile(
        nn.parallel.DistributedDataParallel(checkpoint_wrapper(model)), backend="eager"
    ),
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_a_wrapped_model_gets_the_bits_of_the_model(wrap: Callable[[nn.Module], nn.Module]) -> None:
    plain = Net()
    wrapped = wrap(copy.deepcopy(plain))
    assert [entry.names for entry in entries(wrapped)] == NAMES
    assert fanin.initialize(wrapped, "kaiming", seed=0) == fanin.initialize(
        plain, "kaiming", seed=0
    )
    for ours, theirs in zip(plain.parameters(), wrapped.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_block_that_is_wrapped_inside_keeps_its_name() -> None:
    model = nn.Sequential(checkpoint_wrapper(nn.Linear(2, 2)), nn.Linear(2, 2))
    assert [site.name for site in sites(model)] == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert next(sites(model)).stored == ("0._checkpoint_wrapped_module.weight",)


def test_sharded_models_keep_their_names_and_types() -> None:
    sharded = fully_shard(Net(), mesh=distributed.init_device_mesh("cpu", (1,)))
    assert [entry.names for entry in entries(sharded)] == NAMES
    plan = fanin.plan(sharded, "kaiming", seed=0)
    assert plan.fingerprint() == fanin.plan(Net(), "kaiming", seed=0).fingerprint()
    with pytest.warns(UserWarning, match="NO_SHARD"):
        flat = FullyShardedDataParallel(
            nn.Sequential(nn.Linear(4, 4)), use_orig_params=True, device_id=torch.device("cpu")
        )
    assert [site.name for site in sites(flat)] == ["0.weight", "0.bias"]
