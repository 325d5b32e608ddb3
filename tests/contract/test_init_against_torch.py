"""``fanin.init`` and ``torch.nn.init`` side by side: distributions, errors, warnings."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from fanin import init
from fanin.errors import FaninError

REAL = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
COMPLEX = [torch.complex64, torch.complex128]
SHAPE = (50, 20, 4, 5)  # 20 000 elements; fans 400 and 1000

# A Kolmogorov-Smirnov statistic of n numbers exceeds √(ln(2/α) / 2n) with probability at most α
# (Massart). 160 statistics at α = 1e-9 make the false-alarm rate of this file below 2e-7.
ALPHA = 1e-9


@dataclass(frozen=True)
class Case:
    """A call, and the distribution of each real element that torch documents for it."""

    name: str
    kwargs: dict[str, Any]
    law: Any
    complex_law: Any = None


_KAIMING_STD = math.sqrt(2 / 400)
_XAVIER_STD = math.sqrt(2 / 1400)


def _normal(std: float, mean: float = 0.0) -> dict[str, Any]:
    return {"law": stats.norm(mean, std), "complex_law": stats.norm(mean, std / math.sqrt(2))}


def _uniform(low: float, high: float) -> dict[str, Any]:
    law = stats.uniform(low, high - low)
    return {"law": law, "complex_law": law}


def _scaled_uniform(std: float) -> dict[str, Any]:
    bound = 3**0.5 * std
    part = bound / 2**0.5
    return {
        "law": stats.uniform(-bound, 2 * bound),
        "complex_law": stats.uniform(-part, 2 * part),
    }


CASES = [
    Case("uniform_", {"a": -0.5, "b": 2.0}, **_uniform(-0.5, 2.0)),
    Case("normal_", {"mean": 0.3, "std": 0.7}, **_normal(0.7, 0.3)),
    Case("xavier_uniform_", {}, **_scaled_uniform(_XAVIER_STD)),
    Case("xavier_normal_", {"gain": 2.0}, **_normal(2 * _XAVIER_STD)),
    Case("kaiming_uniform_", {"nonlinearity": "relu"}, **_scaled_uniform(_KAIMING_STD)),
    Case("kaiming_normal_", {"mode": "fan_out"}, **_normal(math.sqrt(2 / 1000))),
    Case(
        "trunc_normal_",
        {"mean": 0.01, "std": 0.02, "a": -0.03, "b": 0.04},
        law=stats.truncnorm(-2, 1.5, 0.01, 0.02),
        complex_law=stats.truncnorm(-2 * 2**0.5, 1.5 * 2**0.5, 0.01, 0.02 / 2**0.5),
    ),
]
CASE_IDS = [case.name for case in CASES]


def _contiguous(dtype: torch.dtype) -> torch.Tensor:
    return torch.empty(SHAPE, dtype=dtype)


def _channels_last(dtype: torch.dtype) -> torch.Tensor:
    return torch.empty(SHAPE, dtype=dtype, memory_format=torch.channels_last)


def _transposed(dtype: torch.dtype) -> torch.Tensor:
    return torch.empty(SHAPE[::-1], dtype=dtype).permute(3, 2, 1, 0)


def _strided(dtype: torch.dtype) -> torch.Tensor:
    return torch.empty(*SHAPE, 3, dtype=dtype)[..., 1]


LAYOUTS = [_contiguous, _channels_last, _transposed, _strided]
LAYOUT_IDS = [layout.__name__.removeprefix("_") for layout in LAYOUTS]


def _seeded(seed: int, case: Case, tensor: torch.Tensor, module: Any = init) -> torch.Tensor:
    generator = torch.Generator("cpu").manual_seed(seed)
    return getattr(module, case.name)(tensor, **case.kwargs, generator=generator)


def _distance(values: torch.Tensor, law: Any) -> tuple[float, float]:
    """The Kolmogorov-Smirnov statistic, and what it exceeds with probability ``ALPHA``.

    Values that were rounded to a grid are compared at the ties' outer edges: rounding moves a
    value across the point x only within half a step of it, so F(x ± half a step) bound it.
    """
    dtype = values.dtype
    x = np.sort(values.double().flatten().numpy())
    step = np.abs(x) * torch.finfo(dtype).eps + torch.finfo(dtype).tiny
    rank = np.arange(len(x) + 1) / len(x)
    above = np.max(rank[1:] - law.cdf(x + step))
    below = np.max(law.cdf(x - step) - rank[:-1])
    return max(above, below), math.sqrt(math.log(2 / ALPHA) / (2 * len(x)))


@pytest.mark.parametrize("layout", LAYOUTS, ids=LAYOUT_IDS)
@pytest.mark.parametrize("dtype", REAL, ids=str)
@pytest.mark.parametrize("case", CASES, ids=CASE_IDS)
def test_the_distribution_is_torch_s(case, dtype, layout):
    tensor = _seeded(1, case, layout(dtype))
    distance, allowed = _distance(tensor, case.law)
    assert distance < allowed


@pytest.mark.parametrize("dtype", COMPLEX, ids=str)
@pytest.mark.parametrize("case", CASES, ids=CASE_IDS)
def test_both_parts_of_a_complex_tensor_have_it(case, dtype):
    """pain 35: variances are torch's, also of the truncated normal that torch cannot draw."""
    tensor = _seeded(2, case, _contiguous(dtype))
    for part in (tensor.real, tensor.imag):
        distance, allowed = _distance(part, case.complex_law)
        assert distance < allowed


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.name != "trunc_normal_"], ids=lambda c: c.name
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64], ids=str)
def test_the_same_statistic_accepts_torch_itself(case, dtype):
    """Against a wrong law in the table: torch's own numbers pass it.

    Not its scaled uniform complex numbers, whose parts have the std that the whole should have.
    """
    if dtype.is_complex and case.name in ("xavier_uniform_", "kaiming_uniform_"):
        case = replace(case, complex_law=case.law)
    tensor = _seeded(3, case, _contiguous(dtype), torch.nn.init)
    law = case.complex_law if dtype.is_complex else case.law
    for part in (tensor.real, tensor.imag) if dtype.is_complex else (tensor,):
        distance, allowed = _distance(part, law)
        assert distance < allowed


