"""The architectures of `auto.py`: none was tuned for, and the recipe knows none by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fanin import zoo

__all__ = ["NETS", "Net"]


@dataclass(frozen=True)
class Net:
    """A model, inputs for it, and what is promised of it.

    Args:
        name: for the table.
        build: makes it, its values of no account.
        inputs: makes a batch.
        within: how far the median over draws may be from the prediction; None where the net is
            too deep for its width, and what counts is the interval.
    """

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], Any]
    within: float | None


def _mlp(activation: str, depth: int, width: int) -> Callable[[], nn.Module]:
    return lambda: zoo.mlp(depth=depth, width=width, activation=activation, in_features=width)


def _normal(*shape: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _tokens(vocabulary: int, *shape: int) -> Tensor:
    return torch.randint(vocabulary, shape, generator=torch.Generator().manual_seed(0))


def _vgg(norm: bool) -> nn.Module:
    layers: list[nn.Module] = []
    channels = 3
    for width, count in ((64, 2), (128, 2), (256, 3), (256, 3)):
        for _ in range(count):
            layers.append(nn.Conv2d(channels, width, 3, padding=1))
            layers += [nn.BatchNorm2d(width)] if norm else []
            layers.append(nn.ReLU())
            channels = width
        layers.append(nn.MaxPool2d(2))
    head = (nn.Linear(256 * 4, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 100))
    return nn.Sequential(*layers, nn.Flatten(), *head)


class _Block(nn.Module):
    """Two convolutions beside a shortcut, without any norm."""

    def __init__(self, before: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, channels, 3, stride, 1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        same = stride == 1 and before == channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(before, channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.conv2(F.relu(self.conv1(F.relu(x))))


def _plain_resnet() -> nn.Module:
    widths = ((64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1))
    blocks = (_Block(*each) for each in widths)
    pool = (nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), *blocks, *pool, nn.Linear(256, 10))


def _plain_conv_net() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, padding=1), nn.Tanh()]
    for _ in range(99):
        layers += [nn.Conv2d(64, 64, 3, padding=1), nn.Tanh()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def _transformer(depth: int, *, norm_first: bool) -> nn.Module:
    layer = nn.TransformerEncoderLayer(
        128, 4, 512, dropout=0.0, activation="gelu", batch_first=True, norm_first=norm_first
    )
    return nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)


class _Unet(nn.Module):
    """Three resolutions, with what goes down handed across to what comes up."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.ReLU()) for a, b in _DOWN
        )
        self.grow = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in _UP)
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2 * a, a, 3, padding=1), nn.ReLU()) for a, b in _UP
        )
        self.head = nn.Conv2d(64, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        across = []
        for block in self.down:
            x = block(x)
            across.append(x)
            x = F.max_pool2d(x, 2) if block is not self.down[-1] else x
        for grow, block, other in zip(self.grow, self.up, across[-2::-1], strict=True):
            x = block(torch.cat([grow(x), other], 1))
        return self.head(x)


_DOWN = ((1, 64), (64, 128), (128, 256))
_UP = ((128, 256), (64, 128))


class _Gated(nn.Module):
    """A stack of gated linear units, without norms or residuals."""

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        self.gates = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(depth))
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        for gate in self.gates:
            x = F.glu(gate(x))
        return self.head(x)


class _Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(500, 128)
        self.lstm = nn.LSTM(128, 256, num_layers=2, batch_first=True)
        self.head = nn.Linear(256, 500)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.lstm(self.embedding(ids))[0])


class _Unforeseen(nn.Module):
    """Weights of its own in einsums, a gate of one input on another, a bilinear end."""

    def __init__(self) -> None:
        super().__init__()
        self.into_heads = nn.Parameter(torch.empty(96, 8, 32))
        self.mix = nn.Parameter(torch.empty(8, 32, 256))
        self.gate = nn.Linear(48, 256)
        self.down = nn.Parameter(torch.empty(256, 96))
        self.shift = nn.Parameter(torch.empty(96))
        self.end = nn.Bilinear(96, 48, 64)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        heads = torch.sin(torch.einsum("btd,dhk->bthk", x, self.into_heads))
        mixed = torch.einsum("bthk,hke->bte", heads, self.mix)
        gated = mixed * torch.sigmoid(self.gate(context))
        y = torch.tanh(gated @ self.down + self.shift)
        return self.end(y.mean(1), context.mean(1))


