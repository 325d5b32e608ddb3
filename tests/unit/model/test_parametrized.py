from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from fanin.errors import PlanError
from fanin.init import orthogonal_
from fanin.model.parametrized import Parametrized, parametrized

Wrap = Callable[[nn.Module], nn.Module]


def old(wrap: Callable[..., nn.Module], module: nn.Module, *names: object) -> nn.Module:
    """The older utilities warn that they are deprecated; people's models have them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return wrap(module, *names)


def old_weight_norm(module: nn.Module, name: str = "weight", dim: int | None = 0) -> nn.Module:
    return old(nn.utils.weight_norm, module, name, dim)


def old_spectral_norm(module: nn.Module, name: str = "weight") -> nn.Module:
    return old(nn.utils.spectral_norm, module, name)


class Doubled(nn.Module):
    """With a right_inverse, and a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(2.0))

    def forward(self, original: Tensor) -> Tensor:
        return original * self.factor

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight / self.factor


class Split(nn.Module):
    """Several originals: a part that is positive and one that is negative."""

    def forward(self, positive: Tensor, negative: Tensor) -> Tensor:
        return positive - negative

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return weight.clamp(min=0), (-weight).clamp(min=0)


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


def through(*chain: nn.Module, unsafe: bool = False) -> Wrap:
    def wrap(module: nn.Module) -> nn.Module:
        for each in chain:
            parametrize.register_parametrization(module, "weight", each, unsafe=unsafe)
        return module

    return wrap


def chained(module: nn.Module) -> nn.Module:
    return through(Split(), Doubled())(module)


EXACT: dict[str, Wrap] = {
    "weight_norm": parametrizations.weight_norm,
    "weight_norm of all": lambda module: parametrizations.weight_norm(module, dim=None),
    "weight_norm by column": lambda module: parametrizations.weight_norm(module, dim=1),
    "own": through(Doubled()),
    "several originals": through(Split()),
    "chained": chained,
    "old weight_norm": old_weight_norm,
    "old weight_norm of all": lambda module: old_weight_norm(module, dim=None),
    "old weight_norm by column": lambda module: old_weight_norm(module, dim=1),
}
RESCALED: dict[str, Wrap] = {
    "spectral_norm": parametrizations.spectral_norm,
    "spectral_norm last": lambda m: parametrizations.spectral_norm(through(Doubled())(m)),
    "spectral_norm first": lambda m: through(Doubled())(parametrizations.spectral_norm(m)),
    "old spectral_norm": old_spectral_norm,
}
each_exact = pytest.mark.parametrize("wrap", EXACT.values(), ids=list(EXACT))
each_rescaled = pytest.mark.parametrize("wrap", RESCALED.values(), ids=list(RESCALED))
each = pytest.mark.parametrize(
    "wrap", [*EXACT.values(), *RESCALED.values()], ids=[*EXACT, *RESCALED]
)


def layer(wrap: Wrap, dtype: torch.dtype = torch.float32) -> nn.Linear:
    wrapped = wrap(nn.Linear(24, 32).to(dtype))
    assert isinstance(wrapped, nn.Linear)
    return wrapped


def held(module: nn.Module) -> Parametrized:
    return parametrized(module)["weight"]


def normal(*shape: int, std: float = 0.1, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(11)
    return (torch.randn(shape, generator=generator, dtype=torch.float64) * std).to(dtype)


def state(module: nn.Module) -> list[object]:
    """All that a trial might change, as data."""
    attributes = {k: v for k, v in vars(module).items() if isinstance(v, Tensor)}
    tensors = {**module.state_dict(), **attributes}
    return [
        {name: (id(t), t._version, t.tolist()) for name, t in attributes.items()},
        {name: (t.data_ptr(), t._version, t.tolist()) for name, t in tensors.items()},
        [each.training for each in module.modules()],
        torch.get_rng_state().tolist(),
    ]


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


@pytest.mark.parametrize("wrap", [parametrizations.weight_norm, old_weight_norm])
def test_meta_originals_are_refused(wrap: Wrap) -> None:
    module = wrap(nn.Linear(24, 32, device="meta"))
    assert held(module).value().shape == (32, 24)
    with pytest.raises(PlanError, match=r"Got '.*' on the meta device for 'weight' of Linear"):
        held(module).write(normal(32, 24))


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
