"""Faults of scale and distribution: FAN201 to FAN212."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from faults_table import Fault
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["SCALE_FAULTS"]


def mlp(depth: int, width: int = 256, *, inputs: int = 784) -> nn.Sequential:
    sizes = [inputs, *[width] * (depth - 1)]
    layers = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(width, 10))


def every(model: nn.Module, fill: Callable[[Tensor], object], *kinds: type[nn.Module]) -> nn.Module:
    """The weights of all modules of some kinds, filled."""
    for module in model.modules():
        if isinstance(module, kinds or (nn.Linear,)):
            fill(module.weight)
    return model


def mean_argument() -> nn.Module:
    """`normal_(w, 0.1)`: the second argument is the mean, and the std stays 1."""
    torch.manual_seed(0)
    return every(mlp(3), lambda w: nn.init.normal_(w, 0.1))


def uniform_positive() -> nn.Module:
    """`torch.rand` for `torch.rand - 0.5`: every weight is positive."""
    torch.manual_seed(0)
    model = mlp(3)
    with torch.no_grad():
        model[2].weight.copy_(torch.rand_like(model[2].weight) / 16)
    return model


def standard_normal_head() -> nn.Module:
    """`torch.randn` for a layer of 784 inputs: logits of some 28 at step 0."""
    torch.manual_seed(0)
    return every(nn.Linear(784, 10), nn.init.normal_)


def standard_normal_attention() -> nn.Module:
    """The same in a block with norms: attention logits grow with the square."""
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(256, 4)
    nn.init.normal_(model.linear1.weight)
    return model


def too_small_everywhere() -> nn.Module:
    """`normal_(std=0.01)` of the AlexNet years, ten layers deep and 256 wide (pain 26)."""
    torch.manual_seed(0)
    return every(mlp(10), lambda w: nn.init.normal_(w, std=0.01))


def too_large_everywhere() -> nn.Module:
    """`kaiming_normal_` times 4: harmless in one layer, 4**9 over the depth."""
    torch.manual_seed(0)

    def fill(weight: Tensor) -> None:
        nn.init.kaiming_normal_(weight)
        weight.data.mul_(4)

    return every(mlp(10), fill)


def torch_default_mlp() -> nn.Module:
    """Twenty ReLU layers as the constructor leaves them (pain 26, pt 57109)."""
    torch.manual_seed(0)
    return mlp(20)


class Plain(nn.Module):
    """A stack of convolutions whose functions are calls in forward."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.body = nn.ModuleList(nn.Conv2d(32, 32, 3, padding=1) for _ in range(15))
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        for layer in self.body:
            x = F.relu(layer(x))
        return self.head(x.mean((2, 3)))


def torch_default_convolutions() -> nn.Module:
    """A VGG without batch norm, from torch's default (pain 26)."""
    torch.manual_seed(0)
    return Plain()


def decoder() -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(256, 32, 3),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.ConvTranspose2d(32, 3, 3),
    )


def swapped_transposed() -> nn.Module:
    """`kaiming_normal_` on transposed convolutions: fan_in is that of the outputs (pain 23)."""
    torch.manual_seed(0)
    return every(decoder(), nn.init.kaiming_normal_, nn.ConvTranspose2d)


def swapped_conv1d() -> nn.Module:
    """`kaiming_uniform_` on the `Conv1D` of transformers, whose weight is (in, out) (pain 23)."""
    from transformers.pytorch_utils import Conv1D

    torch.manual_seed(0)
    model = nn.Sequential(Conv1D(1024, 256), nn.GELU(), Conv1D(256, 1024))
    return every(model, lambda w: nn.init.kaiming_uniform_(w, nonlinearity="relu"), type(model[0]))


def mobile() -> nn.Sequential:
    """Depthwise and pointwise convolutions in turn, as in MobileNet."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.ReLU6()]
    for a, b in ((64, 128), (128, 256), (256, 512)):
        layers += [nn.Conv2d(a, a, 3, groups=a, bias=False), nn.BatchNorm2d(a), nn.ReLU6()]
        layers += [nn.Conv2d(a, b, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU6()]
    return nn.Sequential(*layers)


def ungrouped_depthwise() -> nn.Module:
    """torchvision's MobileNet: `kaiming_normal_(mode="fan_out")`, groups unseen (pain 22)."""
    torch.manual_seed(0)
    return every(mobile(), lambda w: nn.init.kaiming_normal_(w, mode="fan_out"), nn.Conv2d)


