"""`mapped` and `from_function`: initializers that a user's function makes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import fanin
from fanin.drawing import draw
from fanin.errors import ArgumentError, PlanError
from fanin.fills import FromFunction, Mapped, Normal, TruncNormal, Uniform
from fanin.geometry import Layout, Region
from fanin.initializers import from_function, kaiming_normal, mapped, normal, orthogonal, uniform
from fanin.stream import Key

KEY = Key(0, "weight")


def without_small(x: Tensor) -> Tensor:
    """The learner's example: zero where the magnitude is below 5."""
    return x * (x.abs() >= 5)


def noise(tensor: Tensor, generator: torch.Generator) -> None:
    tensor.normal_(generator=generator)


def drawn(fill: fanin.fills.Fill, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    out = torch.empty(shape, dtype=dtype)
    draw(fill, KEY, Region.whole(shape), out)
    return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_mapped_fill_is_the_function_of_its_base(dtype: torch.dtype) -> None:
    fill = mapped(uniform(-10, 10), without_small).resolve(Layout.linear(30, 20))
    base = drawn(Uniform(-10, 10), (30, 20), torch.promote_types(dtype, torch.float32))
    assert torch.equal(drawn(fill, (30, 20), dtype), without_small(base).to(dtype))


def test_a_mapped_fill_is_sharded() -> None:
    fill = Mapped(Normal(0.0, 1.0), torch.sin)
    rows = torch.empty(2, 20)
    draw(fill, KEY, Region.block((30, 20), [slice(4, 8, 2), slice(20)]), rows)
    assert torch.equal(rows, drawn(fill, (30, 20), torch.float32)[4:8:2])


def test_a_structure_can_be_mapped() -> None:
    fill = mapped(orthogonal(), torch.abs).resolve(Layout.linear_transposed(6, 4))
    plain = orthogonal().resolve(Layout.linear_transposed(6, 4))
    assert torch.equal(
        drawn(fill, (6, 4), torch.float32), drawn(plain, (6, 4), torch.float32).abs()
    )
    assert math.isnan(fill.moments((6, 4))[1])


@pytest.mark.parametrize(
    ("base", "mean", "std"),
    [
        (Uniform(-1.0, 3.0), 1.0, 4 / math.sqrt(12)),
        (Normal(1.0, 2.0), 1.0, 2.0),
        (TruncNormal(0.0, 1.0, 5.0, 6.0), *TruncNormal(0.0, 1.0, 5.0, 6.0).moments(())),
        (TruncNormal(0.0, 1.0, -6.0, -5.0), *TruncNormal(0.0, 1.0, -6.0, -5.0).moments(())),
        (Mapped(Normal(0.0, 1.0), torch.exp), math.exp(0.5), math.sqrt(math.e * (math.e - 1))),
    ],
)
def test_moments_of_the_identity_are_those_of_the_base(
    base: fanin.fills.Fill, mean: float, std: float
) -> None:
    # 2**14 quantiles leave out the outermost 2**-15 of the mass on either side.
    assert Mapped(base, torch.clone).moments((3,)) == pytest.approx((mean, std), rel=1e-2)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x / x.abs().max(),
        lambda x: x.sort().values,
        lambda x: x + 1e-6 * torch.rand_like(x),
    ],
)
def test_a_function_of_the_whole_or_of_chance_is_refused(function: object) -> None:
    state = torch.get_rng_state()
    with pytest.raises(ArgumentError, match=r"entry by entry.*from_function"):
        Mapped(Normal(), function)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_function_without_a_value_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"a value everywhere\. Got NaN .* at -2"):
        Mapped(Normal(), torch.log)


def test_what_a_function_raises_is_told_with_its_origin() -> None:
    with pytest.raises(ArgumentError, match=r"Got TypeError.*test_functions:.*lambda"):
        Mapped(Normal(), lambda x, y: x)
    with pytest.raises(PlanError, match=r"'weight' by rule 'weight'.*Got ValueError: no"):
        fanin.initialize(nn.Linear(2, 2, bias=False), {"weight": from_function(refuse)}, seed=0)


def refuse(tensor: Tensor) -> None:
    raise ValueError("no")


@pytest.mark.parametrize("function", [lambda x: x[:1], lambda x: 3.0])
def test_a_result_of_another_shape_is_refused(function: object) -> None:
    with pytest.raises(ArgumentError, match="a tensor of the shape it got"):
        Mapped(Normal(), function)


def test_a_function_gets_the_whole_tensor_and_a_generator() -> None:
    fill, state = FromFunction(noise), torch.get_rng_state()
    whole = drawn(fill, (30, 20), torch.float32)
    assert torch.equal(torch.get_rng_state(), state)
    assert whole.std() == pytest.approx(1, abs=0.2)
    part = torch.empty(5, 2, dtype=torch.float64)
    draw(fill, KEY, Region.block((30, 20), [slice(3, 8), slice(0, 10, 5)]), part)
    in_double = drawn(fill, (30, 20), torch.float64)
    assert torch.equal(part, in_double[3:8, 0:10:5])


@pytest.mark.parametrize(
    "function", [nn.init.orthogonal_, nn.init.xavier_uniform_, fanin.init.kaiming_normal_]
)
def test_the_functions_of_torch_serve(function: object) -> None:
    layers = [nn.Linear(6, 4, bias=False) for _ in range(2)]
    for layer in layers:
        fanin.initialize(layer, {"weight": from_function(function)}, seed=0)
    assert torch.equal(layers[0].weight, layers[1].weight)
    assert layers[0].weight.std() > 0.1


def test_a_function_without_a_generator_uses_a_seeded_one() -> None:
    fill, state = FromFunction(lambda x: torch.randn_like(x)), torch.get_rng_state()
    assert torch.equal(drawn(fill, (9,), torch.float32), drawn(fill, (9,), torch.float32))
    assert torch.equal(torch.get_rng_state(), state)


def test_parts_are_functions_of_their_own() -> None:
    shapes = []

    def record(tensor: Tensor) -> None:
        shapes.append(tuple(tensor.shape))

    recipe = {"**": normal(), "in_proj_weight": from_function(record)}
    fanin.initialize(nn.MultiheadAttention(4, 2), recipe, seed=0)
    assert shapes == [(4, 4)] * 3


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(ArgumentError, match="from_function: a function of a tensor"):
        from_function("ones_")
    with pytest.raises(ArgumentError, match="mapped: what is mapped is an initializer"):
        mapped(torch.exp, normal())
    with pytest.raises(ArgumentError, match="mapped: a function of a tensor"):
        mapped(normal(), kaiming_normal())
    with pytest.raises(ArgumentError, match="only named arguments can be written down"):
        mapped(normal(), torch.exp).to_json()
