"""Gains against closed forms and SciPy's quadrature."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.integrate import quad
from scipy.stats import norm
from torch import Tensor, nn

from fanin.gains import gain, nonlinearities

PAIR = (0.1, 0.3)  # for threshold, which has no defaults

# E relu6(z)² = E z²[0<z<6] + 36 P(z>6), the first of them by parts.
_PHI6, _TAIL6 = norm.pdf(6), norm.sf(6)
CLOSED = [
    ("relu", None, "second_moment", 2**0.5),
    ("relu", None, "variance", (0.5 - 1 / (2 * math.pi)) ** -0.5),
    ("relu", None, "backward", 2**0.5),
    ("relu6", None, "second_moment", (0.5 - _TAIL6 - 6 * _PHI6 + 36 * _TAIL6) ** -0.5),
    ("relu_squared", None, "second_moment", 1.5**-0.5),
    ("relu_squared", None, "backward", 2**-0.5),
    ("leaky_relu", 0.2, "second_moment", (2 / (1 + 0.2**2)) ** 0.5),
    ("prelu", -0.7, "backward", (2 / (1 + 0.7**2)) ** 0.5),
    ("rrelu", None, "second_moment", (2 / (1 + (11 / 48) ** 2)) ** 0.5),
    ("linear", None, "second_moment", 1.0),
    ("conv_transpose3d", None, "backward", 1.0),
    ("selu", None, "variance", 1.0),
    ("sin", None, "second_moment", ((1 - math.exp(-2)) / 2) ** -0.5),
    ("sin", 30.0, "second_moment", 2**0.5),
    ("sin", 30.0, "backward", 2**0.5 / 30),
    ("sin", 1000.0, "second_moment", 2**0.5),
    ("hardtanh", None, "backward", (1 - 2 * norm.sf(1)) ** -0.5),
    ("hardtanh", (-0.3, 1.7), "backward", (norm.cdf(1.7) - norm.cdf(-0.3)) ** -0.5),
    ("hardshrink", 0.123, "backward", (2 * norm.sf(0.123)) ** -0.5),
    ("threshold", (0.1, 2.0), "backward", norm.sf(0.1) ** -0.5),
    ("hardsigmoid", None, "backward", 6 * (1 - 2 * norm.sf(3)) ** -0.5),
]


# E floor(3.3z)², step by step
STAIRS = math.fsum(k * k * (norm.cdf((k + 1) / 3.3) - norm.cdf(k / 3.3)) for k in range(-130, 131))


@pytest.mark.parametrize(("name", "param", "of", "expected"), CLOSED)
def test_closed_forms(name: str, param: object, of: str, expected: float) -> None:
    # SELU's constants make mean 0 and variance 1 to the 17 digits in which torch writes them.
    assert gain(name, param, of=of) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (torch.exp, math.exp(-1)),
        (lambda x: x**5, 945**-0.5),
        (lambda x: (x > 0.1).double(), norm.sf(0.1) ** -0.5),
        (lambda x: torch.exp(3 * x), math.exp(-9)),
        (lambda x: F.relu(x - math.sqrt(2)), None),
        (lambda x: torch.floor(3.3 * x), STAIRS**-0.5),
        (lambda x: torch.log(x.abs()), None),
        (lambda x: F.softplus(x, beta=100), None),
    ],
)
def test_kinks_jumps_and_steep_functions(
    function: Callable[[Tensor], Tensor], expected: float | None
) -> None:
    if expected is None:
        expected = _scipy_mean_square(function) ** -0.5
    assert gain(function) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("name", sorted(nonlinearities()))
def test_every_name_against_scipy(name: str) -> None:
    param = PAIR if name == "threshold" else None
    reference = _torch_function(name)
    second = _scipy_mean_square(reference)
    mean = _scipy_mean(lambda z: float(reference(torch.tensor(z, dtype=torch.float64))))
    assert gain(name, param) == pytest.approx(second**-0.5, rel=1e-10)
    assert gain(name, param, of="variance") == pytest.approx((second - mean**2) ** -0.5, rel=1e-9)


@pytest.mark.parametrize("name", sorted(nonlinearities()))
def test_backward_is_the_mean_square_of_a_difference_quotient(name: str) -> None:
    param = PAIR if name == "threshold" else None
    z = norm.ppf((np.arange(200_000) + 0.5) / 200_000)
    step = 1e-6
    reference = _torch_function(name)
    rise = reference(torch.from_numpy(z + step)) - reference(torch.from_numpy(z - step))
    slopes = (rise / (2 * step)).numpy()
    slopes = slopes[np.abs(slopes) < 100]  # a jump lies between the two points
    assert gain(name, param, of="backward") == pytest.approx(
        np.square(slopes).mean() ** -0.5, rel=1e-4
    )


def test_published_values() -> None:
    known = {"tanh": 1.592, "sigmoid": 1.846, "selu": 1.000, "gelu": 1.534, "silu": 1.677}
    for name, value in known.items():
        assert gain(name) == pytest.approx(value, abs=1e-3)


def _torch_function(name: str) -> Callable[[Tensor], Tensor]:
    """The same function by another road: torch.nn's module where there is one."""
    others: dict[str, Callable[[Tensor], Tensor]] = {
        "gelu_tanh": nn.GELU(approximate="tanh"),
        "quick_gelu": lambda x: x / (1 + torch.exp(-1.702 * x)),
        "relu_squared": lambda x: x.clamp(min=0) ** 2,
        "sin": torch.sin,
        "threshold": nn.Threshold(*PAIR),
        "prelu": nn.PReLU(dtype=torch.float64),
        "rrelu": nn.RReLU().eval(),
    }
    if name in others:
        return torch.no_grad()(others[name])
    if name.startswith(("linear", "conv")):
        return nn.Identity()
    modules = {key.lower(): value for key, value in vars(nn).items()}
    return modules[name.replace("_", "")]()


def _scipy_mean(function: Callable[[float], float]) -> float:
    knots = sorted({-38.0, *np.arange(-8, 8.5, 0.5), 0.1, math.sqrt(2), 38.0})
    pieces = (
        quad(lambda z: function(z) * _density(z), low, high, epsabs=1e-15, epsrel=1e-13)[0]
        for low, high in itertools.pairwise(knots)
    )
    return math.fsum(pieces)


def _density(z: float) -> float:
    return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def _scipy_mean_square(function: Callable[[Tensor], Tensor]) -> float:
    return _scipy_mean(lambda z: float(function(torch.tensor(z, dtype=torch.float64))) ** 2)
