"""Structured fills on the device of their tensor, shown on meta tensors.

Meta tensors stand for a device here: an operation that mixed them with another one's, copied from
there, or had to wait for a value, is an error. Indices stay on the CPU until they index something.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fanin import fills, stream
from fanin.drawing import draw
from fanin.drawing.functions import draw_from_function, draw_mapped
from fanin.drawing.orthogonal import draw_orthogonal
from fanin.drawing.precision import exact_products
from fanin.drawing.sparse import draw_sparse
from fanin.drawing.structured import draw_constant, draw_dirac, draw_eye
from fanin.drawing.targets import drawing_device, is_plain, is_reachable
from fanin.errors import ArgumentError
from fanin.geometry import Layout, Region
from fanin.initializers import Initializer, from_function, mapped, normal
from fanin.stream import Key

KEY = Key(0, "weight")


class _SameDevice(TorchDispatchMode):
    """Refuse what CUDA would allow at the price of a wait: indices and copies from the CPU."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        devices = {tensor.device.type for tensor in tensors}
        if func is torch.ops.aten._to_copy.default:
            devices.add(torch.device(kwargs.get("device") or tensors[0].device).type)
        if len(devices) > 1:
            raise AssertionError(f"{func} on {devices}")
        return func(*args, **(kwargs or {}))


class _NoAssignedNumbers(TorchFunctionMode):
    """Refuse ``tensor[…] = 1``: on CUDA the number is copied from the CPU, and waited for."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is Tensor.__setitem__ and not args[0].is_cpu:
            assert isinstance(args[2], Tensor), "a number is assigned to elements of a tensor"
        return func(*args, **(kwargs or {}))


@pytest.fixture
def meta_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Meta tensors are drawn where they are, by nobody."""
    monkeypatch.setattr(stream, "draws_on", lambda device: True)
    for name in ("orthogonal", "sparse"):
        module = import_module(f"fanin.drawing.{name}")
        monkeypatch.setattr(module, "is_reachable", lambda tensor: tensor.is_meta)
    for name in ("householder", "sparse"):
        module = import_module(f"fanin.drawing.{name}")
        monkeypatch.setattr(module, "draw_elementwise", lambda *_: None)


SHARDS = {
    "whole": lambda shape: Region.whole(shape),
    "rows": lambda shape: Region.block(shape, [slice(1, 3), *(slice(size) for size in shape[1:])]),
    "columns": lambda shape: Region.block(
        shape, [slice(shape[0]), slice(1, 3), *map(slice, shape[2:])]
    ),
    "columns in another order": lambda shape: Region(
        shape, (((0, shape[0]),), ((2, 3), (0, 1)), *(((0, size),) for size in shape[2:]))
    ),
}


@pytest.mark.parametrize("shard", SHARDS.values(), ids=list(SHARDS))
@pytest.mark.parametrize(
    ("draw", "fill", "shape", "dtype"),
    [
        (draw_orthogonal, fills.Orthogonal(), (300, 200), torch.float32),
        (draw_orthogonal, fills.Orthogonal(), (200, 300), torch.bfloat16),
        (draw_orthogonal, fills.Orthogonal(), (40, 40), torch.complex64),
        (draw_orthogonal, fills.Orthogonal(2.0, batch_dims=1), (3, 40, 20), torch.float64),
        (draw_sparse, fills.Sparse(0.3), (50, 40), torch.float32),
        (draw_sparse, fills.Sparse(0.9), (50, 40), torch.float8_e4m3fn),
        (draw_constant, fills.Constant(0.5), (50, 40), torch.bfloat16),
        (draw_eye, fills.Eye(0.3), (50, 40), torch.bfloat16),
        (draw_dirac, fills.Dirac(), (8, 8, 3, 3), torch.float32),
    ],
    ids=lambda value: getattr(value, "__name__", str(getattr(value, "name", value))),
)  # fmt: skip
def test_nothing_waits_for_the_device(draw, fill, shape, dtype, shard, meta_device) -> None:
    region = shard(shape)
    out = torch.empty(region.local_shape, dtype=dtype, device="meta")
    with _NoAssignedNumbers(), _SameDevice():
        draw(fill, KEY, region, out)


