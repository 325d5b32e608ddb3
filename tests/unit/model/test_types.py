from __future__ import annotations

from collections.abc import Iterator

import pytest
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.utils import parametrizations, parametrize

from fanin.model import module_type
from torch_modules import LAZY


class FSDPLinear(nn.Linear):
    """Written by a user, under a name that torch might have made."""


class ParametrizedBy(nn.Linear):
    pass


@pytest.mark.parametrize("kind", [nn.Linear, FSDPLinear, ParametrizedBy])
def test_a_class_that_somebody_wrote_is_its_own(kind: type[nn.Linear]) -> None:
    assert module_type(kind(2, 3)) is kind


def test_parametrizations_do_not_change_the_type() -> None:
    module = parametrizations.spectral_norm(nn.Linear(2, 3))
    parametrize.register_parametrization(module, "bias", nn.Identity())
    assert type(module) is not nn.Linear
    assert module_type(module) is nn.Linear


@pytest.fixture
def one_process() -> Iterator[None]:
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def test_a_sharded_module_has_the_type_it_was_written_as(one_process: None) -> None:
    module = nn.Linear(2, 3)
    fully_shard(module, mesh=init_device_mesh("cpu", (1,)))
    assert type(module) is not nn.Linear
    assert module_type(module) is nn.Linear


@pytest.mark.parametrize("name", LAZY)
def test_a_lazy_module_counts_as_what_it_becomes(name: str) -> None:
    assert module_type(LAZY[name][0]()).__name__ == name.removeprefix("Lazy")


def test_a_lazy_module_that_becomes_nothing_else_is_its_own() -> None:
    class Lazy(nn.modules.lazy.LazyModuleMixin, nn.Module):
        pass

    assert module_type(Lazy()) is Lazy
