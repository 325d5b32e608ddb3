"""Fixed points, slopes and the edge of chaos, against published values and against real nets."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

import fanin
from fanin.errors import ArgumentError, UnknownNameError
from fanin.flow.meanfield import critical, edge_of_chaos, mean_field, phase_diagram
from fanin.flow.meanfield.moments import Moments, moments_of

PNG = b"\x89PNG"


# Critical variances as the papers print them, (σ_w², σ_b²).
PUBLISHED = [
    ("tanh", 1.76, 0.05, 0.005),  # Schoenholz et al. 2017
    ("tanh", 1.05, 2.01e-5, 0.005),  # Pennington et al. 2017
    ("relu", 2.0, 0.0, 1e-12),  # He et al. 2015; Hayou et al. 2019
    ("tanh", 1.0, 0.0, 1e-12),
    # Roberts, Yaida & Hanin 2021, arXiv:2106.10165, section 5.3.4.
    ("gelu", 1.98305826, 0.17292239, 1e-8),
    ("silu", 1.98800468, 0.55514317, 1e-8),
]


@pytest.mark.parametrize(("name", "weight", "bias", "within"), PUBLISHED)
def test_published_critical_variances(name: str, weight: float, bias: float, within: float) -> None:
    found = critical(name, sigma_b=math.sqrt(bias))
    assert found.sigma_w**2 == pytest.approx(weight, abs=within)
    assert found.sigma_b**2 == pytest.approx(bias)


def test_gelus_half_stable_length_is_the_published_one() -> None:
    """(3 + √17) / 2, where both slopes are 1: Roberts, Yaida & Hanin 2021."""
    q = (3 + math.sqrt(17)) / 2
    (point,) = edge_of_chaos("gelu", lengths=[q])
    field = mean_field("gelu", sigma_w=point.sigma_w, sigma_b=point.sigma_b, start=q)
    assert (field.chi, field.length_slope) == (pytest.approx(1), pytest.approx(1, abs=1e-9))
    assert (point.sigma_w**2, point.sigma_b**2) == (
        pytest.approx(1.98305826, abs=1e-8),
        pytest.approx(0.17292239, abs=1e-8),
    )


def test_relu_in_closed_form() -> None:
    """q* = σ_b² / (1 - σ_w²/2), and Cho & Saul's arc-cosine kernel as the correlation map."""
    field = mean_field("relu", sigma_w=1.2, sigma_b=0.5)
    assert field.q == pytest.approx(0.25 / (1 - 0.72), rel=1e-9)
    assert (field.chi, field.length_slope) == (pytest.approx(0.72), pytest.approx(0.72))
    assert (field.phase, field.c) == ("ordered", 1.0)
    for c in (-0.5, 0.0, 0.3, 0.9, 1.0):
        kernel = (math.sqrt(1 - c * c) + c * (math.pi - math.acos(c))) / math.pi
        expected = (1.44 / 2 * field.q * kernel + 0.25) / field.q
        assert field.correlation_map(c) == pytest.approx(expected, abs=3e-6)


def test_sines_in_closed_form() -> None:
    """E sin² = (1 - e^{-2q})/2, E cos² = (1 + e^{-2q})/2, E sin sin = e^{-q} sinh(qc)."""
    field = mean_field("sin", sigma_w=1.4, sigma_b=0.3)
    q = field.q
    assert q == pytest.approx(1.96 * (1 - math.exp(-2 * q)) / 2 + 0.09, rel=1e-9)
    assert field.chi == pytest.approx(1.96 * (1 + math.exp(-2 * q)) / 2, rel=1e-9)
    assert field.length_slope == pytest.approx(1.96 * math.exp(-2 * q), rel=1e-10)
    assert field.phase == "chaotic"
    image = (1.96 * math.exp(-q) * math.sinh(q * field.c) + 0.09) / q
    assert image == pytest.approx(field.c, abs=1e-9)
    slope = 1.96 * math.exp(-q) * math.cosh(q * field.c)
    assert field.correlation_slope == pytest.approx(slope, abs=1e-9)
    assert field.xi_c == pytest.approx(-1 / math.log(slope), rel=1e-6)


