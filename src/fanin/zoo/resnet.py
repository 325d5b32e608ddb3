"""Residual networks for images, of any width."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["BasicBlock", "Bottleneck", "ResNet", "resnet"]


class BasicBlock(nn.Module):
    """Two 3×3 convolutions, added to the input."""

    expansion = 1

    def __init__(
        self, in_channels: int, channels: int, *, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.conv1 = _conv(in_channels, channels, 3, stride=stride, groups=groups)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv(channels, channels, 3, groups=groups)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, channels, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, in_channels, height, width) to (batch, channels, …)."""
        branch = self.relu(self.bn1(self.conv1(x)))
        added: torch.Tensor = self.relu(self.bn2(self.conv2(branch)) + self.downsample(x))
        return added


class Bottleneck(nn.Module):
    """A 3×3 convolution between two of 1×1, added to the input."""

    expansion = 4

    def __init__(
        self, in_channels: int, channels: int, *, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        out_channels = channels * self.expansion
        self.conv1 = _conv(in_channels, channels, 1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv(channels, channels, 3, stride=stride, groups=groups)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = _conv(channels, out_channels, 1)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, in_channels, height, width) to (batch, 4·channels, …)."""
        branch = self.relu(self.bn1(self.conv1(x)))
        branch = self.relu(self.bn2(self.conv2(branch)))
        added: torch.Tensor = self.relu(self.bn3(self.conv3(branch)) + self.downsample(x))
        return added


# Blocks in each of the four stages, and their kind, by the number of weighted layers.
_DEPTHS: dict[int, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, ...]]] = {
    10: (BasicBlock, (1, 1, 1, 1)),
    14: (Bottleneck, (1, 1, 1, 1)),
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}


class ResNet(nn.Module):
    """A stem, four stages of residual blocks, and a linear layer; names as torchvision has them.

    Args:
        depth: 10, 14, 18, 34, 50, 101 or 152.
        width: channels of the first stage; 64 in the paper.
        groups: of the 3×3 convolutions; 32 in ResNeXt.
        num_classes: outputs of the last layer.

    Source: He et al. 2015, "Deep residual learning for image recognition", arXiv:1512.03385, table
        1; 10 and 14 have one block a stage.
    """

    def __init__(
        self, *, depth: int = 18, width: int = 64, groups: int = 1, num_classes: int = 1000
    ) -> None:
        super().__init__()
        if depth not in _DEPTHS:
            raise ValueError(f"resnet: depth is one of {list(_DEPTHS)}. Got {depth}.")
        block, counts = _DEPTHS[depth]
        self.conv1 = _conv(3, width, 7, stride=2)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        channels = width
        for stage, count in enumerate(counts):
            blocks = []
            for i in range(count):
                stride = 2 if stage and i == 0 else 1
                blocks.append(block(channels, width << stage, stride=stride, groups=groups))
                channels = (width << stage) * block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores (batch, num_classes) of images (batch, 3, height, width)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
        scores: torch.Tensor = self.fc(self.avgpool(x).flatten(1))
        return scores


def resnet(*, depth: int = 18, width: int = 64, groups: int = 1, num_classes: int = 1000) -> ResNet:
    """A residual network for (batch, 3, height, width) images; see `ResNet`.

    Example:
        >>> resnet(depth=10, width=8, num_classes=5)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 5])
    """
    return ResNet(depth=depth, width=width, groups=groups, num_classes=num_classes)


def _conv(
    in_channels: int, channels: int, size: int, *, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    return nn.Conv2d(
        in_channels, channels, size, stride=stride, padding=size // 2, groups=groups, bias=False
    )


def _shortcut(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    """Empty where the input fits as it is."""
    if stride == 1 and in_channels == channels:
        return nn.Sequential()
    return nn.Sequential(_conv(in_channels, channels, 1, stride=stride), nn.BatchNorm2d(channels))
