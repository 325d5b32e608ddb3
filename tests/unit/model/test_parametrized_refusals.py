"""Values that a parametrization cannot hold are refused, and those that it can are written."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from parametrized_layers import Wrap, each, held, layer, normal, old_weight_norm, state, through
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from fanin.errors import PlanError
from fanin.init import orthogonal_


class Symmetric(nn.Module):
    """Without a right_inverse."""

    def forward(self, original: Tensor) -> Tensor:
        return original.triu() + original.triu(1).mT


class Masked(nn.Module):
    """Not every weight can be held."""

    def forward(self, original: Tensor) -> Tensor:
        return original.tril()

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight


@pytest.mark.parametrize("orthogonal_map", ["matrix_exp", "cayley", "householder"])
@pytest.mark.parametrize("shape", [(16, 16), (32, 24), (24, 32)])
def test_an_orthogonal_parametrization_holds_orthogonal_values_only(
    orthogonal_map: str, shape: tuple[int, int]
) -> None:
    module = nn.Linear(shape[1], shape[0])
    parametrizations.orthogonal(module, orthogonal_map=orthogonal_map)
    value = orthogonal_(torch.empty(shape))
    before = state(module)
    assert held(module).refusal(value) == ""
    refusal = held(module).refusal(normal(*shape))
    assert state(module) == before
    assert "reads back as what was written" in refusal
    assert "Match it with orthogonal(), or leave it with keep()." in refusal
    held(module).write(value)
    torch.testing.assert_close(module.weight.detach(), value, atol=1e-5, rtol=0)
    inputs = normal(5, shape[1])
    torch.testing.assert_close(
        module(inputs), F.linear(inputs, value, module.bias), atol=1e-5, rtol=0
    )


def test_orthogonal_is_no_advice_for_a_kernel_whose_last_two_dims_torch_takes() -> None:
    module = parametrizations.orthogonal(nn.Conv2d(8, 4, 3))
    refusal = held(module).refusal(orthogonal_(torch.empty(4, 8, 3, 3)))
    assert "orthogonal()" not in refusal
    assert refusal.endswith("that the parametrization can give, or leave it with keep().")


def test_the_completed_base_of_an_orthogonal_parametrization_repeats() -> None:
    module, value = nn.Linear(24, 32), orthogonal_(torch.empty(32, 24))
    parametrizations.orthogonal(module, orthogonal_map="cayley")
    bases = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        held(module).write(value)
        bases.append(module.parametrizations.weight[0].base)
    assert torch.equal(*bases)


def test_an_orthogonal_map_that_cannot_be_inverted_is_refused() -> None:
    module = layer(lambda m: parametrizations.orthogonal(m, orthogonal_map="householder"))
    module.parametrizations.weight[0].orthogonal_map = type(
        module.parametrizations.weight[0].orthogonal_map
    ).cayley
    del module.parametrizations.weight[0].base
    assert "written through right_inverse" in held(module).refusal(torch.eye(32, 24))


def test_without_a_right_inverse_nothing_is_written() -> None:
    module = through(Symmetric())(nn.Linear(4, 4))
    before = state(module)
    with pytest.raises(PlanError, match="right_inverse") as caught:
        held(module).write(torch.eye(4))
    assert state(module) == before
    assert str(caught.value) == (
        "write a parametrized weight: the weight is written through right_inverse. Got none for "
        "'weight' of Linear through Symmetric. Initialize before parametrizing, give the "
        "parametrization a right_inverse, or leave it with keep()."
    )


def test_one_element_that_reads_back_differently_is_enough() -> None:
    module = through(Masked())(nn.Linear(200, 200))
    value = normal(200, 200).tril()
    assert held(module).refusal(value) == ""
    value[0, 1] = 0.001
    with pytest.raises(PlanError, match=r"a difference of 0\.001 in values up to 0\.4"):
        held(module).write(value)


def test_a_value_is_tried_in_eval_mode() -> None:
    class Dropped(Masked):
        def forward(self, original: Tensor) -> Tensor:
            return F.dropout(original, 0.5, self.training)

    module = through(Dropped())(nn.Linear(4, 4))
    assert held(module).refusal(torch.ones(4, 4)) == ""
    held(module).write(torch.ones(4, 4))
    assert torch.equal(held(module).value(), torch.ones(4, 4))


def test_a_weight_of_another_dtype_than_its_original_takes_values_of_its_own() -> None:
    class Narrowed(nn.Module):
        def forward(self, original: Tensor) -> Tensor:
            return original.bfloat16()

        def right_inverse(self, weight: Tensor) -> Tensor:
            return weight.float()

    module = through(Narrowed(), unsafe=True)(nn.Linear(4, 4))
    held(module).write(torch.eye(4, dtype=torch.bfloat16))
    assert module.parametrizations.weight.original.dtype == torch.float32
    refusal = held(module).refusal(torch.eye(4))
    assert "the weight holds (4, 4) torch.bfloat16. Got (4, 4) torch.float32" in refusal


def test_an_error_of_a_users_own_is_part_of_the_refusal() -> None:
    class Picky(Masked):
        def right_inverse(self, weight: Tensor) -> Tensor:
            if weight.std() > 1:
                raise ValueError("weights are small.")
            return weight

    module = through(Picky(), unsafe=True)(nn.Linear(4, 4))
    with pytest.raises(PlanError, match=r"Got ValueError \(weights are small\) for 'weight'"):
        held(module).write(torch.eye(4) * 9)


def test_originals_of_other_shapes_are_not_broadcast() -> None:
    class Shrinking(nn.Module):
        def forward(self, original: Tensor) -> Tensor:
            return original.expand(4, 4)

        def right_inverse(self, weight: Tensor) -> Tensor:
            return weight if weight.std() > 0 else weight[:1]

    module = through(Shrinking())(nn.Linear(4, 4))
    assert "correct right_inverse" in held(module).refusal(torch.ones(4, 4))


@each
def test_a_value_of_another_shape_or_dtype_is_refused(wrap: Wrap) -> None:
    module = layer(wrap)
    before = state(module)
    for value in (normal(32, 1), normal(31, 24), normal(32, 24, dtype=torch.float64)):
        with pytest.raises(PlanError, match="write a parametrized weight"):
            held(module).write(value)
    assert state(module) == before


@pytest.mark.parametrize("wrap", [parametrizations.weight_norm, old_weight_norm])
def test_zeros_have_no_direction(wrap: Wrap) -> None:
    refusal = held(layer(wrap)).refusal(torch.zeros(32, 24))
    assert "divides by a norm holds no zero vector" in refusal


@pytest.mark.parametrize("wrap", [parametrizations.weight_norm, old_weight_norm])
def test_meta_originals_are_refused(wrap: Wrap) -> None:
    module = wrap(nn.Linear(24, 32, device="meta"))
    assert held(module).value().shape == (32, 24)
    with pytest.raises(PlanError, match=r"Got '.*' on the meta device for 'weight' of Linear"):
        held(module).write(normal(32, 24))