def test_relu_above_its_edge_has_no_fixed_length() -> None:
    field = mean_field("relu", sigma_w=1.5)
    assert (field.phase, field.q) == ("diverging", math.inf)
    assert field.chi == pytest.approx(1.125)
    assert math.isnan(field.c)
    assert math.isnan(field.correlation_map(0.5))
    assert (field.xi_q, field.xi_gradient) == (math.inf, pytest.approx(1 / math.log(1.125)))


def test_relu_on_its_edge_keeps_every_length() -> None:
    found = critical("relu")
    assert math.isnan(found.q)
    for start in (1e-3, 1.0, 50.0):
        field = mean_field("relu", sigma_w=found.sigma_w, start=start)
        assert (field.phase, field.q, field.xi_c) == ("critical", start, math.inf)


def test_signals_of_tanh_die_out_below_one() -> None:
    dying, still = (mean_field("tanh", sigma_w=sigma) for sigma in (0.9, 1.0))
    assert (dying.q, dying.phase) == (0.0, "ordered")
    assert dying.chi == pytest.approx(0.81)
    assert (still.q, still.phase, still.xi_q) == (0.0, "critical", math.inf)
    just_above = mean_field("tanh", sigma_w=1.001)
    # To first order in q: 1 = σ_w² (1 - 2q).
    assert just_above.q == pytest.approx((1 - 1.001**-2) / 2, rel=0.01)


def test_two_fixed_points_and_the_start_between_them() -> None:
    """silu: short lengths stay short, long ones grow without bound."""
    short, long = (mean_field("silu", sigma_w=1.6, sigma_b=0.2, start=s) for s in (1.0, 30.0))
    assert short.phase == "ordered"
    assert short.length_slope < 1
    assert long.phase == "diverging"


def test_an_edge_that_lengths_leave() -> None:
    sigma_w, sigma_b, q = critical("gelu", sigma_b=0.2)
    field = mean_field("gelu", sigma_w=sigma_w, sigma_b=sigma_b, start=q)
    assert field.chi == pytest.approx(1, abs=1e-12)
    assert field.length_slope > 1.05
    assert field.xi_q == math.inf


@pytest.mark.parametrize("name", ["hardtanh", "selu", "elu", "softsign", "sigmoid", "relu6"])
def test_at_the_critical_point_the_slope_is_one(name: str) -> None:
    found = critical(name, sigma_b=0.3)
    field = mean_field(name, sigma_w=found.sigma_w, sigma_b=0.3, start=found.q)
    assert field.chi == pytest.approx(1, abs=1e-10)
    assert field.q == pytest.approx(found.q, rel=1e-9)
    assert (field.c, field.phase) == (1.0, "critical")


def test_the_edge_as_a_curve() -> None:
    edge = edge_of_chaos("tanh", lengths=[0.01, 0.1, 1.0])
    widths = [point.sigma_w for point in edge]
    assert widths == sorted(widths)
    for point in edge:
        again = critical("tanh", sigma_b=point.sigma_b)
        assert again == pytest.approx(tuple(point), rel=1e-6)
    assert {(round(p.sigma_w, 9), p.sigma_b) for p in edge_of_chaos("relu")} == {
        (round(math.sqrt(2), 9), 0.0)
    }
    assert edge_of_chaos("softplus") == ()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (lambda: critical("relu", sigma_b=0.1), "without biases alone"),
        (lambda: critical("softplus"), "grow without bound wherever"),
        (lambda: critical("softshrink"), "has sigma_b from 0.08"),
        (lambda: critical("tanh", sigma_b=-1), "0 or more. Got -1"),
        (lambda: mean_field("tanh", sigma_w=0.0), "above 0. Got 0.0"),
        (lambda: mean_field("tanh", sigma_w=math.nan), "finite number"),
        (lambda: mean_field("tanh", sigma_w=1.0, start=0.0), "start is a finite number"),
        (lambda: mean_field("hardshrink", sigma_w=1.0), "must not jump"),
        (lambda: mean_field("threshold", sigma_w=1.0, param=(0.1, 0.3)), "must not jump"),
        (lambda: mean_field(nn.Softmax(dim=-1), sigma_w=1.0), "element alone"),
        (lambda: mean_field(lambda x: x, sigma_w=1.0, param=2.0), "carries its own parameters"),
        (lambda: mean_field(3, sigma_w=1.0), "a known name"),
        (lambda: edge_of_chaos("tanh", lengths=[0.0]), "a length is a finite number"),
        (lambda: phase_diagram("tanh", sigma_w=(1.0, 1.0)), "is a pair"),
        (lambda: phase_diagram("tanh", steps=1), "2 or more"),
    ],
)
def test_refusals(asked: object, message: str) -> None:
    assert callable(asked)
    with pytest.raises(ArgumentError, match=message):
        asked()


