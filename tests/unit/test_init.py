"""``fanin.init``: where the bits come from, and every kind of tensor a call may meet."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from fanin import init

RANDOM = {
    "uniform_": {},
    "normal_": {},
    "trunc_normal_": {},
    "xavier_uniform_": {},
    "xavier_normal_": {},
    "kaiming_uniform_": {},
    "kaiming_normal_": {},
    "orthogonal_": {},
    "sparse_": {"sparsity": 0.3},
}
FIXED = {"constant_": {"val": 2.0}, "ones_": {}, "zeros_": {}, "eye_": {}}
EVERY = RANDOM | FIXED

random_functions = pytest.mark.parametrize("name", RANDOM)
every_function = pytest.mark.parametrize("name", EVERY)


def _call(name, tensor, **extra):
    return getattr(init, name)(tensor, **EVERY[name], **extra)


def _expected(name, seed=0, shape=(6, 8)):
    return _call(name, torch.empty(shape), generator=torch.Generator().manual_seed(seed))


@random_functions
def test_manual_seed_and_generator_govern(name):
    """pain 19: in sparse_ too."""
    torch.manual_seed(0)
    first, second = (_call(name, torch.empty(6, 8)) for _ in range(2))
    torch.manual_seed(0)
    assert torch.equal(_call(name, torch.empty(6, 8)), first)
    assert not torch.equal(first, second)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert torch.equal(_expected(name, seed=0), first)
    assert torch.equal(torch.get_rng_state(), state)


@random_functions
def test_a_call_takes_64_bits_whatever_the_size(name):
    states = []
    for shape in [(6, 8), (70, 90)]:
        torch.manual_seed(0)
        _call(name, torch.empty(shape))
        states.append(torch.get_rng_state())
    torch.manual_seed(0)
    torch.empty((), dtype=torch.int64).random_(-(2**63), None)
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[0], torch.get_rng_state())


@every_function
def test_a_parameter_is_filled_and_autograd_notices(name):
    parameter = nn.Parameter(torch.empty(6, 8))
    version = parameter._version
    assert _call(name, parameter) is parameter
    assert parameter._version > version
    assert parameter.requires_grad
    assert parameter.is_leaf


@every_function
def test_a_saved_tensor_that_was_overwritten_stops_backward(name):
    parameter = nn.Parameter(torch.ones(6, 8))
    loss = (parameter**2).sum()
    _call(name, parameter)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@every_function
def test_a_write_to_a_view_advances_its_base(name):
    base = torch.zeros(12, 8)
    version = base._version
    _call(name, base[3:9])
    assert base._version > version
    assert not base[:3].any()
    assert not base[9:].any()


@every_function
def test_a_meta_tensor_is_left_alone(name):
    torch.manual_seed(0)
    state = torch.get_rng_state()
    tensor = torch.empty(6, 8, device="meta")
    assert _call(name, tensor) is tensor
    assert torch.equal(torch.get_rng_state(), state)


@random_functions
def test_lazily_conjugated_and_negated_views(name):
    if name == "orthogonal_":
        expected = _call(
            name,
            torch.empty(6, 8, dtype=torch.complex64),
            generator=torch.Generator().manual_seed(0),
        )
    else:
        base = torch.empty(6, 8, dtype=torch.complex64)
        expected = _call(name, base, generator=torch.Generator().manual_seed(0))
    conjugated = torch.empty(6, 8, dtype=torch.complex64).conj()
    assert conjugated.is_conj()
    _call(name, conjugated, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(conjugated.resolve_conj(), expected, rtol=0, atol=0)
    negated = torch.empty(6, 8, dtype=torch.complex64).conj().imag
    assert negated.is_neg()
    _call(name, negated, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(negated.resolve_neg(), _expected(name), rtol=0, atol=4e-6)


@every_function
def test_inside_inference_mode(name):
    parameter = nn.Parameter(torch.zeros(6, 8))
    with torch.inference_mode():
        assert _call(name, torch.empty(6, 8)).is_inference()
        _call(name, parameter)
    assert parameter.isfinite().all()
    assert name == "zeros_" or parameter.any()


def test_an_inference_tensor_is_refused_outside_as_in_torch():
    with torch.inference_mode():
        tensor = torch.zeros(3)
    with pytest.raises(RuntimeError, match="inference tensor"):
        init.uniform_(tensor)
    assert not tensor.any()


def test_a_freed_storage_is_refused_and_not_written():
    """FSDP keeps parameters whose storage has no bytes; their address is null."""
    parameter = nn.Parameter(torch.empty(6, 8))
    parameter.untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match="no bytes"):
        init.uniform_(parameter)


@random_functions
def test_an_expanded_tensor_is_refused_whole(name):
    """Drawn piece by piece, no piece of this one would overlap itself."""
    base = torch.zeros(1, 1500)
    with pytest.raises(RuntimeError, match="expanded"):
        _call(name, base.expand(1500, 1500))
    assert not base.any()


class _Plain(torch.Tensor):
    """A subclass without behaviour of its own."""


@every_function
def test_a_subclass_stays_what_it_is(name):
    tensor = torch.empty(6, 8).as_subclass(_Plain)
    torch.manual_seed(0)
    assert _call(name, tensor) is tensor
    torch.manual_seed(0)
    assert torch.equal(tensor.as_subclass(torch.Tensor), _call(name, torch.empty(6, 8)))


@every_function
def test_every_function_dispatches_torch_function(name):
    """torch dispatches four of them."""
    seen = []

    class Recorder(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            seen.append((func, kwargs["tensor"]))
            return "answer"

    tensor = torch.empty(6, 8).as_subclass(Recorder)
    assert _call(name, tensor) == "answer"
    assert [func for func, _ in seen] == [getattr(init, name)]
    assert seen[0][1] is tensor


@every_function
def test_a_function_mode_sees_the_call(name):
    class Recorder(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            seen.append(func)
            return func(*args, **(kwargs or {}))

    seen = []
    with Recorder():
        tensor = _call(name, torch.empty(6, 8))
    assert getattr(init, name) in seen
    assert tensor.isfinite().all()


def test_dirac_dispatches_too():
    class Recorder(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            return func, kwargs["groups"]

    tensor = torch.empty(4, 2, 3).as_subclass(Recorder)
    assert init.dirac_(tensor, 2) == (init.dirac_, 2)


@every_function
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_under_a_device_context(name, device):
    """Nothing that fanin allocates lands on the context's device."""
    tensor = torch.empty(6, 8)
    view = torch.empty(8, 6).T
    torch.manual_seed(0)
    with torch.device(device):
        _call(name, tensor)
    torch.manual_seed(0)
    with torch.device(device):
        _call(name, view)
    torch.manual_seed(0)
    assert torch.equal(_call(name, torch.empty(6, 8)), tensor)
    torch.testing.assert_close(view, tensor, rtol=0, atol=4e-6 if name == "orthogonal_" else 0)


