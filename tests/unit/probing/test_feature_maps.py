"""What layers do to an image: the numbers, the copies, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib.image import imsave
from torch import nn

from fanin.errors import ArgumentError, PlanError
from fanin.initialization import plan
from fanin.probing.feature_maps import feature_maps
from fanin.probing.images import as_image

# Bright, smooth, and 20 pixels wide.
IMAGE = 0.5 + 0.2 * torch.sin(torch.linspace(0, 3, 20))[:, None].expand(20, 20)


def upsampler(kernel: int, *, weight: float = 1.0) -> nn.ConvTranspose2d:
    layer = nn.ConvTranspose2d(1, 2, kernel, stride=2, bias=False)
    nn.init.constant_(layer.weight, weight)
    return layer


@pytest.mark.parametrize(
    ("kernel", "taps", "low", "high"),
    [(2, (1, 1), 0.0, 0.01), (3, (1, 4), 0.6, 1.0), (4, (4, 4), 0.0, 0.01), (5, (4, 9), 0.3, 1.0)],
)
def test_equal_weights_make_a_checkerboard_where_taps_overlap_unevenly(
    kernel: int, taps: tuple[int, int], low: float, high: float
) -> None:
    (layer,) = feature_maps(upsampler(kernel), IMAGE).layers
    assert layer.taps == taps
    assert low <= layer.checkerboard <= high


def test_random_weights_make_one_even_where_taps_overlap_evenly() -> None:
    layer = upsampler(4)
    maps = feature_maps(layer, IMAGE, plan=plan(layer, "kaiming", seed=0))
    assert maps.before[0].checkerboard < 0.01
    assert maps.checkerboard[""] > 0.3


def test_the_checkerboard_of_a_pattern_and_of_nothing() -> None:
    ones = torch.ones(12, 12)
    assert feature_maps(upsampler(3), ones).checkerboard == {"": pytest.approx(1.0)}
    assert feature_maps(upsampler(4, weight=0.1), ones).checkerboard == {"": 0.0}
    assert feature_maps(nn.Conv2d(1, 1, 3), ones).checkerboard == {}


def test_resizing_makes_no_checkerboard() -> None:
    resized = nn.Sequential(nn.Upsample(scale_factor=2), nn.PixelShuffle(1))
    maps = feature_maps(resized, IMAGE)
    assert maps.layers[0].upsampling == (2, 2)
    assert maps.checkerboard["0"] < 0.01


def test_before_is_the_module_and_after_is_the_plan() -> None:
    layer = nn.Conv2d(1, 3, 3)
    held = {name: value.clone() for name, value in layer.state_dict().items()}
    made = plan(layer, "kaiming", seed=0)
    maps = feature_maps(layer, IMAGE, plan=made)
    x = IMAGE[None, None]
    torch.testing.assert_close(maps.before[0].channels, layer(x).detach()[0])
    assert all(torch.equal(held[name], value) for name, value in layer.state_dict().items())
    made.apply(layer)
    torch.testing.assert_close(maps.after[0].channels, layer(x).detach()[0])
    assert maps.plan == "kaiming@1, seed 0"


def test_neither_buffers_nor_gradients_nor_random_state_change() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5))
    held = {name: value.clone() for name, value in module.state_dict().items()}
    state = torch.get_rng_state()
    feature_maps(module, IMAGE, plan=plan(module, "kaiming", seed=0))
    assert all(torch.equal(held[name], value) for name, value in module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert module[0].weight.grad is None


def test_a_sequential_is_taken_apart() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sequential(nn.ReLU(), nn.AvgPool2d(2)))
    maps = feature_maps(module, IMAGE)
    assert [layer.title for layer in maps.layers] == ["0: Conv2d", "1.0: ReLU", "1.1: AvgPool2d"]
    expected = module(IMAGE[None, None]).detach()[0]
    torch.testing.assert_close(maps.layers[-1].channels, expected)


def test_a_layer_that_is_used_twice_is_shown_twice() -> None:
    relu = nn.ReLU()
    maps = feature_maps(nn.Sequential(relu, nn.Conv2d(1, 2, 3), relu), IMAGE)
    assert [layer.title for layer in maps.layers] == ["0: ReLU", "1: Conv2d", "2: ReLU"]
    assert maps.layers[2].channels.min() >= 0


def test_unpooling_takes_the_indices_of_the_pooling_before_it() -> None:
    module = nn.Sequential(nn.MaxPool2d(3, 2), nn.Tanh(), nn.MaxUnpool2d(3, 2))
    maps = feature_maps(module, IMAGE)
    pooled, indices = F.max_pool2d(IMAGE[None], 3, 2, return_indices=True)
    expected = F.max_unpool2d(pooled.tanh(), indices, 3, 2, output_size=[20, 20])
    torch.testing.assert_close(maps.layers[-1].channels, expected)
    assert not module[0].return_indices


def test_unpooling_alone_is_shown_after_the_pooling_that_it_reverses() -> None:
    maps = feature_maps(nn.MaxUnpool2d(2), IMAGE)
    assert [layer.kind for layer in maps.layers] == ["MaxPool2d", "MaxUnpool2d"]
    assert maps.layers[1].channels.count_nonzero() == 100


def test_a_grey_image_is_repeated_for_a_layer_of_three_channels() -> None:
    layer = nn.Conv2d(3, 1, 1)
    maps = feature_maps(layer, IMAGE)
    expected = layer(IMAGE.expand(1, 3, 20, 20)).detach()[0]
    torch.testing.assert_close(maps.layers[0].channels, expected)
    with pytest.raises(ArgumentError, match="Got 2 for Conv2d with in_channels=3"):
        feature_maps(layer, torch.zeros(2, 8, 8))


def test_layers_of_another_dtype_get_the_image_in_theirs() -> None:
    maps = feature_maps(nn.Conv2d(1, 1, 3).to(torch.bfloat16), IMAGE)
    assert maps.layers[0].channels.dtype == torch.float32


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Flatten(), "each layer returns an image.*Got 1×400 from Flatten"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(3, 1, 3)), r"Got 1×2×18×18 for '1' \(Conv2d"),
        (nn.Conv2d(1, 1, 3, device="meta"), "Got parameters on the meta device"),
    ],
)
def test_what_cannot_be_drawn_is_refused(module: nn.Module, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        feature_maps(module, IMAGE)


def test_a_plan_of_another_module_is_refused() -> None:
    with pytest.raises(PlanError, match="apply"):
        feature_maps(nn.Conv2d(1, 1, 3), IMAGE, plan=plan(nn.Linear(2, 2), "kaiming", seed=0))


def test_the_figure_has_a_row_for_each_layer_and_a_column_for_each_state(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(1, 12, 3), upsampler_of(12))
    maps = feature_maps(module, IMAGE, plan=plan(module, "kaiming", seed=0))
    axes = {each.get_label(): each for each in maps.plot().axes}
    assert list(axes) == ["0,0", "1,0", "1,1", "2,0", "2,0 magnified", "2,1", "2,1 magnified"]
    assert axes["1,0"].get_ylabel() == "0: Conv2d"
    assert axes["1,0"].get_xlabel() == "8 of 12 channels"
    assert len(axes["1,1"].images) == 8
    assert axes["2,1"].get_title(loc="left").startswith("kaiming@1, seed 0, std ")
    assert "checkerboard 0." in axes["2,1"].get_title(loc="left")
    drawn = axes["2,0"].images[0].get_array()
    assert drawn is not None
    np.testing.assert_array_equal(np.asarray(drawn), maps.before[1].channels[0].numpy())
    maps.save(tmp_path / "maps.png")
    assert (tmp_path / "maps.png").read_bytes()[:4] == maps._repr_png_()[:4] == b"\x89PNG"


def upsampler_of(channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(channels, 2, 3, stride=2)


def test_maps_without_a_number_can_be_drawn() -> None:
    layer = nn.Conv2d(1, 1, 1)
    nn.init.constant_(layer.weight, torch.nan)
    assert feature_maps(layer, IMAGE)._repr_png_()


@pytest.mark.parametrize(
    ("image", "shape"),
    [
        (torch.zeros(5, 7), (1, 5, 7)),
        (torch.zeros(3, 5, 7), (3, 5, 7)),
        (torch.zeros(1, 3, 5, 7), (3, 5, 7)),
        (np.zeros((5, 7)), (1, 5, 7)),
        (np.zeros((5, 7, 3)), (3, 5, 7)),
        (np.zeros((5, 7, 4)), (3, 5, 7)),
        (np.zeros((3, 5, 7)), (3, 5, 7)),
    ],
)
def test_images_have_many_shapes(image: torch.Tensor, shape: tuple[int, ...]) -> None:
    read = as_image(image)
    assert (read.shape, read.dtype) == (shape, torch.float32)


def test_images_come_from_files(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    expected = torch.from_numpy(pixels).permute(2, 0, 1) / 255
    np.save(tmp_path / "image.npy", pixels)
    torch.save(torch.from_numpy(pixels).permute(2, 0, 1), tmp_path / "image.pt")
    imsave(tmp_path / "image.png", pixels)
    for name in ("image.npy", "image.pt", "image.png"):
        torch.testing.assert_close(as_image(tmp_path / name), expected)
    imsave(tmp_path / "small.png", pixels[:4])  # four rows are no four channels
    torch.testing.assert_close(as_image(str(tmp_path / "small.png")), expected[:, :4])


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"Got \(2, 3, 5, 7\).*Take one image of a batch"):
        as_image(torch.zeros(2, 3, 5, 7))
    with pytest.raises(ArgumentError, match="a file that exists"):
        as_image(tmp_path / "missing.png")
    (tmp_path / "image.gif").write_bytes(b"")
    with pytest.raises(ArgumentError, match=r"Got '.*gif'"):
        as_image(tmp_path / "image.gif")
    torch.save({"image": 1}, tmp_path / "image.pt")
    with pytest.raises(ArgumentError, match=r"holds one tensor\. Got dict"):
        as_image(tmp_path / "image.pt")


def test_a_plan_is_no_name() -> None:
    name: Any = "kaiming"
    with pytest.raises(ArgumentError, match=r"plan= is a Plan. Got 'kaiming'. Make one with"):
        feature_maps(nn.Conv2d(1, 1, 3), torch.ones(8, 8), plan=name)
    with pytest.raises(ArgumentError, match=r"the module is an nn.Module. Got str. Pass one layer"):
        feature_maps(name, torch.ones(8, 8))