def _hugging_face(kind: str, **fields: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

        config = AutoConfig.for_model(kind, **fields)
        auto = AutoModelForCausalLM if kind in ("gpt2", "llama") else AutoModel
        return auto.from_config(config).eval()

    return build


_SMALL = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4}

NETS = (
    *(
        Net(
            f"MLP {name}, {depth} layers of {width}",
            _mlp(name, depth, width),
            _normal(64, width),
            w,
        )
        for name in ("tanh", "relu", "gelu", "silu", "selu")
        for depth, width, w in ((10, 256, 0.15), (50, 256, None), (200, 256, None))
    ),
    *(
        Net(f"MLP {name}, 20 layers of 512", _mlp(name, 20, 512), _normal(64, 512), 0.15)
        for name in ("tanh", "relu", "gelu")
    ),
    Net("LeNet", zoo.lenet, _normal(16, 1, 28, 28), None),
    Net("AlexNet", zoo.alexnet, _normal(4, 3, 224, 224), None),
    Net("VGG, 10 convolutions", lambda: _vgg(False), _normal(4, 3, 32, 32), None),
    Net("VGG with BN", lambda: _vgg(True), _normal(8, 3, 32, 32), 0.15),
    Net("ResNet-18", lambda: zoo.resnet(depth=18, num_classes=10), _normal(4, 3, 64, 64), 0.15),
    Net("ResNet without norms", _plain_resnet, _normal(4, 3, 32, 32), None),
    Net("100 convolutions, tanh", _plain_conv_net, _normal(4, 3, 16, 16), None),
    Net("U-Net", _Unet, _normal(4, 1, 32, 32), None),
    Net("Gated linear units, 10 layers", lambda: _Gated(10, 256), _normal(64, 256), 0.15),
    Net("LSTM, 2 layers", _Recurrent, lambda: _tokens(500, 8, 32), 0.30),
    *(
        Net(
            f"{'pre' if first else 'post'}-norm transformer, {depth} layers",
            lambda depth=depth, first=first: _transformer(depth, norm_first=first),
            _normal(4, 16, 128),
            0.30 if depth < 96 else None,
        )
        for first in (True, False)
        for depth in (4, 24, 96)
    ),
    Net(
        "GPT-2",
        _hugging_face("gpt2", vocab_size=500, n_embd=128, n_layer=4, n_head=4),
        lambda: {"input_ids": _tokens(500, 4, 32)},
        0.30,
    ),
    Net(
        "llama",
        _hugging_face(
            "llama", vocab_size=500, intermediate_size=256, num_key_value_heads=2, **_SMALL
        ),
        lambda: {"input_ids": _tokens(500, 4, 32)},
        0.30,
    ),
    Net(
        "BERT",
        _hugging_face("bert", vocab_size=500, intermediate_size=512, **_SMALL),
        lambda: {"input_ids": _tokens(500, 4, 32)},
        0.30,
    ),
    Net(
        "ViT",
        _hugging_face("vit", image_size=64, patch_size=8, intermediate_size=512, **_SMALL),
        _normal(4, 3, 64, 64),
        0.30,
    ),
    Net(
        "T5",
        _hugging_face(
            "t5", vocab_size=500, d_model=128, d_kv=32, d_ff=512, num_layers=3, num_heads=4
        ),
        lambda: {"input_ids": _tokens(500, 4, 32), "decoder_input_ids": _tokens(500, 4, 16)},
        0.30,
    ),
    Net(
        "unforeseen module", _Unforeseen, lambda: (_normal(8, 12, 96)(), _normal(8, 12, 48)()), 0.15
    ),
)