@pytest.mark.parametrize("layout", LAYOUTS[1:], ids=LAYOUT_IDS[1:])
@pytest.mark.parametrize("dtype", [*REAL, *COMPLEX], ids=str)
@pytest.mark.parametrize("case", CASES, ids=CASE_IDS)
def test_a_memory_layout_changes_no_value(case, dtype, layout):
    """pain 17: values sit at their logical position."""
    expected = _seeded(4, case, _contiguous(dtype))
    assert torch.equal(_seeded(4, case, layout(dtype)), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", CASES, ids=CASE_IDS)
def test_a_half_precision_value_is_the_float32_value_rounded(case, dtype):
    """pains 12 and 15; clamping to the bounds may move one more step."""
    narrow = _seeded(5, case, _contiguous(dtype))
    wide = _seeded(5, case, _contiguous(torch.float32))
    same = narrow == wide.to(dtype)
    assert same.float().mean() > 0.99
    assert torch.allclose(narrow.float(), wide, rtol=2 * torch.finfo(dtype).eps, atol=1e-7)


def _empty(*shape: int, **options: Any) -> torch.Tensor:
    return torch.empty(*shape, **options)


# Calls that torch refuses, and that fanin refuses with an error of the same class.
REFUSED: dict[str, Callable[[Any], Any]] = {
    "uniform a > b": lambda m: m.uniform_(_empty(3), 1, 0),
    "uniform nan": lambda m: m.uniform_(_empty(3), math.nan, 1),
    "uniform infinite": lambda m: m.uniform_(_empty(3), -math.inf, math.inf),
    "uniform beyond float16": lambda m: m.uniform_(_empty(3, dtype=torch.half), 1e6, 2e6),
    "uniform span beyond float16": lambda m: m.uniform_(_empty(3, dtype=torch.half), -6e4, 6e4),
    "uniform text": lambda m: m.uniform_(_empty(3), "0", 1),
    "uniform list": lambda m: m.uniform_([1.0]),
    "uniform None": lambda m: m.uniform_(None),
    "uniform generator is no generator": lambda m: m.uniform_(_empty(3), generator=3),
    "uniform int32": lambda m: m.uniform_(_empty(3, dtype=torch.int32)),
    "uniform bool": lambda m: m.uniform_(_empty(3, dtype=torch.bool)),
    "uniform expanded": lambda m: m.uniform_(_empty(1, 4).expand(3, 4)),
    "uniform sparse COO": lambda m: m.uniform_(torch.eye(3).to_sparse()),
    "uniform mkldnn": lambda m: m.uniform_(torch.eye(3).to_mkldnn()),
    "uniform zero tensor": lambda m: m.uniform_(torch._efficientzerotensor(3)),
    "uniform uninitialized": lambda m: m.uniform_(torch.nn.UninitializedParameter()),
    "uniform inference tensor": lambda m: m.uniform_(_inference_tensor()),
    "normal std < 0": lambda m: m.normal_(_empty(3), std=-1),
    "normal std < 0, empty": lambda m: m.normal_(_empty(0), std=-1),
    "normal std < 0, meta": lambda m: m.normal_(_empty(3, device="meta"), std=-1),
    "normal std nan": lambda m: m.normal_(_empty(3), std=math.nan),
    "normal None": lambda m: m.normal_(_empty(3), None),
    "normal complex mean": lambda m: m.normal_(_empty(3), 1j),
    "normal int64": lambda m: m.normal_(_empty(3, dtype=torch.int64)),
    "trunc_normal a > b": lambda m: m.trunc_normal_(_empty(3), a=2, b=-2),
    "trunc_normal int32": lambda m: m.trunc_normal_(_empty(3, dtype=torch.int32)),
    "constant text": lambda m: m.constant_(_empty(3), "x"),
    "eye 1-D": lambda m: m.eye_(_empty(3)),
    "eye 3-D": lambda m: m.eye_(_empty(3, 3, 3)),
    "dirac 2-D": lambda m: m.dirac_(_empty(3, 3)),
    "dirac groups do not divide": lambda m: m.dirac_(_empty(3, 3, 3), 2),
    "dirac fractional groups": lambda m: m.dirac_(_empty(4, 4, 3), 2.0),
    "xavier 1-D": lambda m: m.xavier_uniform_(_empty(3)),
    "xavier 0-D": lambda m: m.xavier_normal_(_empty(())),
    "xavier negative gain, uniform": lambda m: m.xavier_uniform_(_empty(3, 4), -1),
    "xavier negative gain, normal": lambda m: m.xavier_normal_(_empty(3, 4), -1),
    "xavier gain nan": lambda m: m.xavier_uniform_(_empty(3, 4), math.nan),
    "kaiming mode": lambda m: m.kaiming_uniform_(_empty(3, 4), mode="fan"),
    "kaiming no mode": lambda m: m.kaiming_normal_(_empty(3, 4), mode=None),
    "kaiming nonlinearity": lambda m: m.kaiming_uniform_(_empty(3, 4), nonlinearity="gelu"),
    "kaiming text slope": lambda m: m.kaiming_normal_(_empty(3, 4), a="1"),
    "kaiming bool slope": lambda m: m.kaiming_normal_(_empty(3, 4), a=True),
    "kaiming 1-D": lambda m: m.kaiming_normal_(_empty(3)),
    "kaiming expanded": lambda m: m.kaiming_uniform_(_empty(1, 4).expand(3, 4)),
    "orthogonal 1-D": lambda m: m.orthogonal_(_empty(3)),
    "orthogonal text gain": lambda m: m.orthogonal_(_empty(3, 3), gain="x"),
    "orthogonal int32": lambda m: m.orthogonal_(_empty(3, 3, dtype=torch.int32)),
    "sparse 1-D": lambda m: m.sparse_(_empty(3), 0.1),
    "sparse nan": lambda m: m.sparse_(_empty(3, 3), math.nan),
    "sparse std < 0": lambda m: m.sparse_(_empty(3, 3), 0.5, -1),
    "sparse int32": lambda m: m.sparse_(_empty(3, 3, dtype=torch.int32), 0.1),
    "gain name": lambda m: m.calculate_gain("gelu"),
    "gain slope": lambda m: m.calculate_gain("leaky_relu", "x"),
    "fans 1-D": lambda m: m._calculate_fan_in_and_fan_out(_empty(3)),
    "fan mode": lambda m: m._calculate_correct_fan(_empty(3, 3), "fan_avg"),
}


def _inference_tensor() -> torch.Tensor:
    with torch.inference_mode():
        return torch.empty(3)


def _refusal(call: Callable[[Any], Any], module: Any) -> Exception | None:
    try:
        call(module)
    except Exception as error:
        return error
    return None


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED.keys())
def test_bad_input_raises_what_torch_raises(call):
    theirs, ours = _refusal(call, torch.nn.init), _refusal(call, init)
    assert theirs is not None
    assert isinstance(ours, type(theirs))
    if isinstance(ours, FaninError):
        assert "Got" in str(ours)


