from __future__ import annotations

import math
from fractions import Fraction

import mpmath
import pytest
import torch

from fanin.errors import ArgumentError, DtypeError
from fanin.stream import reference
from fanin.stream.laws import UNIFORM, derived, normal_law, truncated_law, uniform_law
from fanin.stream.narrow import FORMATS

DTYPES = [torch.float32, torch.float64, *FORMATS]
REFUSED = [torch.int32, torch.bool, torch.complex64, torch.float8_e8m0fnu]
INF = math.inf

each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])


@pytest.mark.parametrize("x", [1.0, -1.0, 0.1, 1 / 3, math.pi * 1e-300, -2.5e300, 5e-324])
def test_derived_is_the_nearest_of_32_bits(x: float) -> None:
    rounded = derived(x)
    significand = Fraction(rounded)
    while significand.denominator > 1:
        significand *= 2
    while significand.numerator % 2 == 0:
        significand /= 2
    assert abs(significand) < 2**32
    assert abs(Fraction(rounded) - Fraction(x)) <= abs(Fraction(x)) / 2**32


def test_derived_hides_a_last_digit() -> None:
    assert derived(math.nextafter(math.sqrt(0.1), 1)) == derived(math.sqrt(0.1))


@pytest.mark.parametrize("x", [0.0, INF, -INF])
def test_derived_leaves_zero_and_infinity(x: float) -> None:
    assert derived(x) == x


@pytest.mark.parametrize("dtype", REFUSED, ids=lambda dtype: str(dtype)[6:])
def test_dtypes_without_random_values(dtype: torch.dtype) -> None:
    name = str(dtype).removeprefix("torch.")
    for make in (
        lambda: uniform_law(0.0, 1.0, dtype),
        lambda: normal_law(0.0, 1.0, dtype),
        lambda: truncated_law(0.0, 1.0, -2.0, 2.0, dtype),
    ):
        with pytest.raises(DtypeError, match=f"Got {name}"):
            make()


@pytest.mark.parametrize("low_high", [(0.0, 1.0), (1.0, 2.0), (-1.0, 0.0), (0.1, 0.3), (-0.3, 3.0)])
@each_dtype
def test_clamps_of_the_uniform_law(low_high: tuple[float, float], dtype: torch.dtype) -> None:
    low, high = low_high
    law = uniform_law(low, high, dtype)
    assert law.lowest == min(v for v in some_values(dtype, low, high) if v >= low)
    assert law.highest == max(v for v in some_values(dtype, low, high) if v < high)


@pytest.mark.parametrize("low_high", [(-2.0, 2.0), (0.1, 0.3), (-0.04, 0.04), (-3.0, 0.0)])
@each_dtype
def test_clamps_of_the_truncated_law(low_high: tuple[float, float], dtype: torch.dtype) -> None:
    low, high = low_high
    law = truncated_law(0.0, 1.0, low, high, dtype)
    assert law.lowest == min(v for v in some_values(dtype, low, high) if v >= low)
    assert law.highest == max(v for v in some_values(dtype, low, high) if v <= high)


def some_values(dtype: torch.dtype, *near: float) -> list[float]:
    """Values of the dtype around these, found by counting codes up and down from torch's cast."""
    integer = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.int8}[dtype.itemsize]
    found = {0.0}
    for x in near:
        for magnitude in (abs(x), torch.finfo(dtype).tiny):
            code = torch.tensor(magnitude, dtype=torch.float64).to(dtype).view(integer).item()
            for step in range(-2, 3):
                if code + step >= 0:
                    value = torch.tensor(code + step, dtype=integer).view(dtype).double().item()
                    found |= {value, -value}
        if x == 0.0:
            smallest = torch.tensor(1, dtype=integer).view(dtype).double().item()
            found |= {smallest, -smallest}
    return sorted(found)


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [
        (1.01, 1.02, torch.float8_e4m3fn),
        (1.0 + 1e-9, 1.0 + 2e-9, torch.float32),
        (1e-9, 2e-9, torch.float16),
    ],
)
def test_an_interval_without_a_value(low: float, high: float, dtype: torch.dtype) -> None:
    with pytest.raises(ArgumentError, match="uniform: the interval must hold a value"):
        uniform_law(low, high, dtype)
    with pytest.raises(ArgumentError, match="trunc_normal: the interval must hold a value"):
        truncated_law(0.0, 1.0, low, high, dtype)


def test_an_interval_beyond_the_dtype() -> None:
    with pytest.raises(ArgumentError, match="the interval must hold a value"):
        truncated_law(1e6, 1.0, 1e6 - 1, 1e6 + 1, torch.float16)
    with pytest.raises(ArgumentError, match="the interval must hold a value"):
        truncated_law(-500.0, 1.0, -INF, -480.0, torch.float8_e4m3fn)


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [
        (1.0, 0.0, torch.float32),
        (0.0, INF, torch.float32),
        (math.nan, 1.0, torch.float32),
        (0.0, 1e39, torch.float32),
        (-3e38, 3e38, torch.float32),
        (0.0, 70000.0, torch.float16),
        (-300.0, 300.0, torch.float8_e4m3fn),
    ],
)
def test_uniform_bounds_that_are_not_finite_in_the_dtype(low, high, dtype) -> None:
    with pytest.raises(ArgumentError, match="uniform: low <= high, and low, high and high - low"):
        uniform_law(low, high, dtype)