def test_devices_without_an_engine_are_drawn_on_the_cpu() -> None:
    elsewhere = torch.empty(3, device="meta")
    assert drawing_device(elsewhere) == torch.device("cpu")
    assert not is_reachable(elsewhere)
    assert not is_plain(elsewhere)


def test_a_copy_and_an_assigned_number_would_be_seen() -> None:
    """The test of the tests."""
    out = torch.zeros(3, device="meta")
    with _SameDevice():
        for wrong in (lambda: torch.zeros(3).to("meta"), lambda: out.copy_(torch.zeros(3))):
            with pytest.raises(AssertionError, match=r"on .*meta"):
                wrong()
    with _NoAssignedNumbers(), pytest.raises(AssertionError, match="a number is assigned"):
        out[1] = 1.0


@pytest.fixture(params=["cuda", "cpu"])
def precision(request) -> Iterator[tuple[torch.device, Any]]:
    """A device, and torch's setting for matrix products there."""
    settings = {"cuda": torch.backends.cuda, "cpu": torch.backends.mkldnn}[request.param].matmul
    before = settings.fp32_precision
    yield torch.device(request.param), settings
    settings.fp32_precision = before


@pytest.mark.parametrize("before", ["none", "tf32", "ieee"])
def test_products_are_exact_and_the_setting_comes_back(before: str, precision) -> None:
    device, settings = precision
    settings.fp32_precision = before
    with exact_products(device):
        assert settings.fp32_precision in ("none", "ieee")
    assert settings.fp32_precision == before
    with exact_products(torch.device("meta")):
        assert settings.fp32_precision == before


def test_products_follow_what_is_set_for_all_as_they_did(precision) -> None:
    device, settings = precision
    everywhere = torch.backends.fp32_precision
    settings.fp32_precision = "none"
    try:
        torch.backends.fp32_precision = "tf32"
        with exact_products(device):
            assert settings.fp32_precision == "ieee"
        assert settings.fp32_precision == "tf32"
        torch.backends.fp32_precision = "ieee"
        assert settings.fp32_precision == "ieee"
    finally:
        torch.backends.fp32_precision = everywhere


def test_threads_change_the_setting_one_after_another(precision) -> None:
    """Else the second would find, and bring back, what the first one made of it."""
    device, settings = precision
    settings.fp32_precision = "tf32"
    seen = []

    def look() -> None:
        with exact_products(device):
            seen.append(settings.fp32_precision)

    with exact_products(device):
        other = threading.Thread(target=look)
        other.start()
        other.join(0.05)
        assert not seen
    other.join()
    assert seen == ["ieee"]
    assert settings.fp32_precision == "tf32"


@pytest.mark.parametrize("precision", ["cpu"], indirect=True)
def test_no_product_of_an_orthogonal_matrix_is_of_bfloat16(precision) -> None:
    """Whatever the user allows other products: a CPU with the instructions would use them."""
    _, settings = precision
    settings.fp32_precision = "bf16"
    seen = set()

    class _Products(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func in (torch.ops.aten.mm.default, torch.ops.aten.addmm_.default):
                seen.add(settings.fp32_precision)
            return func(*args, **(kwargs or {}))

    for shard in SHARDS.values():
        region = shard((300, 200))
        with _Products():
            draw_orthogonal(fills.Orthogonal(), KEY, region, torch.empty(region.local_shape))
    assert seen == {"ieee"}


@pytest.mark.parametrize(
    ("fill", "draw_it"),
    [
        (mapped(normal(), torch.sin), partial(draw_mapped, draw=draw)),
        (from_function(torch.nn.init.ones_), draw_from_function),
    ],
    ids=["mapped", "from_function"],
)
def test_what_a_function_makes_is_not_captured(
    fill: Initializer, draw_it: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with FakeTensorMode():
        out = torch.empty(4, device="cuda")
    resolved = fill.resolve(Layout.vector(4))
    with pytest.raises(ArgumentError, match=f"made on the CPU. Got {resolved.name}"):
        draw_it(resolved, KEY, Region.whole((4,)), out)