def test_a_refused_call_takes_nothing_from_the_generator():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    for name in ["uniform a > b", "normal std < 0", "trunc_normal a > b", "orthogonal int32"]:
        assert _refusal(REFUSED[name], init) is not None
    assert torch.equal(torch.get_rng_state(), before)


WARNED: dict[str, Callable[[Any], Any]] = {
    "kaiming_uniform empty": lambda m: m.kaiming_uniform_(_empty(0, 4)),
    "kaiming_normal empty": lambda m: m.kaiming_normal_(_empty(3, 0)),
    "trunc_normal far": lambda m: m.trunc_normal_(_empty(9), 5.0, 1.0, -2.0, 2.0),
}


@pytest.mark.parametrize("call", WARNED.values(), ids=WARNED.keys())
def test_warnings_come_where_torch_s_come(call):
    for module in (torch.nn.init, init):
        with pytest.warns(UserWarning, match="zero-element|mean") as log:
            call(module)
        assert [record.category for record in log] == [UserWarning]


@pytest.mark.parametrize("shape", [(0,), (0, 4), (4, 0), (2, 0, 3)])
def test_empty_tensors_are_quiet_where_torch_is(shape):
    for name in ["uniform_", "normal_", "trunc_normal_", "ones_", "zeros_"]:
        tensor = torch.empty(shape)
        assert getattr(init, name)(tensor) is tensor
    if len(shape) > 1:
        init.orthogonal_(torch.empty(shape))
        init.xavier_uniform_(torch.empty(shape))
    if len(shape) == 2:
        init.eye_(torch.empty(shape))
        init.sparse_(torch.empty(shape), 0.5)


