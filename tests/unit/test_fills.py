from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable

import mpmath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanin import fills
from fanin.errors import ArgumentError
from fanin.fills import derived, truncated_moments

BOUNDS = [
    -math.inf, -40.0, -12.0, -5.0, -2.0, -0.3, 0.0, 1e-3, 1.0, 2.0, 2.0000001, 3.0, 8.0,
    12.0, 12.000001, 13.0, math.inf,
]  # fmt: skip


def exact_moments(alpha: float, beta: float) -> tuple[mpmath.mpf, mpmath.mpf]:
    """The textbook formulas with 80 digits, of which the worst case here loses 40."""
    with mpmath.workdps(80):
        a, b = mpmath.mpf(alpha), mpmath.mpf(beta)

        def density(x: mpmath.mpf) -> mpmath.mpf:
            return mpmath.exp(-x * x / 2) / mpmath.sqrt(2 * mpmath.pi)

        def above(x: mpmath.mpf) -> mpmath.mpf:
            return mpmath.erfc(x / mpmath.sqrt(2)) / 2

        def weighted(x: mpmath.mpf) -> mpmath.mpf:
            return mpmath.mpf(0) if mpmath.isinf(x) else x * density(x)

        mass = above(-b) - above(-a) if b < 0 else above(a) - above(b)
        mean = (density(a) - density(b)) / mass
        return mean, mpmath.sqrt(1 + (weighted(a) - weighted(b)) / mass - mean**2)


@pytest.mark.parametrize(("alpha", "beta"), [*itertools.combinations(BOUNDS, 2)])
def test_truncated_moments_are_exact_to_1e_12(alpha: float, beta: float) -> None:
    for got, wanted in zip(truncated_moments(alpha, beta), exact_moments(alpha, beta), strict=True):
        # What lies below the smallest float64 (the mean on [-40, inf] is 1e-348) is 0.
        assert abs(got - wanted) <= max(1e-12 * abs(wanted), 5e-324)


def test_truncated_moments_of_one_point() -> None:
    assert truncated_moments(3.0, 3.0) == (3.0, 0.0)


@given(
    st.floats(-13, 13).flatmap(
        lambda a: st.tuples(st.just(a), st.floats(a + 1e-6, a + 30, exclude_min=True))
    )
)
def test_truncated_moments_stay_between_the_bounds_and_mirror(pair: tuple[float, float]) -> None:
    alpha, beta = pair
    mean, std = truncated_moments(alpha, beta)
    assert alpha <= mean <= beta
    # No distribution on an interval spreads more than half of it; a cut normal no more than 1.
    assert 0 < std <= min(1 + 1e-12, (beta - alpha) / 2)
    assert truncated_moments(-beta, -alpha) == (pytest.approx(-mean), pytest.approx(std))


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=1e-300, max_value=1e300))
def test_derived_keeps_32_bits(x: float) -> None:
    assert abs(derived(x) - x) <= 2**-32 * x
    assert derived(derived(x)) == derived(x)
    assert derived(-x) == -derived(x)


def test_derived_keeps_zero_and_infinity() -> None:
    assert [derived(x) for x in (0.0, math.inf, -math.inf)] == [0.0, math.inf, -math.inf]


@pytest.mark.parametrize(
    ("fill", "shape", "mean", "std"),
    [
        (fills.Uniform(-1.0, 3.0), (5,), 1.0, 4 / math.sqrt(12)),
        (fills.TruncNormal(1.0, 0.0, 2.0, 3.0), (5,), 2.0, 0.0),
        (fills.TruncNormal(5.0, 2.0, -math.inf, math.inf), (5,), 5.0, 2.0),
        (fills.Eye(2.0), (2, 4), 0.5, math.sqrt(0.75)),
        (fills.Orthogonal(2.0, batch_dims=1), (7, 4, 16), 0.0, 0.5),
        (fills.Orthogonal(row_dims=2), (4, 4, 3), 0.0, 0.25),
        (fills.DeltaOrthogonal(batch_dims=1), (3, 4, 2, 2, 2), 0.0, 0.25),
        (fills.Sparse(0.5, 2.0, dim=1), (3, 4), 0.0, math.sqrt(2)),
        (fills.Rearranged(fills.Eye(), (1, 0)), (2, 4), 0.25, math.sqrt(3) / 4),
    ],
    ids=lambda value: str(value),
)
def test_moments(fill: fills.Fill, shape: tuple[int, ...], mean: float, std: float) -> None:
    assert fill.moments(shape) == (pytest.approx(mean), pytest.approx(std))


def test_rearranged_splits_groups_then_permutes() -> None:
    fill = fills.Rearranged(fills.Orthogonal(batch_dims=1), (0, 2, 1, 3), groups=2)
    assert fill.view_shape((8, 3, 5)) == (2, 3, 4, 5)


def test_packed_moments_are_those_of_the_mixture() -> None:
    parts = (
        fills.Part("low", 0, 1, fills.Constant(-3.0)),
        fills.Part("high", 1, 4, fills.Constant(1.0)),
    )
    # Values -3, 1, 1, 1: mean 0, mean square 3.
    assert fills.Packed(0, parts).moments((4, 2)) == (0.0, pytest.approx(math.sqrt(3)))


def test_json_names_the_fills_inside() -> None:
    part = fills.Part("q", 0, 2, fills.Normal(0.0, 0.5))
    assert fills.Packed(0, (part,)).to_json() == {
        "name": "packed",
        "dim": 0,
        "parts": [
            {
                "name": "q",
                "start": 0,
                "stop": 2,
                "fill": {"name": "normal", "mean": 0.0, "std": 0.5},
            }
        ],
    }


def test_an_infinite_bound_has_a_place_in_json() -> None:
    fill = fills.TruncNormal(0.0, 1.0, -math.inf, 2.0)
    assert fills.fill_from_json(json.loads(json.dumps(fill.to_json(), allow_nan=False))) == fill


def test_a_part_without_a_fill_is_refused() -> None:
    with pytest.raises(ArgumentError, match="the fields of 'packed'"):
        fills.fill_from_json({"name": "packed", "dim": 0, "parts": [{"name": "q"}]})


def test_fill_is_abstract() -> None:
    with pytest.raises(TypeError, match="abstract"):
        fills.Fill()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fills.Uniform(2.0, 1.0), "low must not be above high"),
        (lambda: fills.Uniform(0.0, math.inf), "high must be finite"),
        (lambda: fills.Normal(math.nan, 1.0), "mean must be finite"),
        (lambda: fills.Normal(0.0, -1.0), "std must not be negative"),
        (lambda: fills.TruncNormal(0.0, 1.0, 2.0, -2.0), "lower bound must not be above"),
        (lambda: fills.Sparse(1.5), r"in \[0, 1\]"),
    ],
)
def test_refusals(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()