@each_dtype
def test_uniform_with_equal_bounds_is_constant(dtype: torch.dtype) -> None:
    law = uniform_law(0.1, 0.1, dtype)
    assert (law.shift, law.scale) == (0.1, 0.0)


def test_truncation_to_a_point_and_without_spread() -> None:
    assert truncated_law(3.0, 1.0, 0.5, 0.5, torch.float32).shift == 0.5
    for mean, value in [(0.2, 0.2), (-4.0, -1.0), (4.0, 1.0)]:
        law = truncated_law(mean, 0.0, -1.0, 1.0, torch.float32)
        assert (law.shift, law.scale) == (value, 0.0)


@pytest.mark.parametrize(("low", "high"), [(12.001, INF), (-INF, -12.001), (13.0, 14.0)])
def test_bounds_beyond_twelve_sigma(low: float, high: float) -> None:
    with pytest.raises(ArgumentError, match="the nearer bound must be within 12 std of the mean"):
        truncated_law(0.0, 1.0, low, high, torch.float64)


@pytest.mark.parametrize(("low", "high"), [(12.0, INF), (-INF, -12.0), (-50.0, 50.0), (-INF, INF)])
def test_bounds_up_to_twelve_sigma(low: float, high: float) -> None:
    assert truncated_law(0.0, 1.0, low, high, torch.float32).mass > 0


def test_truncated_bounds_in_the_wrong_order() -> None:
    with pytest.raises(ArgumentError, match=r"trunc_normal: low <= high. Got \[2.0, -2.0\]"):
        truncated_law(0.0, 1.0, 2.0, -2.0, torch.float32)


BOUNDS = [
    (-2.0, 2.0),
    (5.0, 6.0),
    (0.0, INF),
    (-INF, -11.0),
    (1.0, 1.0001),
    (11.9, 12.0),
    (-8.0, 9.0),
]


@pytest.mark.parametrize(("low", "high"), BOUNDS)
def test_masses(low: float, high: float) -> None:
    """Against 50 digits: each within the 2⁻³² of the rounding, and what erfc itself may lose."""
    law = truncated_law(0.0, 1.0, low, high, torch.float64)
    with mpmath.workdps(50):
        lower, upper = mpmath.ncdf(low), mpmath.ncdf(-high)
        between = mpmath.ncdf(-low) - upper if low > 0 else mpmath.ncdf(high) - lower
        for given, exact in [(law.lower, lower), (law.upper, upper), (law.mass, between)]:
            assert abs(given - exact) <= exact * 2.0**-31


@pytest.mark.parametrize(("low", "high"), BOUNDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_switch_keeps_both_tails_below_a_half(low: float, high: float, dtype) -> None:
    """Draws count from the lower end while the mass below them is at most a half."""
    law = truncated_law(0.0, 1.0, low, high, dtype)
    steps = 2**64 if dtype == torch.float64 else 2**32
    assert 0 <= law.switch <= steps
    from_below = law.lower + law.switch / steps * law.mass
    from_above = law.upper + (steps - law.switch) / steps * law.mass
    assert law.switch == 0 or from_below <= 0.5 + 1e-9
    assert law.switch == steps or from_above <= 0.5 + 1e-9


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_numbers_beyond_the_arithmetic_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(ArgumentError, match="normal: std must be finite in the arithmetic"):
        normal_law(0.0, 1e40, dtype)
    with pytest.raises(ArgumentError, match="trunc_normal: mean must be finite"):
        truncated_law(-1e40, 1.0, -INF, 0.0, dtype)
    with pytest.raises(ArgumentError, match="trunc_normal: low must be finite"):
        truncated_law(0.0, 1.0, INF, INF, dtype)
    with pytest.raises(ArgumentError, match="trunc_normal: high - low must be finite"):
        truncated_law(0.0, 1e44, -3e38, 3e38, dtype)
    assert normal_law(0.0, 1e40, torch.float64).scale == 1e40


@pytest.mark.parametrize(
    ("std", "width", "dtype"),
    [(1e6, 4.0, torch.float32), (1e40, 4.0, torch.bfloat16), (1e10, 5e-323, torch.float64)],
)
def test_bounds_closer_than_the_quantile_can_tell_are_a_uniform(
    std: float, width: float, dtype: torch.dtype
) -> None:
    law = truncated_law(0.0, std, 0.0, width, dtype)
    assert (law.kind, law.shift, law.scale) == (UNIFORM, 0.0, width)
    assert (law.lowest, law.highest) == (0.0, width)


def test_the_closest_bounds_leave_two_hundred_values() -> None:
    law = truncated_law(0.0, 1.0, 0.0, 2.0**-16, torch.float32)
    values = reference.values(law, 7, torch.arange(1 << 14))
    assert len(values.unique()) > 190