# Where torch fails, or silently does something else, without need.
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.complex64], ids=str)
@pytest.mark.parametrize("shape", [(8, 8), (5, 9), (9, 5), (4, 3, 2, 2)])
def test_orthogonal_in_the_dtypes_torch_cannot(shape, dtype):
    """pain 15."""
    theirs = _refusal(lambda m: m.orthogonal_(torch.empty(shape, dtype=dtype)), torch.nn.init)
    assert isinstance(theirs, RuntimeError)
    matrix = init.orthogonal_(torch.empty(shape, dtype=dtype)).flatten(1).to(torch.complex128)
    short = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT
    identity = torch.eye(len(short), dtype=torch.complex128)
    # each of ≤ 12 products of entries ≤ 1, every entry off by half a step
    tolerance = 12 * torch.finfo(dtype).eps
    assert torch.allclose(short @ short.mH, identity, atol=tolerance)


def test_orthogonal_on_channels_last():
    tensor = torch.empty(8, 3, 2, 2, memory_format=torch.channels_last)
    assert _refusal(lambda m: m.orthogonal_(tensor), torch.nn.init) is not None
    matrix = init.orthogonal_(tensor).flatten(1)
    assert torch.allclose(matrix @ matrix.T, torch.eye(8), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2], ids=str)
