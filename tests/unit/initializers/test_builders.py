from __future__ import annotations

import json
import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch

from fanin import fills, gain
from fanin.errors import ArgumentError, LayoutError, UnknownNameError
from fanin.geometry import MODES, Layout
from fanin.initializers import (
    Initializer,
    constant,
    delta_orthogonal,
    dirac,
    eye,
    kaiming_normal,
    kaiming_uniform,
    lecun_normal,
    lecun_uniform,
    normal,
    orthogonal,
    parse,
    sparse,
    trunc_normal,
    uniform,
    variance_scaling,
    xavier_normal,
    xavier_uniform,
    zeros,
)

LAYOUTS = [
    Layout.linear(24, 6),
    Layout.linear_transposed(6, 24),
    Layout.bilinear(4, 3, 5),
    Layout.conv(8, 4, 3, 3, groups=2),
    Layout.conv(9, 9, 5, groups=9),
    Layout.conv_transpose(4, 8, 3, groups=2),
    Layout.conv_transpose(4, 8, 3, stride=2, effective=True),
    Layout.embedding(50, 8),
    Layout((3, 8, 5), in_axes=(2,), out_axes=(1,), batch_axes=(0,)),
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("distribution", ["normal", "truncated_normal", "uniform"])
def test_variance_is_scale_over_fan(layout: Layout, mode: str, distribution: str) -> None:
    fill = variance_scaling(3.0, mode=mode, distribution=distribution).resolve(layout)
    mean, std = fill.moments(layout.shape)
    assert mean == pytest.approx(0.0, abs=1e-12)
    assert std**2 == pytest.approx(3.0 / layout.fans.of(mode), rel=1e-8)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize(
    ("initializer", "scale", "mode"),
    [
        (xavier_normal(), 1.0, "fan_avg"),
        (xavier_uniform(nonlinearity="tanh"), gain("tanh") ** 2, "fan_avg"),
        (kaiming_normal(), 2.0, "fan_in"),
        (kaiming_normal(nonlinearity="gelu"), gain("gelu") ** 2, "fan_in"),
        (kaiming_normal(nonlinearity=torch.nn.GELU()), gain("gelu") ** 2, "fan_in"),
        (kaiming_uniform(nonlinearity="leaky_relu", param=math.sqrt(5)), 1 / 3, "fan_in"),
        (kaiming_uniform(mode="fan_geo_avg"), 2.0, "fan_geo_avg"),
        (lecun_normal(), 1.0, "fan_in"),
        (lecun_uniform(), 1.0, "fan_in"),
    ],
    ids=str,
)
def test_named_cases_of_variance_scaling(
    initializer: Initializer, scale: float, mode: str, layout: Layout
) -> None:
    std = initializer.resolve(layout).moments(layout.shape)[1]
    assert std == pytest.approx(math.sqrt(scale / layout.fans.of(mode)), rel=1e-8)


def test_fan_out_takes_the_gain_of_the_derivative() -> None:
    fill = kaiming_normal(nonlinearity="gelu", mode="fan_out").resolve(Layout.linear(4, 9))
    assert fill.moments((4, 9))[1] == pytest.approx(gain("gelu", of="backward") / 2)
    assert gain("gelu", of="backward") != pytest.approx(gain("gelu"), rel=0.01)


@pytest.mark.parametrize(
    "bounds", [(-2, 2), (-3.0, 1.0), (0, math.inf), (6, 7), (12, math.inf)], ids=str
)
def test_std_of_trunc_normal_is_that_of_the_result(bounds: tuple[float, float]) -> None:
    fill = trunc_normal(mean=1.0, std=0.02, bounds=bounds).resolve(Layout.vector(3))
    assert isinstance(fill, fills.TruncNormal)
    # Bounds are rounded to 32 bits, and count from the mean: 1 is 50 std.
    assert fill.std == pytest.approx(0.02, rel=1e-6)
    sigmas = [(bound - 1.0) / fill.parent_std for bound in (fill.low, fill.high)]
    assert sigmas == pytest.approx(bounds, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    ("layout", "fill"),
    [
        (Layout.linear(4, 3), fills.Orthogonal()),
        (Layout.conv(4, 3, 5), fills.Orthogonal()),
        (Layout.linear_transposed(3, 4), fills.Rearranged(fills.Orthogonal(), (1, 0))),
        (
            Layout.conv(4, 6, 5, groups=2),
            fills.Rearranged(fills.Orthogonal(batch_dims=1), (0, 1, 2, 3), 2),
        ),
        (
            Layout.conv_transpose(4, 6, 5, groups=2),
            fills.Rearranged(fills.Orthogonal(batch_dims=1), (0, 2, 1, 3), 2),
        ),
        (
            Layout((8, 4, 3), in_axes=(2,), out_axes=(1,), batch_axes=(0,)),
            fills.Orthogonal(batch_dims=1),
        ),
        (
            Layout((6, 2, 4), in_axes=(0,), out_axes=(1, 2)),
            fills.Rearranged(fills.Orthogonal(row_dims=2), (1, 2, 0)),
        ),
    ],
    ids=str,
)
def test_orthogonal_follows_the_axes(layout: Layout, fill: fills.Fill) -> None:
    assert orthogonal().resolve(layout) == fill


@pytest.mark.parametrize("layout", [Layout.linear(5, 8), Layout.linear_transposed(8, 5)], ids=str)
def test_sparse_zeroes_inputs_of_each_output(layout: Layout) -> None:
    fill = sparse(0.5).resolve(layout)
    assert isinstance(fill, fills.Sparse)
    assert layout.shape[fill.dim] == 8


def test_dirac_takes_the_groups_of_the_layout_unless_told() -> None:
    layout = Layout.conv(4, 4, 3, groups=2)
    assert dirac().resolve(layout) == fills.Dirac(2)
    assert dirac(groups=4).resolve(layout) == fills.Dirac(4)


def test_arguments_in_full_are_the_defaults() -> None:
    assert kaiming_normal() == kaiming_normal(nonlinearity="relu", mode="fan_in")
    assert hash(kaiming_normal()) == hash(kaiming_normal(nonlinearity="relu"))
    assert kaiming_normal() != kaiming_uniform()


@pytest.mark.parametrize(
    ("initializer", "layout", "message"),
    [
        (kaiming_normal(), Layout.vector(768), r"a fan needs .* Got shape \(768,\)"),
        (orthogonal(), Layout.vector(768), "a matrix needs in and out axes"),
        (eye(), Layout.conv(3, 3, 3), "eye: a matrix has one in and one out axis"),
        (sparse(0.5), Layout.conv(3, 3, 3), "sparse: a matrix has one in and one out axis"),
        (dirac(), Layout.linear(3, 3), r"Use eye\(\) for a matrix"),
        (delta_orthogonal(), Layout.linear(3, 3), r"Use orthogonal\(\)"),
    ],
    ids=str,
)
def test_refused_layouts(initializer: Initializer, layout: Layout, message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        initializer.resolve(layout)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: uniform(low=1.0, high=0.0), "Swap the two bounds"),
        (lambda: trunc_normal(std=-1.0), "std must not be negative"),
        (lambda: trunc_normal(bounds=(2, -2)), "two ascending numbers"),
        (lambda: trunc_normal(bounds=(13, 14)), "at most 12"),
        (lambda: variance_scaling(-1.0), "scale is not negative"),
        (lambda: xavier_normal(gain=2.0, nonlinearity="relu"), "Leave one out"),
        (lambda: xavier_uniform(param=0.1), "Leave one out"),
        (lambda: orthogonal(gain=math.inf), "gain is a finite number"),
        (lambda: sparse(1.5), r"in \[0, 1\]"),
        (lambda: dirac(groups=0), "groups is a positive integer"),
        (lambda: kaiming_normal(nonlinearity=None), "Got None for nonlinearity"),
        (lambda: kaiming_uniform(nonlinearity=None, param=0.2), "Got None for nonlinearity"),
    ],
)
def test_refused_numbers(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "near"),
    [
        (lambda: variance_scaling(mode="fan_inn"), "Did you mean fan_in"),
        (lambda: variance_scaling(distribution="uniforn"), "Did you mean uniform"),
        (lambda: kaiming_normal(mode="fanout"), "Did you mean fan_out"),
        (lambda: kaiming_normal(nonlinearity="geluu"), "Did you mean gelu"),
    ],
)
def test_unknown_words_suggest_near_ones(make: Callable[[], object], near: str) -> None:
    with pytest.raises(UnknownNameError, match=near):
        make()