def test_an_unknown_name_is_told_its_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean tanh"):
        critical("tahn")


def test_callables_and_modules_are_what_names_are() -> None:
    named = mean_field("tanh", sigma_w=1.5, sigma_b=0.1)
    for same in (torch.tanh, nn.Tanh(), lambda x: x.tanh()):
        assert mean_field(same, sigma_w=1.5, sigma_b=0.1).q == named.q
    assert critical("hardtanh", param=(-2.0, 2.0), sigma_b=0.5).sigma_w > 1


def test_moments_of_long_lengths_find_what_happens_near_zero() -> None:
    """tanh at q: E f'² → 2/(3 √(2π q)) · 2 as q grows, all of it within |z| < 1/√q."""
    moments = moments_of("tanh", None)
    q = 1e8
    assert moments.slope_square(q) == pytest.approx(4 / 3 / math.sqrt(2 * math.pi * q), rel=1e-6)
    hard = moments_of("hardtanh", None)
    assert hard.slope_square(q) == pytest.approx(2 / math.sqrt(2 * math.pi * q), rel=1e-6)
    assert isinstance(hard, Moments)


def test_the_callers_torch_state_does_not_matter() -> None:
    before = torch.get_rng_state()
    with torch.no_grad(), torch.device("meta"):
        inside = mean_field("gelu", sigma_w=1.3, sigma_b=0.2)
    assert inside.q == mean_field("gelu", sigma_w=1.3, sigma_b=0.2).q
    assert torch.equal(torch.get_rng_state(), before)


def test_a_wide_net_does_as_predicted() -> None:
    """Width 1000, 25 layers of tanh in the chaotic phase: lengths, correlations, gradients.

    One layer's mean square strays by up to √2/√1000 = 4.5 %, its correlation by 1/√1000 = 0.03;
    means over the layers by a few times less. The seed is fixed: no chance is left.
    """
    width, depth, sigma_w, sigma_b = 1000, 25, 1.8, 0.3
    field = mean_field("tanh", sigma_w=sigma_w, sigma_b=sigma_b)
    generator = torch.Generator().manual_seed(0)
    first, other = math.sqrt(field.q) * torch.randn(2, width, generator=generator)
    h = inputs = torch.stack([first, 0.9 * first + math.sqrt(0.19) * other]).requires_grad_()
    lengths, surprises = [], []
    for _ in range(depth):
        before = float(torch.cosine_similarity(*h.detach(), dim=0))
        weight = torch.randn(width, width, generator=generator) * sigma_w / math.sqrt(width)
        h = torch.tanh(h) @ weight.T + torch.randn(width, generator=generator) * sigma_b
        lengths.append(float(h.detach().square().mean()))
        after = float(torch.cosine_similarity(*h.detach(), dim=0))
        surprises.append(after - field.correlation_map(before))
    ones = torch.randn(h.shape, generator=generator)
    (gradient,) = torch.autograd.grad(h, inputs, ones)
    growth = float(gradient.square().mean() / ones.square().mean()) ** (1 / depth)
    assert np.mean(lengths) == pytest.approx(field.q, rel=0.04)
    assert np.mean(surprises) == pytest.approx(0, abs=0.02)
    assert growth == pytest.approx(field.chi, rel=0.03)


def test_the_diagram_has_the_exact_numbers() -> None:
    diagram = phase_diagram("tanh", sigma_w=(0.5, 2.5), sigma_b=(0.0, 1.0), steps=5)
    for row, column in ((0, 4), (2, 1), (4, 3)):
        exact = mean_field("tanh", sigma_w=diagram.sigma_w[column], sigma_b=diagram.sigma_b[row])
        assert diagram.q[row, column] == pytest.approx(exact.q, rel=2e-3)
        assert diagram.chi[row, column] == pytest.approx(exact.chi, rel=2e-3)
    assert diagram.q[0, 0] == 0
    relu = phase_diagram("relu", steps=4)
    assert np.isinf(relu.q[2]).tolist() == [False, False, True, True]