def test_float8(dtype):
    """pain 35."""
    for name in ["uniform_", "normal_", "trunc_normal_"]:
        tensor = torch.zeros(4096, dtype=dtype)
        assert isinstance(
            _refusal(lambda m, n=name, t=tensor: getattr(m, n)(t), torch.nn.init), RuntimeError
        )
        getattr(init, name)(tensor)
        values = tensor.float()
        assert values.isfinite().all()
        assert values.unique().numel() > 20


def test_zero_std_empty_fans_and_numpy_scalars():
    assert isinstance(
        _refusal(lambda m: m.trunc_normal_(_empty(3), std=0), torch.nn.init), ZeroDivisionError
    )
    assert init.trunc_normal_(_empty(3), mean=0.5, std=0).tolist() == [0.5] * 3
    assert isinstance(
        _refusal(lambda m: m.xavier_normal_(_empty(0, 0)), torch.nn.init), ZeroDivisionError
    )
    assert init.xavier_normal_(_empty(0, 0)).shape == (0, 0)
    slope = np.float32(0.5)
    assert isinstance(
        _refusal(lambda m: m.kaiming_normal_(_empty(3, 3), a=slope), torch.nn.init), ValueError
    )
    torch.manual_seed(0)
    ours = init.kaiming_normal_(_empty(3, 3), a=slope)
    torch.manual_seed(0)
    assert torch.equal(ours, init.kaiming_normal_(_empty(3, 3), a=0.5))


def test_truncation_that_no_value_can_satisfy_is_refused():
    with pytest.raises(ValueError, match="interval must hold a value"):
        init.trunc_normal_(_empty(3, dtype=torch.bfloat16), 0.3, 1.0, 0.3001, 0.3002)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match="nearer bound"):
            init.trunc_normal_(_empty(3), 0.0, 1.0, 12.5, 13.0)


def test_the_tail_between_five_and_six_sigma_is_resolved():
    """pain 12: the naive float32 formula has five distinct values here."""
    with pytest.warns(UserWarning, match="crowd"):
        values = init.trunc_normal_(torch.empty(20_000), 0.0, 1.0, 5.0, 6.0)
    assert values.unique().numel() > 15_000
    distance, allowed = _distance(values, stats.truncnorm(5, 6))
    assert distance < allowed


@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("shape", [(6, 4, 3), (6, 2, 3, 4), (6, 7, 3, 2, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64, torch.int32])
def test_dirac_equals_torch_s(shape, groups, dtype):
    expected = torch.nn.init.dirac_(torch.empty(shape, dtype=dtype), groups)
    assert torch.equal(init.dirac_(torch.empty(shape, dtype=dtype), groups), expected)


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.complex64, torch.bool])
def test_eye_equals_torch_s(shape, dtype):
    expected = torch.nn.init.eye_(torch.empty(shape, dtype=dtype))
    assert torch.equal(init.eye_(torch.empty(shape, dtype=dtype)), expected)
    assert torch.equal(init.eye_(torch.empty(shape[::-1], dtype=dtype).T), expected)


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.35, 1.0])
def test_sparse_zeroes_as_many_of_each_column_as_torch(sparsity):
    theirs = torch.nn.init.sparse_(torch.empty(31, 9), sparsity, 2.0)
    ours = init.sparse_(torch.empty(31, 9), sparsity, 2.0)
    assert torch.equal((ours == 0).sum(0), (theirs == 0).sum(0))


def test_sparse_keeps_its_normals():
    kept = init.sparse_(torch.empty(200, 200), 0.5, 2.0, torch.Generator().manual_seed(6))
    distance, allowed = _distance(kept[kept != 0], stats.norm(0, 2))
    assert distance < allowed