def test_a_function_prints_but_is_not_written_down() -> None:
    initializer = kaiming_normal(nonlinearity=torch.tanh)
    assert str(initializer) == "kaiming_normal(nonlinearity=<tanh>)"
    with pytest.raises(ArgumentError, match="Name a known nonlinearity"):
        initializer.to_json()


def test_constant_is_its_value() -> None:
    assert constant(0.1).resolve(Layout.vector(3)) == fills.Constant(0.1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: parse("constant(abc)"),
        lambda: constant(math.nan),
        lambda: uniform(low=True),
        lambda: normal(std="1"),
        lambda: parse("sparse(none)"),
    ],
)
def test_numbers_are_finite_numbers(make):
    with pytest.raises(ArgumentError, match="is a finite number"):
        make()


def test_packed_parts_resolve_one_by_one():
    layout = Layout.linear(3 * 8, 8).packed(("q", "k", "v"))
    fill = orthogonal().resolve(layout)
    assert isinstance(fill, fills.Packed)
    assert [part.name for part in fill.parts] == ["q", "k", "v"]
    assert {part.fill for part in fill.parts} == {fills.Orthogonal(1.0)}
    assert zeros().resolve(layout) == fills.Constant(0.0)


@pytest.mark.parametrize("number", [np.float32(0.5), np.float64(0.5), np.int64(3), Fraction(1, 2)])
def test_numbers_of_other_libraries_are_kept_as_pythons_own(number):
    initializer = trunc_normal(std=number, bounds=(-number, number))
    assert initializer == parse(str(initializer))
    assert initializer == Initializer.from_json(json.loads(json.dumps(initializer.to_json())))
    assert {type(value) for value in initializer.arguments[2][1]} <= {int, float}


def test_a_list_of_parameters_is_the_pair_that_it_stands_for():
    initializer = kaiming_normal(nonlinearity="hardtanh", param=[-2, 0.5])
    assert initializer == parse(str(initializer))
    assert hash(initializer) == hash(kaiming_normal(nonlinearity="hardtanh", param=(-2, 0.5)))


def test_an_integer_beyond_every_float_is_no_finite_number():
    with pytest.raises(ArgumentError, match="is a finite number"):
        constant(10**400)


@pytest.mark.parametrize("bounds", [3, None, ("a", "b"), (1, 2, 3), (2, -2), (math.nan, 1)])
def test_bounds_are_two_ascending_numbers(bounds):
    with pytest.raises(ArgumentError, match="bounds are two ascending numbers"):
        trunc_normal(bounds=bounds)


def test_a_std_of_zero_puts_all_mass_at_the_mean_whatever_the_bounds():
    fill = trunc_normal(1.5, 0.0, bounds=(-math.inf, 2)).resolve(Layout.vector(3))
    assert fill.moments((3,)) == (1.5, 0.0)
