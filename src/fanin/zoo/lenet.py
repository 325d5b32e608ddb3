"""LeNet-5 as one `nn.Sequential`."""

from __future__ import annotations

from torch import nn

__all__ = ["lenet"]


def lenet(*, num_classes: int = 10) -> nn.Sequential:
    """LeNet-5 for 28×28 grey images, with max pooling and ReLU as it is taught today.

    Args:
        num_classes: outputs of the last layer.

    Returns:
        A model from (batch, 1, 28, 28) to (batch, num_classes).

    Example:
        >>> import torch
        >>> lenet()(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])

    Source: LeCun et al. 1998, "Gradient-based learning applied to document recognition", fig. 2.
    """
    return nn.Sequential(
        nn.Conv2d(1, 6, kernel_size=5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, kernel_size=5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 5 * 5, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, num_classes),
    )