def ungrouped_xavier() -> nn.Module:
    """`xavier_uniform_` on a ResNeXt's grouped convolution (pain 22, pt 23854)."""
    torch.manual_seed(0)
    return every(
        nn.Sequential(nn.Conv2d(128, 128, 3, groups=32), nn.BatchNorm2d(128)),
        nn.init.xavier_uniform_,
        nn.Conv2d,
    )


def packed_attention() -> nn.Module:
    """torch's own attention: xavier over (3E, E) (pain 21, pt 166378)."""
    torch.manual_seed(0)
    return nn.MultiheadAttention(128, 4)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(128)
        self.qkv = nn.Linear(128, 384)
        self.proj = nn.Linear(128, 128)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        return x + self.proj(F.scaled_dot_product_attention(q, k, v))


def packed_qkv() -> nn.Module:
    """A `qkv` layer of a vision transformer, under `xavier_uniform_` (pain 21, xformers 303)."""
    torch.manual_seed(0)
    return every(Attention(), nn.init.xavier_uniform_)


def packed_gates() -> nn.Module:
    """`xavier_normal_` on every matrix of an LSTM: four gates as one (pain 21)."""
    torch.manual_seed(0)
    model = nn.LSTM(128, 128)
    for name, weight in model.named_parameters():
        if name.startswith("weight"):
            nn.init.xavier_normal_(weight)
    return model


class Patches(nn.Module):
    """Weights by timm's idiom, whose bounds are absolute."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(192, 256)
        self.norm = nn.LayerNorm(256)
        self.second = nn.Linear(256, 256)
        self.apply(self._init_weights)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.norm(self.first(x)))


def untruncated() -> nn.Module:
    """`trunc_normal_(w, std=0.02)`: bounds of ±2 are ±100 std (pain 12's trap)."""
    torch.manual_seed(0)
    return Patches()


def undivided() -> nn.Module:
    """LeCun's variance cut at ±2 std and not divided by 0.8796 (pain 14)."""
    torch.manual_seed(0)
    std = 1 / 16

    def fill(weight: Tensor) -> None:
        nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)

    return every(nn.Sequential(nn.Linear(256, 256), nn.LayerNorm(256)), fill)


def clamped() -> nn.Module:
    """A normal clamped at ±2 std in place of a truncated one."""
    torch.manual_seed(0)

    def fill(weight: Tensor) -> None:
        nn.init.normal_(weight, std=0.02).data.clamp_(-0.04, 0.04)

    return every(nn.Sequential(nn.Linear(256, 256), nn.LayerNorm(256)), fill)


def clamped_in_bfloat16() -> nn.Module:
    """The inverse-CDF recipe in bfloat16: uniforms round to ±1, `erfinv` is infinite (pain 12)."""
    torch.manual_seed(0)
    model = nn.Linear(256, 256, dtype=torch.bfloat16)
    with torch.no_grad():
        u = torch.rand(256, 256).mul(2).sub(1).bfloat16()
        model.weight.copy_(u.erfinv().mul(0.02 * math.sqrt(2)).clamp(-2, 2))
    return model


def subnormal() -> nn.Module:
    """A head at std 1e-5, rounded to float16."""
    torch.manual_seed(0)
    model = nn.Linear(256, 64)
    nn.init.normal_(model.weight, std=1e-5)
    return model.half()


def collapsed() -> nn.Module:
    """Scales of 1 with noise of 0.002, in bfloat16, where the next number is 1.0078."""
    torch.manual_seed(0)
    model = nn.LayerNorm(512)
    nn.init.normal_(model.weight, 1.0, 0.002)
    return model.bfloat16()


