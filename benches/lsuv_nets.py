"""Nets for the comparison with the `lsuv` package, each with a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from fanin import zoo

__all__ = ["NETS"]


class Reversed(nn.Module):
    """Layers of unequal widths, registered from the last to the first."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        layers = [nn.Linear(*pair) for pair in pairwise(widths)]
        self.layers = nn.ModuleList(reversed(layers))

    def forward(self, x: Tensor) -> Tensor:
        *hidden, last = reversed(self.layers)
        for layer in hidden:
            x = torch.relu(layer(x))
        return last(x)


def reversed_mlp() -> tuple[nn.Module, Tensor]:
    return Reversed([32, 128, 64, 256, 10]), 3 * torch.randn(256, 32)


def deep_mlp() -> tuple[nn.Module, Tensor]:
    return zoo.mlp(depth=30, width=128, in_features=128), torch.randn(256, 128)


def lenet() -> tuple[nn.Module, Tensor]:
    return zoo.lenet(), torch.randn(64, 1, 28, 28)


def alexnet() -> tuple[nn.Module, Tensor]:
    return zoo.alexnet(), torch.randn(2, 3, 224, 224)


def resnet() -> tuple[nn.Module, Tensor]:
    return zoo.resnet(width=16, num_classes=10), torch.randn(8, 3, 64, 64)


def decoder() -> tuple[nn.Module, Tensor]:
    net = nn.Sequential(
        nn.ConvTranspose2d(16, 32, 4, stride=2, groups=4),
        nn.ReLU(),
        nn.ConvTranspose2d(32, 8, 4, stride=2),
        nn.ReLU(),
        nn.Conv2d(8, 3, 3),
    )
    return net, torch.randn(16, 16, 5, 5)


def encoder() -> tuple[nn.Module, Tensor]:
    layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True, dropout=0.0)
    return nn.TransformerEncoder(layer, 4), torch.randn(16, 20, 64)


def weight_normed() -> tuple[nn.Module, Tensor]:
    norm = nn.utils.parametrizations.weight_norm
    layers = [layer for _ in range(6) for layer in (norm(nn.Linear(64, 64)), nn.Tanh())]
    return nn.Sequential(*layers), 2 * torch.randn(256, 64)


def gpt2() -> tuple[nn.Module, Tensor]:
    from transformers import GPT2Config, GPT2Model

    config = GPT2Config(n_layer=4, n_embd=64, n_head=4, vocab_size=1000)
    return GPT2Model(config), torch.randint(1000, (8, 64))


NETS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "MLP registered in reverse": reversed_mlp,
    "MLP of 30 layers": deep_mlp,
    "LeNet": lenet,
    "AlexNet": alexnet,
    "ResNet-18": resnet,
    "transposed convolutions": decoder,
    "transformer encoder": encoder,
    "weight_norm MLP": weight_normed,
    "GPT-2 of transformers": gpt2,
}
