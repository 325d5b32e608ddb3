"""Weights that are computed from others: written through what computes them."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from parametrized_layers import (
    EXACT,
    RESCALED,
    Doubled,
    Wrap,
    chained,
    each,
    each_exact,
    each_rescaled,
    held,
    layer,
    normal,
    old_spectral_norm,
    old_weight_norm,
    state,
    through,
)
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from fanin.model.parametrized import parametrized


def test_ordinary_modules_have_none() -> None:
    assert parametrized(nn.Linear(2, 3)) == {}
    hooked = nn.Linear(2, 3)
    hooked.register_forward_pre_hook(lambda module, inputs: None)
    assert parametrized(hooked) == {}


def test_a_users_child_that_is_called_parametrizations_is_no_parametrization() -> None:
    module = nn.Module()
    module.parametrizations = nn.ModuleDict({"weight": nn.Linear(2, 3)})
    assert parametrized(module) == {}
    module.parametrizations = nn.Linear(2, 3)
    assert parametrized(module) == {}


def test_a_parametrized_buffer_is_left_out() -> None:
    module = nn.BatchNorm1d(3)
    parametrize.register_parametrization(module, "running_mean", Doubled())
    assert parametrized(module) == {}


def test_originals_have_the_names_of_the_state_dict() -> None:
    for wrap in [*EXACT.values(), *RESCALED.values()]:
        module = layer(wrap)
        originals = held(module).originals
        parameters = dict(module.named_parameters())
        assert originals
        for name, original in originals:
            assert parameters[name] is original
            assert name in module.state_dict()


def test_a_parameter_of_the_parametrization_itself_is_no_original() -> None:
    module = layer(chained)
    names = [name for name, _ in held(module).originals]
    assert names == ["parametrizations.weight.original0", "parametrizations.weight.original1"]
    assert "parametrizations.weight.1.factor" in dict(module.named_parameters())
    held(module).write(normal(32, 24))
    assert module.parametrizations.weight[1].factor.item() == 2


@each_exact
@pytest.mark.parametrize("training", [True, False])
def test_pain_10_the_next_forward_uses_what_was_written(wrap: Wrap, training: bool) -> None:
    module, value = layer(wrap).train(training), normal(32, 24)
    weight = held(module)
    assert weight.note == weight.refusal(value) == ""
    weight.write(value)
    torch.testing.assert_close(weight.value(), value)
    torch.testing.assert_close(module.weight.detach(), value)
    # 768 numbers: their std is that of the value, which was drawn with 0.1.
    assert module.weight.std().item() == pytest.approx(value.std().item(), rel=1e-5)
    inputs = normal(5, 24, std=1)
    torch.testing.assert_close(module(inputs), F.linear(inputs, value, module.bias))


@each
def test_gradients_reach_the_originals_after_a_write(wrap: Wrap) -> None:
    module = layer(wrap)
    held(module).write(normal(32, 24))
    module(normal(5, 24, std=1)).square().sum().backward()
    for _, original in held(module).originals:
        assert original.grad is not None
        assert original.grad.abs().max() > 0


@each
def test_originals_keep_what_they_are(wrap: Wrap) -> None:
    module = layer(wrap)
    before = [tensor for _, tensor in held(module).originals]
    before[0].requires_grad_(False)
    memory = [(tensor.data_ptr(), tensor.shape, tensor.requires_grad) for tensor in before]
    value = normal(32, 24)
    held(module).write(value)
    after = [tensor for _, tensor in held(module).originals]
    assert all(new is tensor for new, tensor in zip(after, before, strict=True))
    assert [(t.data_ptr(), t.shape, t.requires_grad) for t in after] == memory
    value.zero_()  # it was copied
    assert module.weight.abs().max() > 0


@each
def test_reading_and_trying_change_nothing(wrap: Wrap) -> None:
    module = layer(wrap)
    module(normal(5, 24))
    for child in module.modules():  # modes of their own survive
        child.eval() if isinstance(child, Doubled) else child.train()
    before = state(module)
    held(module).value()
    assert held(module).refusal(normal(32, 24)) == ""
    assert held(module).refusal(normal(31, 24)) != ""
    assert state(module) == before


@each
def test_the_value_is_that_of_a_forward_in_eval_mode(wrap: Wrap) -> None:
    module = layer(wrap)
    value, inputs = held(module).value(), normal(5, 24, std=1)
    assert not value.requires_grad
    module.eval()
    torch.testing.assert_close(module(inputs), F.linear(inputs, value, module.bias))


@each_rescaled
def test_a_spectral_norm_says_by_how_much_it_rescales(wrap: Wrap) -> None:
    module, value = layer(wrap), normal(32, 24)
    weight = held(module)
    assert "times 1/σ" in weight.note
    assert weight.refusal(value) == ""
    weight.write(value)
    ratio = weight.value() / value
    torch.testing.assert_close(ratio, torch.full_like(ratio, ratio.mean().item()))
    inputs = normal(5, 24, std=1)
    module.eval()
    torch.testing.assert_close(module(inputs), F.linear(inputs, value * ratio, module.bias))


@pytest.mark.parametrize("wrap", [parametrizations.spectral_norm, old_spectral_norm])
@pytest.mark.parametrize("shape", [(32, 24), (3, 5), (24, 128)])
def test_the_norm_that_results_is_one(wrap: Wrap, shape: tuple[int, int]) -> None:
    module = wrap(nn.Linear(shape[1], shape[0]))
    held(module).write(normal(*shape))
    norm = torch.linalg.matrix_norm(held(module).value(), 2).item()
    # Power iterations find σ from below; fifteen leave a few percent where two values are close.
    assert 1 - 1e-5 < norm < 1.1


@pytest.mark.parametrize("wrap", [parametrizations.spectral_norm, old_spectral_norm])
def test_asked_for_01_a_spectral_norm_gives_many_times_that(wrap: Wrap) -> None:
    module, value = wrap(nn.Linear(1, 1, bias=False)), torch.tensor([[0.1]])
    held(module).write(value)
    assert held(module).value().item() == pytest.approx(1)
    assert held(module).refusal(value) == ""


def test_a_spectral_norm_of_a_vector_rescales_too() -> None:
    module = nn.LayerNorm(8)
    parametrizations.spectral_norm(module)
    held(module).write(normal(8))
    torch.testing.assert_close(module.weight.detach(), normal(8) / normal(8).norm())


@each
def test_what_is_written_is_a_function_of_the_value(wrap: Wrap) -> None:
    module, value = layer(wrap), normal(32, 24)
    held(module).write(value)
    first = held(module).value()
    module(normal(5, 24))
    held(module).write(normal(32, 24, std=3).flip(0))
    torch.manual_seed(1)
    drawn = torch.get_rng_state()
    held(module).write(value)
    assert torch.equal(held(module).value(), first)
    assert torch.equal(torch.get_rng_state(), drawn)


@each
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_other_precisions(wrap: Wrap, dtype: torch.dtype) -> None:
    module, value = layer(wrap).to(dtype), normal(32, 24, dtype=dtype)
    weight = held(module)
    assert weight.refusal(value) == ""
    weight.write(value)
    assert all(original.dtype == dtype for _, original in weight.originals)
    written = weight.value()
    assert written.dtype == dtype
    scale = written.norm() / value.norm() if weight.note else 1
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(written, value * scale, rtol=4 * eps, atol=4 * eps)


def test_complex_values() -> None:
    module = through(Doubled())(nn.Linear(4, 4, dtype=torch.complex64))
    value = torch.complex(normal(4, 4), normal(4, 4).flip(0))
    held(module).write(value)
    torch.testing.assert_close(module.weight.detach(), value)


@pytest.mark.parametrize("wrap", [EXACT["weight_norm"], EXACT["own"], EXACT["old weight_norm"]])
def test_a_large_weight_reads_back_within_the_tolerance(wrap: Wrap) -> None:
    module = wrap(nn.Linear(1000, 1000))
    assert held(module).refusal(normal(1000, 1000)) == ""


@each
def test_memory_formats_stay(wrap: Wrap) -> None:
    module = wrap(nn.Conv2d(6, 8, 3)).to(memory_format=torch.channels_last)
    strides = [original.stride() for _, original in held(module).originals]
    value = normal(8, 6, 3, 3)
    held(module).write(value)
    assert [original.stride() for _, original in held(module).originals] == strides
    inputs = normal(1, 6, 5, 5)
    written = held(module.eval()).value()
    torch.testing.assert_close(module(inputs), F.conv2d(inputs, written, module.bias))


def test_an_old_norm_that_was_allocated_later_can_be_written() -> None:
    for wrap in (old_weight_norm, old_spectral_norm):
        module = wrap(nn.Linear(24, 32, bias=False, device="meta")).to_empty(device="cpu")
        held(module).write(normal(32, 24))
        assert module.weight.device.type == "cpu"
        torch.testing.assert_close(module.weight.detach(), held(module).value())


@pytest.mark.parametrize("wrap", [parametrizations.weight_norm, old_weight_norm])
def test_several_weights_of_a_recurrent_module(wrap: Callable[..., nn.Module]) -> None:
    lstm, plain = nn.LSTM(3, 4), nn.LSTM(3, 4)
    names = ["weight_ih_l0", "weight_hh_l0"]
    for name in names:
        wrap(lstm, name)
    lstm(normal(2, 1, 3))
    assert list(parametrized(lstm)) == names
    for name, weight in parametrized(lstm).items():
        value = normal(*weight.value().shape)
        weight.write(value)
        getattr(plain, name).data = value
    for name in ("bias_ih_l0", "bias_hh_l0"):
        getattr(plain, name).data = getattr(lstm, name).data
    inputs = normal(2, 1, 3, std=1)
    torch.testing.assert_close(lstm(inputs)[0], plain(inputs)[0])


def test_an_old_attribute_stays_as_differentiable_as_it_was() -> None:
    module = layer(old_spectral_norm)
    held(module).write(normal(32, 24).requires_grad_())
    copy.deepcopy(module)  # torch refuses for a weight with a graph
    module = layer(old_weight_norm)
    held(module).write(normal(32, 24).requires_grad_())
    module.weight.sum().backward()
    assert module.weight_g.grad is not None


def test_the_cache_of_torch_does_not_keep_the_weight_from_before() -> None:
    module = layer(parametrizations.weight_norm)
    with parametrize.cached():
        assert module.weight is module.weight
        held(module).write(normal(32, 24))
        torch.testing.assert_close(module.weight.detach(), normal(32, 24))


def test_a_hook_on_what_another_parametrization_computes_has_no_weight_of_its_own() -> None:
    module = layer(old_weight_norm)
    parametrize.register_parametrization(module, "weight_g", Doubled())
    assert list(parametrized(module)) == ["weight_g"]