def flushed_in_float8() -> nn.Module:
    """std 0.02 in float8_e4m3 without a scale: half of it lies below 1/64."""
    torch.manual_seed(0)
    model = nn.Linear(128, 128)
    nn.init.normal_(model.weight, std=0.02)
    return model.to(torch.float8_e4m3fn)


def drawn_in_half() -> nn.Module:
    """`orthogonal_` in bfloat16 and stored as float32 (pain 15)."""
    torch.manual_seed(0)
    model = nn.Linear(128, 128)
    nn.init.orthogonal_(model.weight)
    model.weight.data = model.weight.data.bfloat16().float()
    return model


def perturbed_orthogonal() -> nn.Module:
    """Orthogonal, then a little noise "to break ties"."""
    torch.manual_seed(0)
    model = nn.RNN(64, 128)
    nn.init.orthogonal_(model.weight_hh_l0)
    model.weight_hh_l0.data.add_(torch.randn(128, 128), alpha=0.01)
    return model


def scaled_rows() -> nn.Module:
    """Orthogonal rows times a vector of gains."""
    torch.manual_seed(0)
    model = nn.Linear(128, 64)
    nn.init.orthogonal_(model.weight)
    model.weight.data.mul_(torch.rand(64, 1) + 0.5)
    return model


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln = nn.LayerNorm(width)
        self.fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.c_proj(F.gelu(self.fc(self.ln(x))))


class Stack(nn.Module):
    """A pre-norm stack; the rule that was to scale ``c_proj`` matched nothing (pain 7)."""

    def __init__(self, depth: int, *, is_scaled: bool = False) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(32) for _ in range(depth))
        self.ln_f = nn.LayerNorm(32)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                by = math.sqrt(depth) if is_scaled and "c_proj" in name else 1
                nn.init.normal_(weight, std=0.02 / by)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.ln_f(x)


def unscaled_residuals() -> nn.Module:
    torch.manual_seed(0)
    return Stack(24)


SCALE_FAULTS = (
    Fault("FAN201", "mean given for std", mean_argument, "0.weight"),
    Fault("FAN201", "only positive", uniform_positive, "2.weight"),
    Fault("FAN202", "randn head", standard_normal_head, "weight"),
    Fault("FAN202", "randn under norms", standard_normal_attention, "linear1.weight"),
    Fault("FAN202", "std 0.01 ten deep", too_small_everywhere),
    Fault("FAN202", "four times kaiming", too_large_everywhere),
    Fault("FAN203", "default mlp", torch_default_mlp, "0.weight"),
    Fault("FAN203", "default convolutions", torch_default_convolutions, "stem.weight"),
    Fault("FAN204", "transposed convolution", swapped_transposed, "0.weight"),
    Fault("FAN204", "Conv1D of transformers", swapped_conv1d, "0.weight"),
    Fault("FAN205", "depthwise fan_out", ungrouped_depthwise, "3.weight"),
    Fault("FAN205", "grouped xavier", ungrouped_xavier, "0.weight"),
    Fault("FAN206", "torch's attention", packed_attention, "in_proj_weight"),
    Fault("FAN206", "qkv layer", packed_qkv, "qkv.weight"),
    Fault("FAN206", "gates", packed_gates, "weight_ih_l0"),
    Fault("FAN207", "absolute bounds", untruncated, "first.weight"),
    Fault("FAN208", "not divided", undivided, "0.weight"),
    Fault("FAN209", "clamped", clamped, "0.weight"),
    Fault("FAN209", "infinite erfinv", clamped_in_bfloat16, "weight"),
    Fault("FAN210", "float16 subnormals", subnormal, "weight"),
    Fault("FAN210", "bfloat16 around 1", collapsed, "weight"),
    Fault("FAN210", "float8", flushed_in_float8, "weight"),
    Fault("FAN211", "drawn in bfloat16", drawn_in_half, "weight"),
    Fault("FAN211", "perturbed", perturbed_orthogonal, "weight_hh_l0"),
    Fault("FAN211", "scaled rows", scaled_rows, "weight"),
    Fault("FAN212", "pre-norm stack", unscaled_residuals, "blocks.0.c_proj.weight"),
)
