"""Deep convolutional GANs: generator and discriminator."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fanin.initializers import normal, zeros
from fanin.planning import Recipe, rule
from fanin.recipes.families import CONVOLUTION
from fanin.recipes.options import stated
from fanin.recipes.torch_default import torch_default

__all__ = ["dcgan"]


def dcgan(*, std: float = 0.02) -> Recipe:
    """What the DCGAN paper and PyTorch's tutorial give generator and discriminator.

    Convolutions, transposed ones and linear layers are N(0, 0.02²), the scales of batch norms
    N(1, 0.02²), all their biases zero. The original convolutions have no biases, of which zero is
    the equivalent; the tutorial has no linear layer, the paper says "all weights". Whatever else
    there is, as torch's constructors make it.

    Args:
        std: of the weights, and of the scales around 1.

    Returns:
        A recipe for models of torch's modules.

    Example:
        >>> import fanin
        >>> fanin.plan(nn.BatchNorm2d(4), dcgan(), seed=0).steps[0].fill
        Normal(mean=1.0, std=0.02)

    Source: Radford, Metz and Chintala 2015, arXiv:1511.06434, section 4; pytorch/examples, dcgan.
    """
    layers = (nn.Linear, *CONVOLUTION)
    return Recipe(
        "dcgan",
        1,
        (
            *torch_default().rules,
            rule(layers, normal(std=std), parameter="weight", label="linear, conv weight"),
            rule(layers, zeros(), parameter="bias", label="linear, conv bias"),
            rule(_BatchNorm, normal(mean=1.0, std=std), parameter="weight", label="norm weight"),
            rule(_BatchNorm, zeros(), parameter="bias", label="norm bias"),
        ),
        summary="weights N(0, 0.02²), batch norms N(1, 0.02²) (Radford et al. 2015)",
        options=stated(dcgan, std=std),
    )
