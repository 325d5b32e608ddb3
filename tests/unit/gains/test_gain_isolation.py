"""Asking for a gain changes nothing outside, and nothing outside changes the gain."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from fanin.gains import gain


class _Stateful(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(0.5))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return torch.where(x > 0, x, self.slope * x)


@pytest.mark.parametrize("of", ["second_moment", "backward"])
@pytest.mark.parametrize("method", ["quadrature", "empirical"])
def test_a_module_is_left_as_it_was(of: str, method: str) -> None:
    module = nn.Sequential(_Stateful(), nn.RReLU())
    module[0].slope.grad = torch.tensor(7.0)
    module[1].eval()
    gain(module, of=of, method=method)
    assert module[0].calls == 0
    assert module[0].slope.grad == 7
    assert module[0].slope.dtype == torch.float32
    assert module[0].slope.requires_grad
    assert module.training
    assert not module[1].training


def test_closed_over_parameters_get_no_grad() -> None:
    slope = torch.tensor(0.5, requires_grad=True)
    assert gain(lambda x: x * slope, of="backward") == pytest.approx(2)
    assert slope.grad is None


@pytest.mark.parametrize("nonlinearity", ["softsign", lambda x: x + 0 * torch.rand(()), "relu"])
@pytest.mark.parametrize("method", ["quadrature", "empirical"])
def test_generators_and_modes_are_left_as_they_were(nonlinearity: object, method: str) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1]
    with torch.no_grad():
        gain(nonlinearity, of="backward", method=method)
        assert not torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


@pytest.fixture(
    params=[
        torch.no_grad,
        torch.inference_mode,
        FakeTensorMode,
        lambda: torch.device("meta"),
        lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    ],
    ids=["no_grad", "inference", "fake", "meta", "autocast"],
)
def mode(request: pytest.FixtureRequest) -> AbstractContextManager[object]:
    return request.param()


def test_the_callers_modes_do_not_matter(mode: AbstractContextManager[object]) -> None:
    expected = gain("elu", 1.25, of="backward")
    module = nn.ELU(1.25)
    with mode:
        assert gain(module, of="backward") == pytest.approx(expected, rel=1e-12)
        # Named, by the way that no cache answers.
        sampled = gain("elu", 1.25, of="backward", method="empirical", samples=100)
    assert math.isfinite(sampled.value)


def test_under_vmap() -> None:
    got: list[float] = []

    def row(x: Tensor) -> Tensor:
        got.append(gain(F.silu, of="backward"))
        return x

    torch.vmap(row)(torch.zeros(2, 3))
    assert got == [pytest.approx(gain("silu", of="backward"), rel=1e-12)]


@pytest.fixture
def float16_default() -> Iterator[None]:
    torch.set_default_dtype(torch.float16)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("float16_default")
def test_default_dtype_does_not_matter() -> None:
    assert gain(nn.PReLU(init=0.5)) == pytest.approx((2 / 1.25) ** 0.5, rel=1e-12)
