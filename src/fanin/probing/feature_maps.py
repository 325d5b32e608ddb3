"""What layers do to an image, before and after initialization."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fanin.errors import ArgumentError
from fanin.planning import Plan
from fanin.probing.checkerboard import cells_of, explained_by_position
from fanin.probing.images import Image, as_image
from fanin.report import shape_text
from fanin.report.figure import png_bytes
from fanin.report.pictures import Picture, pictures_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FeatureMaps", "LayerMaps", "feature_maps"]


def feature_maps(module: nn.Module, image: Image, *, plan: Plan | None = None) -> FeatureMaps:
    """What each layer makes of an image: as the module is, and as a plan would initialise it.

    Everything happens on copies: neither the module, its buffers nor torch's random state change.
    A `Sequential` is taken apart, any other module is one layer. `MaxUnpool2d` needs to know where
    the maxima were: it gets the indices of the `MaxPool2d` before it that no other has used;
    without one its input is pooled first, as one more layer.

    Args:
        module: a convolution, transposed convolution, pooling, unpooling or any other layer that
            maps images to images, or a `Sequential` of them.
        image: see `fanin.probing.images.as_image`; one channel is repeated for a first layer that
            takes more.
        plan: of this module, for the maps after initialization: ``fanin.plan(module, "kaiming")``.

    Returns:
        The maps of each layer, in order.

    Raises:
        ArgumentError: when an argument is no such thing, when the image has not the channels of the
            first layer, when a layer refuses what comes before it, or returns no image.
        PlanError: when the plan is another module's.

    Example:
        >>> layer = nn.ConvTranspose2d(1, 1, 3, stride=2)
        >>> _ = nn.init.ones_(layer.weight)
        >>> maps = feature_maps(layer, torch.ones(16, 16))
        >>> maps.layers[0].taps, round(maps.layers[0].checkerboard, 2)
        ((1, 4), 1.0)
    """
    _check(module, plan)
    pixels = as_image(image)
    before = _passed(copy.deepcopy(module), pixels)
    if plan is None:
        return FeatureMaps(pixels, before)
    initialised = copy.deepcopy(module)
    plan.apply(initialised)
    made = f"{plan.recipe}, seed {plan.seed}"
    return FeatureMaps(pixels, before, _passed(initialised, pixels), made)


@dataclass(frozen=True, eq=False, slots=True)
class LayerMaps:
    """What one layer returned for an image.

    Args:
        name: in the `Sequential`; ``""`` for a module that is none.
        kind: class of the layer.
        channels: (C, H, W), float32, on the CPU.
        upsampling: how many output pixels lie in the place of an input pixel, down and across.
        taps: the fewest and the most weights that meet in a pixel of one channel pair, away from
            the border; None for all but transposed convolutions. ``(4, 4)`` overlaps evenly,
            ``(1, 4)`` does not.
        margin: pixels at each border where fewer weights meet.
    """

    name: str
    kind: str
    channels: Tensor = field(repr=False)
    upsampling: tuple[int, int] = (1, 1)
    taps: tuple[int, int] | None = None
    margin: tuple[int, int] = (0, 0)

    @property
    def checkerboard(self) -> float:
        """The share of the variance that the position modulo the stride explains.

        ``Σ_c Var_p(mean of y_c at p) / Σ_c Var(y_c)`` over channels c and the positions p of a
        pixel in its cell of ``upsampling``; 0 for layers that do not upsample. It is the share
        that a picture of the stride alone would explain, so it is near 0 for an image with mean 0.

        Taps that overlap unevenly make a checkerboard whatever the weights are: for equal weights
        and a bright image it is large with kernel 3 and stride 2, and 0 with kernel 4. Random
        weights make one with either kernel, since each position has weights of its own.

        Source: Odena et al. 2016, "Deconvolution and checkerboard artifacts", on the overlap.
        """
        return explained_by_position(self.channels, self.upsampling, self.margin)

    @property
    def title(self) -> str:
        """``1: ConvTranspose2d``."""
        return f"{self.name}: {self.kind}" if self.name else self.kind


@dataclass(frozen=True, eq=False, slots=True)
class FeatureMaps:
    """An image and what each layer made of it. A notebook shows the picture.

    Args:
        image: (C, H, W), as it was given.
        before: the layers of the module as it was.
        after: those of a copy that a plan had initialised; empty without a plan.
        plan: what the plan is called.
    """

    image: Tensor = field(repr=False)
    before: tuple[LayerMaps, ...]
    after: tuple[LayerMaps, ...] = ()
    plan: str = ""

    @property
    def layers(self) -> tuple[LayerMaps, ...]:
        """The maps after initialization where there are any, else those before."""
        return self.after or self.before

    @property
    def checkerboard(self) -> dict[str, float]:
        """Of each of `layers` that upsamples, by its name."""
        return {each.name: each.checkerboard for each in self.layers if each.upsampling != (1, 1)}

    def plot(self) -> Figure:
        """The image, then a row for each layer: before beside after.

        Raises:
            FaninError: without matplotlib.
        """
        is_colour = self.image.shape[0] == 3 and self.image.min() >= 0 and self.image.max() <= 1
        given = Picture("image", self.image.cpu().numpy(), is_colour=bool(is_colour))
        states = [("as it is, " if self.after else "", self.before)]
        states += [(f"{self.plan}, ", self.after)] if self.after else []
        rows = [
            [_picture(maps[i], heading) for heading, maps in states]
            for i in range(len(self.before))
        ]
        return pictures_figure(
            [[given], *rows],
            title=" → ".join(each.kind for each in self.layers),
            labels=["", *(each.title for each in self.layers)],
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture; the suffix says whether as .png, .pdf or .svg."""
        self.plot().savefig(path)

    def _repr_png_(self) -> bytes:
        return png_bytes(self.plot())