@pytest.mark.parametrize("name", ["tanh", "relu", "gelu", "softplus"])
def test_the_picture(name: str, tmp_path) -> None:
    diagram = phase_diagram(name, steps=24)
    diagram.save(tmp_path / "phases.png", mean_field(name, sigma_w=1.0, sigma_b=0.3))
    assert (tmp_path / "phases.png").read_bytes().startswith(PNG)
    (axes, *_) = diagram.plot().axes
    names = {text.get_text() for text in axes.texts}
    assert "ordered" in names
    assert ("chaotic" in names) == (name == "tanh")
    lines = {str(line.get_label()) for line in axes.lines}
    assert ("edge of chaos, χ₁ = 1" in lines) == (name != "softplus")
    assert any("leave" in line for line in lines) == (name == "gelu")


def test_it_prints_and_has_names_at_the_top() -> None:
    text = str(fanin.mean_field("tanh", sigma_w=1.5, sigma_b=0.3))
    assert text.startswith("tanh, σ_w 1.5, σ_b 0.3: chaotic")
    assert "q*           0.961" in text
    assert fanin.critical("tanh").sigma_w == pytest.approx(1)
    assert fanin.phase_diagram("relu", steps=2).q.shape == (2, 2)


def test_two_fixed_points_about_to_merge_are_not_passed_over() -> None:
    """gelu with growing σ_w: the stable length and the one above it meet where the slope is 1."""
    low, high = 1.0, 2.0
    for _ in range(30):
        middle = (low + high) / 2
        found = mean_field("gelu", sigma_w=middle, sigma_b=0.1, start=1e-3)
        low, high = (low, middle) if found.phase == "diverging" else (middle, high)
    last = mean_field("gelu", sigma_w=low, sigma_b=0.1, start=1e-3)
    assert last.length_slope == pytest.approx(1, abs=1e-4)
    assert last.phase == "ordered"


@pytest.mark.parametrize("sigma_b", [1e-4, 1e-2, 0.5])
def test_biases_however_small_add_to_lengths_that_the_weights_keep(sigma_b: float) -> None:
    field = mean_field("relu", sigma_w=math.sqrt(2), sigma_b=sigma_b)
    assert (field.q, field.phase, field.xi_gradient) == (math.inf, "diverging", math.inf)


@pytest.mark.parametrize("name", ["softshrink", "tanhshrink"])
def test_functions_that_are_flat_at_0_let_no_gradient_through(name: str) -> None:
    field = mean_field(name, sigma_w=1.0)
    assert (field.q, field.chi, field.phase, field.xi_gradient) == (0.0, 0.0, "ordered", 0.0)
    assert "ordered" in str(field)


def test_starts_beyond_the_table_go_where_its_ends_go() -> None:
    for start, end in ((1e9, 1e8), (1e-20, 1e-16)):
        beyond, there = (phase_diagram("silu", steps=4, start=each).q for each in (start, end))
        assert np.array_equal(beyond, there)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (lambda: mean_field(lambda x: 0 * x + 1, sigma_w=1.0), "must depend on its input"),
        (lambda: mean_field("tanh", sigma_w=1e200), r"at most 1e\+100\. Got 1e\+200 for sigma_w"),
        (lambda: mean_field("tanh", sigma_w=1.0, sigma_b=1e200), "Got 1e\\+200 for sigma_b"),
        (lambda: critical("tanh", sigma_b=1e200), "Got 1e\\+200 for sigma_b"),
        (lambda: phase_diagram("tanh", sigma_w=("a", 1)), r"pair .* of numbers.*Got \('a', 1\)"),
        (lambda: phase_diagram("tanh", sigma_b=(0.0, 1e200)), r"at most 1e\+100"),
        (lambda: edge_of_chaos("tanh", lengths=5), r"several numbers\. Got 5 for lengths"),
    ],
)
def test_numbers_out_of_reach(asked: Callable[[], object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        asked()
