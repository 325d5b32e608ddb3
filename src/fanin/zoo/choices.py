"""Branches in an `nn.ModuleDict`: the caller names the one to take."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["Choices", "choices"]


class Choices(nn.Module):
    """A convolution or a pooling, then an activation, each picked by name in the forward call.

    Args:
        in_channels: channels of the images.
        channels: channels of the convolution's output.
    """

    def __init__(self, *, in_channels: int = 10, channels: int = 10) -> None:
        super().__init__()
        self.choices = nn.ModuleDict(
            {"conv": nn.Conv2d(in_channels, channels, kernel_size=3), "pool": nn.MaxPool2d(3)}
        )
        self.activations = nn.ModuleDict({"leaky": nn.LeakyReLU(), "prelu": nn.PReLU()})

    def forward(
        self, images: torch.Tensor, *, choice: str = "conv", activation: str = "prelu"
    ) -> torch.Tensor:
        """Images (batch, in_channels, height, width) through ``choice`` and ``activation``."""
        chosen: torch.Tensor = self.activations[activation](self.choices[choice](images))
        return chosen


def choices(*, in_channels: int = 10, channels: int = 10) -> Choices:
    """A model with branches; see `Choices`."""
    return Choices(in_channels=in_channels, channels=channels)