def _picture(maps: LayerMaps, heading: str) -> Picture:
    """Channels under their numbers."""
    title = f"{heading}std {float(maps.channels.std(correction=0)):.3g}"
    upsamples = maps.upsampling != (1, 1)
    if upsamples:
        title += f", checkerboard {maps.checkerboard:.2f}"
    return Picture(title, maps.channels.numpy(), is_magnified=upsamples)


def _passed(module: nn.Module, pixels: Tensor) -> tuple[LayerMaps, ...]:
    """The maps of each layer of a module that nobody else holds."""
    steps = tuple(_layers(module, ""))
    if any(each.is_meta for each in module.parameters()):
        raise ArgumentError(
            "feature_maps: layers have memory. Got parameters on the meta device. Give it "
            "memory and values first: fanin.initialize(module, recipe)."
        )
    weight = next((each for each in module.parameters() if each.is_floating_point()), pixels)
    x = _fitted(pixels, [layer for _, layer in steps])[None].to(weight.device, weight.dtype)
    pooled: list[tuple[Tensor, torch.Size]] = []  # indices that wait for an unpooling, its size
    maps = []
    devices = [weight.device] if weight.device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices):
        for name, layer in steps:
            due = [layer]
            if isinstance(layer, nn.MaxUnpool2d) and not pooled:
                due = [nn.MaxPool2d(layer.kernel_size, layer.stride, layer.padding), layer]
            for each in due:
                given, x = x, _called(each, name, x, pooled)
                maps.append(_maps(each, name, given, x))
    return tuple(maps)


def _check(module: nn.Module, plan: Plan | None) -> None:
    if not isinstance(module, nn.Module):
        raise ArgumentError(
            f"feature_maps: the module is an nn.Module. Got {type(module).__name__}. Pass one "
            "layer, or an nn.Sequential of them."
        )
    if not isinstance(plan, Plan | None):
        raise ArgumentError(
            f"feature_maps: plan= is a Plan. Got {plan!r}. Make one with "
            "fanin.plan(module, recipe)."
        )


def _layers(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """The module, or those of a `Sequential`, with their names."""
    if type(module) is not nn.Sequential:
        yield name, module
        return
    for key, child in module._modules.items():  # named_children() lists a shared child once
        if child is not None:
            yield from _layers(child, f"{name}.{key}" if name else key)


def _fitted(pixels: Tensor, layers: list[nn.Module]) -> Tensor:
    """The image with the channels that the first layer takes."""
    expected = getattr(layers[0], "in_channels", pixels.shape[0]) if layers else pixels.shape[0]
    if pixels.shape[0] == expected:
        return pixels
    if pixels.shape[0] == 1:
        return pixels.expand(expected, -1, -1)
    raise ArgumentError(
        f"feature_maps: the image has the channels of the first layer, or one. Got "
        f"{pixels.shape[0]} for {type(layers[0]).__name__} with in_channels={expected}. For a grey "
        "image take image.mean(0)."
    )


def _called(
    layer: nn.Module, name: str, x: Tensor, pooled: list[tuple[Tensor, torch.Size]]
) -> Tensor:
    """What a layer returns for an image; poolings leave their indices, unpoolings take them."""
    try:
        if isinstance(layer, nn.MaxUnpool2d):
            indices, size = pooled.pop()
            returned = layer(x, indices, list(size))
        elif isinstance(layer, nn.MaxPool2d):
            layer.return_indices = True
            returned, indices = layer(x)
            pooled.append((indices, x.shape[-2:]))
        else:
            returned = layer(x)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ArgumentError(
            f"feature_maps: each layer takes what the one before it returns. Got "
            f"{shape_text(x.shape)} for {_named(layer, name)}: {error}"
        ) from error
    if not isinstance(returned, Tensor) or returned.ndim != 4:
        got = shape_text(returned.shape) if isinstance(returned, Tensor) else type(returned)
        raise ArgumentError(
            f"feature_maps: each layer returns an image, 1×C×H×W. Got {got} from "
            f"{_named(layer, name)}. Pass the layers before it: model[:n]."
        )
    return returned


def _named(layer: nn.Module, name: str) -> str:
    return f"{name!r} ({type(layer).__name__})" if name else type(layer).__name__


def _maps(layer: nn.Module, name: str, given: Tensor, returned: Tensor) -> LayerMaps:
    """The result of a layer, with how it upsamples."""
    cells = cells_of(layer, given, returned)
    channels = returned[0].detach().float().cpu()
    return LayerMaps(name, type(layer).__name__, channels, cells.size, cells.taps, cells.margin)
