"""Residual networks for images, as torchvision starts them."""

from __future__ import annotations

import math

from torch import nn

from fanin.fills import derived
from fanin.initializers import Initializer, normal, zeros
from fanin.model import Site
from fanin.planning import Match, Recipe, Rule, rule
from fanin.recipes.families import NORM
from fanin.recipes.options import stated
from fanin.recipes.torch_default import torch_default

__all__ = ["IMAGE_CONVOLUTION", "fan_out_normal", "resnet"]

IMAGE_CONVOLUTION = (nn.Conv1d, nn.Conv2d, nn.Conv3d)

# The norm that ends the residual branch of a block, by the class of the block.
_LAST_NORM = {
    "BasicBlock": "bn2",
    "Bottleneck": "bn3",
    "ResNetBasicLayer": "layer.1.normalization",
    "ResNetBottleNeckLayer": "layer.2.normalization",
}


def resnet(*, zero_gamma: bool = False) -> Recipe:
    """What torchvision gives ResNet, ResNeXt and Wide ResNet; transformers' ResNet is the same.

    Convolutions are normal with ``std = sqrt(2 / fan_out)``. All else is as torch's constructors
    make it: norms 1 and 0, the last linear layer U(±1/sqrt(fan_in)).

    Args:
        zero_gamma: start the last norm of each residual branch at 0, so that every block is the
            identity (torchvision's ``zero_init_residual``). The blocks of torchvision, timm
            (``BasicBlock``, ``Bottleneck``) and transformers are known by name; for another block
            append ``{"**.last_norm.weight": zeros()}``.

    Returns:
        A recipe for models of torch's modules; with ``zero_gamma`` planning a model without such
        blocks is an error.

    Example:
        >>> print(resnet(zero_gamma=True))
        resnet@1(zero_gamma=true)

    Source: torchvision.models.resnet; He et al. 2015, arXiv:1502.01852, eq. 14 (fan_out); Goyal et
        al. 2017, arXiv:1706.02677, section 5.1 (zero γ).
    """
    return Recipe(
        "resnet",
        1,
        (
            *torch_default().rules,
            rule(IMAGE_CONVOLUTION, fan_out_normal, parameter="weight", label="conv weight"),
            *((_ZERO_GAMMA,) if zero_gamma else ()),
        ),
        summary="torchvision's: normal convs, std = sqrt(2 / fan_out), norms 1 and 0",
        options=stated(resnet, zero_gamma=zero_gamma),
    )


def fan_out_normal(site: Site) -> Initializer:
    """N(0, 2/fan_out), where fan_out counts the outputs of all groups, as torch takes it.

    ResNeXt's convolutions start ``sqrt(groups)`` times smaller than by the fan of one group.
    """
    shape = site.tensor.shape
    fan_out = shape[0] * shape[2:].numel()
    return normal(mean=0.0, std=derived(math.sqrt(2 / fan_out)) if fan_out else 0.0)


def ends_branch(site: Site) -> bool:
    """Whether the module is the last norm of a block around it."""
    return any(
        _submodule(block, _LAST_NORM[kind.__name__]) is site.module
        for block in site.parents
        for kind in type(block).__mro__
        if kind.__name__ in _LAST_NORM
    )


def _submodule(block: nn.Module, path: str) -> nn.Module | None:
    try:
        return block.get_submodule(path)
    except AttributeError:  # another library's block of this name
        return None


# The name makes it an error when no block is known: the option would silently do nothing.
_ZERO_GAMMA = Rule(
    Match(name="**.weight", types=NORM, predicate=ends_branch),
    zeros(),
    label="last norm of a branch",
)
