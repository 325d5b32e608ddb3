"""Which tensors a pointer may write; private names of torch that must still mean what they did."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from fanin.drawing.targets import is_plain, needs_dispatcher


class _Subclass(torch.Tensor):
    pass


class _Watch(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


def _freed():
    tensor = torch.empty(3)
    tensor.untyped_storage().resize_(0)
    return tensor


def _inference():
    with torch.inference_mode():
        return torch.empty(3)


PLAIN = {
    "tensor": lambda: torch.empty(3),
    "parameter": lambda: nn.Parameter(torch.empty(3)),
    "buffer": lambda: nn.Buffer(torch.empty(3)),
    "view": lambda: torch.empty(4, 3)[1:],
    "bfloat16": lambda: torch.empty(3, dtype=torch.bfloat16),
    "complex": lambda: torch.empty(3, dtype=torch.complex64),
    "no dims": lambda: torch.empty(()),
    "non-leaf": lambda: torch.ones(3, requires_grad=True) * 2,
}
NOT_PLAIN = {
    "no tensor": lambda: [1.0],
    "subclass": lambda: torch.empty(3).as_subclass(_Subclass),
    "transposed": lambda: torch.empty(3, 4).T,
    "expanded": lambda: torch.empty(1, 3).expand(4, 3),
    "channels_last": lambda: torch.empty(2, 3, 4, 4, memory_format=torch.channels_last),
    "conjugated": lambda: torch.empty(3, dtype=torch.complex64).conj(),
    "negated": lambda: torch.empty(3, dtype=torch.complex64).conj().imag,
    "meta": lambda: torch.empty(3, device="meta"),
    "sparse": lambda: torch.eye(3).to_sparse(),
    "mkldnn": lambda: torch.eye(3).to_mkldnn(),
    "inference": _inference,
    "freed storage": _freed,
    "zero tensor": lambda: torch._efficientzerotensor(3),
    "uninitialized": nn.UninitializedParameter,
}


@pytest.mark.parametrize("make", PLAIN.values(), ids=PLAIN.keys())
def test_plain_memory(make):
    tensor = make()
    assert is_plain(tensor)
    assert not needs_dispatcher(tensor)


@pytest.mark.parametrize("make", NOT_PLAIN.values(), ids=NOT_PLAIN.keys())
def test_more_than_memory(make):
    assert not is_plain(make())


@pytest.mark.parametrize("transform", [torch.func.vmap, torch.func.grad, torch.func.functionalize])
def test_inside_a_function_transform_nothing_is_plain(transform):
    """Fails when torch._C._are_functorch_transforms_active no longer answers for all of them."""
    captured = torch.empty(3)
    seen = []

    def look(x):
        seen.extend([x, captured, torch.empty(3)])
        answers.extend((is_plain(t), needs_dispatcher(t)) for t in seen)
        return x.sum()

    answers = []
    transform(look)(torch.zeros(3))
    assert answers == [(False, True)] * 3
    assert is_plain(captured)


# forward_ad scripts decompositions on first use, and torch deprecates scripting.
@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
def test_inside_jvp_nothing_is_plain():
    answers = []

    def look(x):
        answers.append(is_plain(torch.empty(3)))
        return x

    torch.func.jvp(look, (torch.zeros(3),), (torch.ones(3),))
    assert answers == [False]


@pytest.mark.parametrize("mode", [FakeTensorMode, _Watch])
def test_under_a_dispatch_mode_nothing_is_plain(mode):
    """Fails when torch._C._len_torch_dispatch_stack no longer counts both kinds of modes."""
    tensor = torch.empty(3)
    with mode():
        assert not is_plain(tensor)
        assert needs_dispatcher(tensor)
    assert is_plain(tensor)
    assert not needs_dispatcher(tensor)


def test_under_a_dual_level_nothing_is_plain():
    """Fails when torch.autograd.forward_ad._current_level no longer tells of one."""
    tensor = torch.empty(3)
    with torch.autograd.forward_ad.dual_level():
        assert not is_plain(tensor)
    assert is_plain(tensor)


def test_a_subclass_with_a_dispatch_of_its_own_needs_it():
    class Wrapper(torch.Tensor):
        @classmethod
        def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
            return func(*args, **(kwargs or {}))

    assert needs_dispatcher(torch.empty(3).as_subclass(Wrapper))
    assert not needs_dispatcher(torch.empty(3).as_subclass(_Subclass))
