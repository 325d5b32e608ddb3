"""VGG, as torchvision starts it."""

from __future__ import annotations

from torch import nn

from fanin.initializers import normal, zeros
from fanin.planning import Recipe, rule
from fanin.recipes.resnet import IMAGE_CONVOLUTION, fan_out_normal
from fanin.recipes.torch_default import torch_default

__all__ = ["vgg"]


def vgg() -> Recipe:
    """What torchvision gives VGG, with or without batch norms.

    Convolutions are normal with ``std = sqrt(2 / fan_out)``, linear layers N(0, 0.01²), the biases
    of both zero. All else is as torch's constructors make it: norms 1 and 0.

    Returns:
        A recipe for models of torch's modules.

    Example:
        >>> import fanin
        >>> fanin.plan(nn.Linear(8, 4), vgg(), seed=0).steps[0].fill
        Normal(mean=0.0, std=0.01)

    Source: torchvision.models.vgg; Simonyan and Zisserman 2014, arXiv:1409.1556, section 3.1.
    """
    return Recipe(
        "vgg",
        1,
        (
            *torch_default().rules,
            rule(IMAGE_CONVOLUTION, fan_out_normal, parameter="weight", label="conv weight"),
            rule(IMAGE_CONVOLUTION, zeros(), parameter="bias", label="conv bias"),
            rule(nn.Linear, normal(std=0.01), parameter="weight", label="linear weight"),
            rule(nn.Linear, zeros(), parameter="bias", label="linear bias"),
        ),
        summary="torchvision's: normal convs, std = sqrt(2 / fan_out), linear N(0, 0.01²)",
    )