@every_function
def test_a_fake_tensor_is_left_alone(name):
    torch.manual_seed(0)
    state = torch.get_rng_state()
    with FakeTensorMode():
        tensor = torch.empty(6, 8)
        assert _call(name, tensor) is tensor
    assert torch.equal(torch.get_rng_state(), state)


@random_functions
def test_a_dispatch_mode_sees_one_operator(name):
    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    seen = []
    tensor = torch.empty(6, 8)
    torch.manual_seed(0)
    with Recorder():
        _call(name, tensor)
    torch.manual_seed(0)
    assert torch.equal(tensor, _call(name, torch.empty(6, 8)))
    assert seen == ["fanin.fill_.default"]


class _Wrapper(torch.Tensor):
    """A wrapper subclass: no memory of its own, every operation goes to the tensor inside."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        inner = (arg.inner if isinstance(arg, cls) else arg for arg in args)
        return func(*inner, **(kwargs or {}))


@random_functions
def test_a_wrapper_subclass_reaches_the_tensor_inside(name):
    """pain 34: such a tensor's address is null."""
    wrapper = _Wrapper(torch.zeros(6, 8))
    torch.manual_seed(0)
    assert _call(name, wrapper) is wrapper
    torch.manual_seed(0)
    assert torch.equal(wrapper.inner, _call(name, torch.empty(6, 8)))


@random_functions
def test_functional_call_and_state_dicts(name):
    linear = nn.Linear(8, 6)
    weight = torch.empty(6, 8)
    _call(name, weight)
    out = torch.func.functional_call(linear, {"weight": weight}, torch.ones(1, 8))
    torch.testing.assert_close(out, torch.ones(1, 8) @ weight.T + linear.bias)


# forward_ad scripts decompositions on first use, and torch deprecates scripting.
@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
def test_a_tangent_is_zeroed_by_a_fill():
    """A write by pointer would leave the tangent of what was there before."""
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(torch.zeros(4), torch.ones(4))
        init.uniform_(dual)
        primal, tangent = torch.autograd.forward_ad.unpack_dual(dual)
    assert primal.any()
    assert tangent is None or not tangent.any()


def test_numbers_of_every_kind():
    expected = init.normal_(torch.empty(5), 1.0, 2.0, torch.Generator().manual_seed(0))
    for kind in [int, float, torch.tensor]:
        tensor = torch.empty(5)
        init.normal_(tensor, kind(1), kind(2), torch.Generator().manual_seed(0))
        assert torch.equal(tensor, expected)


def test_an_empty_interval_is_its_only_point():
    assert init.uniform_(torch.empty(3), 0.5, 0.5).tolist() == [0.5] * 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_upper_bound_is_never_drawn(dtype):
    """Without a clamp bfloat16 rounds up to 1 once in 512 draws, and U(1, 2) in float32 to 2."""
    assert init.uniform_(torch.empty(100_000, dtype=dtype)).max() < 1
    assert init.uniform_(torch.empty(100_000, dtype=dtype), 1.0, 2.0).max() < 2


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(value):
    for call in [
        lambda t: init.normal_(t, value),
        lambda t: init.normal_(t, 0.0, value),
        lambda t: init.trunc_normal_(t, std=value),
        lambda t: init.xavier_normal_(t, value),
    ]:
        with pytest.raises(ValueError, match="finite"):
            call(torch.empty(3, 3))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e39])
@pytest.mark.parametrize("size", [3, 300], ids=["small", "large"])
def test_structures_refuse_what_float32_takes_for_infinity(size, value):
    """Before a number is taken or written: an infinite gain would make a matrix of NaN."""
    tensor, state = torch.zeros(size, size), torch.get_rng_state()
    for call in (
        lambda: init.orthogonal_(tensor, value),
        lambda: init.orthogonal_(tensor.to(torch.bfloat16), value),
        lambda: init.sparse_(tensor, 0.5, value),
    ):
        with pytest.raises(RuntimeError, match="finite"):
            call()
    assert torch.equal(torch.get_rng_state(), state)
    assert not tensor.any()


@pytest.mark.parametrize("sparsity", [-0.1, 1.5])
def test_sparsity_is_a_share(sparsity):
    with pytest.raises(ValueError, match="share of zeros"):
        init.sparse_(torch.empty(3, 3), sparsity)


def test_dirac_needs_a_group():
    with pytest.raises(ValueError, match="groups is one or more"):
        init.dirac_(torch.empty(3, 3, 3), 0)
