from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fanin.errors import LayoutError, UnknownNameError
from fanin.geometry import Fans, Layout

sizes = st.integers(1, 6)


@pytest.mark.parametrize(
    ("layout", "fan_in", "fan_out"),
    [
        (Layout.linear(7, 5), 5, 7),
        (Layout.linear_transposed(5, 7), 5, 7),
        (Layout.bilinear(7, 5, 3), 15, 7),
        (Layout.embedding(100, 8, padding_idx=-1), 1, 8),
        (Layout.conv(8, 4, 3, 5), 60, 120),
        (Layout.conv(32, 32, 3, 3, groups=32), 9, 9),  # depthwise: pain 22
        (Layout.conv(8, 4, 3, groups=2), 6, 12),
        (Layout.conv_transpose(4, 8, 3, 3), 36, 72),
        (Layout.conv_transpose(4, 8, 3, 3, groups=2), 18, 36),
        (Layout.conv_transpose(4, 8, 4, 4, stride=2), 64, 128),
        (Layout.conv_transpose(4, 8, 4, 4, stride=2, effective=True), 16, 128),
        (Layout.conv_transpose(4, 8, 3, 3, stride=(2, 1), effective=True), 18, 72),
        (Layout.conv_transpose(1, 8, 3, stride=2, effective=True), 1.5, 24),
        (Layout((8, 7, 5), in_axes=(-1,), out_axes=(-2,), batch_axes=(0,)), 5, 7),
        (Layout((6, 2, 4), in_axes=(0,), out_axes=(1, 2)), 6, 8),  # einsum: model, heads, head
        (Layout.linear(15, 5).packed(("q", "k", "v")), 5, 5),  # pain 21
        (Layout.linear(28, 3).packed(("i", "f", "g", "o")), 3, 7),
        (Layout.linear_transposed(5, 15).packed(("q", "k", "v"), dim=-1), 5, 5),
        (Layout.linear(0, 5), 5, 0),
    ],
    ids=str,
)
def test_fans(layout: Layout, fan_in: float, fan_out: float) -> None:
    assert layout.fans == Fans(fan_in, fan_out)


def test_modes() -> None:
    fans = Fans(2, 8)
    modes = ("fan_in", "fan_out", "fan_avg", "fan_geo_avg")
    assert [fans.of(mode) for mode in modes] == [2, 8, 5, 4]
    with pytest.raises(UnknownNameError, match="Did you mean fan_in"):
        fans.of("fanin")


@given(groups=st.integers(1, 3), per_in=sizes, per_out=sizes, kernel=st.lists(sizes, max_size=3))
def test_fan_in_counts_terms_and_fan_out_outputs(
    groups: int, per_in: int, per_out: int, kernel: list[int]
) -> None:
    """Edges out of inputs are edges into outputs, at every tap of a kernel."""
    num_in, num_out = groups * per_in, groups * per_out
    conv = Layout.conv(num_out, num_in, *kernel, groups=groups)
    back = Layout.conv_transpose(num_in, num_out, *kernel, groups=groups)
    assert conv.fans == back.fans
    for layout in (conv, back):
        assert layout.fans.fan_in * num_out == layout.fans.fan_out * num_in
        assert layout.fans.fan_in * num_out == math.prod(layout.shape)


@pytest.mark.parametrize(
    ("module", "layout"),
    [
        (nn.Conv2d(4, 8, 3, groups=2), Layout.conv(8, 4, 3, 3, groups=2)),
        (nn.ConvTranspose2d(4, 8, 3, groups=2), Layout.conv_transpose(4, 8, 3, 3, groups=2)),
        (nn.Bilinear(5, 3, 7), Layout.bilinear(7, 5, 3)),
        (nn.Embedding(9, 4), Layout.embedding(9, 4)),
    ],
    ids=["conv", "conv_transpose", "bilinear", "embedding"],
)
def test_shapes_are_those_of_torch(module: nn.Module, layout: Layout) -> None:
    assert layout.shape == tuple(module.get_parameter("weight").shape)


