"""Statistics of a tensor against NumPy in float64, for every dtype, size and stride."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from fanin.probing.measuring.statistics import is_measurable, measure, not_finite, std_and_rms

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
LARGE = 300_001  # several pieces, the last one short


def normal(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def check(tensor: Tensor, tolerance: float = 1e-12) -> None:
    values = tensor.double().numpy()
    found = measure(tensor)
    scale = np.abs(values).max()
    assert found.shape == tuple(tensor.shape)
    assert found.mean == pytest.approx(values.mean(), abs=tolerance * scale)
    assert found.std == pytest.approx(values.std(), rel=tolerance)
    assert found.rms == pytest.approx(math.sqrt((values**2).mean()), rel=tolerance)
    assert found.abs_max == scale
    assert found.zeros == (values == 0).mean()
    assert found.is_finite
    assert found.saturated is None
    assert std_and_rms(tensor) == pytest.approx((found.std, found.rms), rel=tolerance)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("size", [1, 2, 1000, LARGE])
def test_moments_are_those_of_float64(dtype: torch.dtype, size: int) -> None:
    values = normal(size, dtype=dtype) * 3 + 1
    values[::7] = 0
    check(values)


STRIDED: dict[str, Callable[[Tensor], Tensor]] = {
    "transposed": lambda x: x.t(),
    "every other": lambda x: x[:, ::2],
    "a column": lambda x: x[:, 3],
    "channels last": lambda x: x.view(10, 700, 10, 10).contiguous(
        memory_format=torch.channels_last
    ),
    "expanded": lambda x: x[:, :1].expand(-1, 60),
    "one number everywhere": lambda x: x[0, 0].expand(1000, 400),
    "negated": lambda x: torch._neg_view(x),
}


@pytest.mark.parametrize("name", STRIDED)
def test_strides_do_not_matter(name: str) -> None:
    check(STRIDED[name](normal(7000, 100)))


def test_a_mean_far_from_zero_does_not_hide_the_std() -> None:
    check(1e8 + normal(LARGE, dtype=torch.float64), tolerance=1e-7)  # 1e8 rounds at 1.5e-8


def test_a_constant_has_no_std() -> None:
    for dtype in FLOATS:
        values = torch.full((LARGE,), 0.1, dtype=dtype)
        assert measure(values).std == 0.0
        assert std_and_rms(values)[0] == 0.0


@pytest.mark.parametrize("std", [2.0**124, 2.0**-130])
def test_float32_to_its_ends(std: float) -> None:
    values = normal(LARGE, dtype=torch.float64)
    found = measure((values * std).float())
    assert found.std == pytest.approx(float(values.std()) * std, rel=1e-4)  # subnormals round
    assert found.is_finite


@pytest.mark.parametrize("scale", [1e300, 1e-300, 5e-324])
def test_float64_whose_squares_are_none(scale: float) -> None:
    values = torch.tensor([3.0, -4.0, 0.0], dtype=torch.float64) * scale
    found = measure(values)
    assert found.rms == pytest.approx(math.sqrt(25 / 3) * scale, rel=1e-12, abs=scale / 2)
    assert found.abs_max == 4 * scale
    assert std_and_rms(values) == (found.std, found.rms)


def test_what_is_not_finite_is_counted_and_left_out() -> None:
    values = torch.arange(LARGE, dtype=torch.float32)
    values[5], values[6], values[-1] = torch.nan, torch.inf, -torch.inf
    found = measure(values)
    assert (found.nans, found.infs, found.is_finite) == (1, 2, False)
    finite = values[values.isfinite()].double()
    assert found.mean == pytest.approx(float(finite.mean()), rel=1e-12)
    assert found.std == pytest.approx(float(finite.std(unbiased=False)), rel=1e-12)
    assert found.abs_max == float(finite.max())
    assert found.zeros == 1 / len(finite)
    assert found.histogram is not None
    assert math.isfinite(found.histogram.high)
    assert not_finite(values) == (1, 2)
    assert math.isnan(std_and_rms(values)[1])
    assert std_and_rms(values[6:]) == (math.inf, math.inf)


def test_nothing_is_finite() -> None:
    found = measure(torch.full((3,), torch.nan))
    assert (found.nans, found.rms, found.histogram) == (3, 0.0, None)


def test_finite_values_count_as_finite_whatever_they_sum_to() -> None:
    huge = torch.full((4,), 1.7e308, dtype=torch.float64)
    assert not_finite(huge) == (0, 0)
    assert measure(huge).rms == 1.7e308
    assert not_finite(torch.empty(0)) == (0, 0)


def test_an_empty_tensor() -> None:
    found = measure(torch.empty(0, 4))
    assert (found.shape, found.rms, found.is_finite, found.histogram) == ((0, 4), 0.0, True, None)
    assert std_and_rms(torch.empty(0)) == (0.0, 0.0)


def test_complex_entries_are_two_numbers() -> None:
    values = torch.complex(normal(500), normal(500) * 2)
    flat = torch.view_as_real(values).double()
    found = measure(values.conj())
    assert found.shape == (500,)
    assert found.dtype == "complex64"
    assert found.rms == pytest.approx(float(flat.square().mean().sqrt()), rel=1e-12)


def test_saturated_is_within_a_percent_of_the_range() -> None:
    values = torch.tensor([-1.0, -0.979, 0.0, 0.979, 0.981, 1.0])
    assert measure(values, bounds=(-1.0, 1.0)).saturated == 0.5
    assert measure(torch.tensor([0.0, 0.05, 0.07, 5.95]), bounds=(0.0, 6.0)).saturated == 0.75


def test_histogram_of_a_sample() -> None:
    found = measure(normal(1000, 256)).histogram
    assert found is not None
    assert len(found.counts) == 32
    assert 3900 < sum(found.counts) <= 4096
    assert -5 < found.low < -2.5
    assert max(found.counts) in found.counts[12:20]


def test_histogram_meets_every_column() -> None:
    columns = torch.arange(256.0).expand(4096, 256).contiguous()
    found = measure(columns).histogram
    assert found is not None
    assert min(found.counts) > 0.5 * max(found.counts)


def test_histogram_of_one_value() -> None:
    found = measure(torch.full((10,), 2.0)).histogram
    assert found is not None
    assert (found.low, found.high, sum(found.counts)) == (1.0, 3.0, 10)


def test_what_can_be_measured() -> None:
    assert not is_measurable(torch.ones(3, dtype=torch.int64))
    assert not is_measurable(torch.ones(3, dtype=torch.bool))
    assert not is_measurable(torch.ones(3, device="meta"))
    assert not is_measurable(torch.ones(3, 3).to_sparse())
    assert all(is_measurable(torch.ones(3, dtype=dtype)) for dtype in (*FLOATS, torch.complex64))


def test_the_tensor_is_not_touched() -> None:
    values = normal(100).requires_grad_()
    before, version = values.detach().clone(), values._version
    measure(values)
    assert torch.equal(values, before)
    assert values._version == version
    assert values.grad_fn is None