def test_matrix_of_a_grouped_transposed_convolution_maps_each_group() -> None:
    """The view's matrices, (out, in · kernel), are what the module multiplies by."""
    module = nn.ConvTranspose1d(4, 6, 1, groups=2, bias=False)
    view = Layout.conv_transpose(4, 6, 1, groups=2).matrix
    matrices = module.weight.detach().unflatten(0, (view.groups, -1)).permute(view.dims)
    x = torch.arange(4.0)
    by_hand = torch.cat([m[:, :, 0] @ part for m, part in zip(matrices, x.view(2, 2), strict=True)])
    torch.testing.assert_close(module(x[:, None])[:, 0].detach(), by_hand)


@pytest.mark.parametrize(
    ("layout", "dims", "num_batch", "is_stored"),
    [
        (Layout.linear(2, 3), (0, 1), 0, True),
        (Layout.linear_transposed(3, 2), (1, 0), 0, False),
        (Layout.conv(2, 3, 4), (0, 1, 2), 0, True),
        (Layout.conv(2, 4, 4, groups=2), (0, 1, 2, 3), 1, False),
        (Layout((8, 5, 7), in_axes=(1,), out_axes=(2,), batch_axes=(0,)), (0, 2, 1), 1, False),
    ],
    ids=str,
)
def test_matrix(layout: Layout, dims: tuple[int, ...], num_batch: int, is_stored: bool) -> None:
    view = layout.matrix
    assert (view.dims, view.num_batch, view.is_stored) == (dims, num_batch, is_stored)


def test_split_gives_each_part_its_own_layout() -> None:
    packed = Layout.linear(24, 8).packed({"q": 16, "k": 4, "v": 4})
    assert packed.split() == (
        ("q", 0, 16, Layout.linear(16, 8)),
        ("k", 16, 20, Layout.linear(4, 8)),
        ("v", 20, 24, Layout.linear(4, 8)),
    )
    with pytest.raises(LayoutError, match="parts have the same"):
        _ = packed.fans


def test_prints_what_makes_it_again() -> None:
    layout = Layout.conv(8, 4, 3, groups=2)
    assert repr(layout) == "Layout((8, 2, 3), in_axes=(1,), out_axes=(0,), groups=2)"
    assert Layout((8, 2, 3), in_axes=(1,), out_axes=(0,), groups=2) == layout
    assert len({layout, Layout.conv(8, 4, 3, groups=2)}) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Layout.vector(768).fans, r"a fan needs .* Got shape \(768,\)"),
        (lambda: Layout.vector(3, 4).matrix, "a matrix needs in and out axes"),
        (lambda: Layout((2, 3), in_axes=(2,)), "Got 2 in in_axes"),
        (lambda: Layout((2, 3), in_axes=(1,), out_axes=(-1,)), r"Got \[1\] more than once"),
        (lambda: Layout((2, 3), in_axes=1), r"Write \(1,\)"),
        (lambda: Layout((-2, 3)), "sizes are not negative"),
        (lambda: Layout.conv(6, 4, 3, groups=4), "groups divide dim 0"),
        (lambda: Layout.conv(8, 6, 3, groups=4), "groups divide the channels"),
        (lambda: Layout((4, 4), batch_axes=(0,), in_axes=(1,), groups=2), "Use batch_axes"),
        (lambda: Layout.embedding(4, 2, padding_idx=4), "padding_idx is a row"),
        (lambda: Layout.linear(7, 2).packed(("a", "b")), "Pass a mapping"),
        (lambda: Layout.linear(7, 2).packed({"a": 3, "b": 3}), "add up to the dim"),
        (lambda: Layout((4, 2), parts=(("a", 2), ("a", 2))), "its own name"),
        (lambda: Layout.linear(4, 2).packed(("a", "b"), dim=2), "Got 2 in part_dim"),
        (lambda: Layout.conv(4, 4, 1, groups=2).packed(("a", "b")), "groups or parts"),
        (lambda: Layout.conv_transpose(2, 2, 1, stride=0, effective=True), "stride is positive"),
    ],
)
def test_refusals(make: Callable[[], object], message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        make()
