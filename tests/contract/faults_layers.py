"""Faults of particular layers: FAN301 to FAN307."""

from __future__ import annotations

import torch
from faults_table import Fault
from torch import Tensor, nn

__all__ = ["LAYER_FAULTS"]


class Language(nn.Module):
    """A table of embeddings that is the output head too."""

    def __init__(self, vocabulary: int = 500, dim: int = 256) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(vocabulary, dim)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, vocabulary, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.norm(self.embed(ids)))


def tied_table() -> nn.Module:
    """Pain 28: torch's N(0, 1) for embeddings, under a tied head."""
    return Language()


def head_first() -> nn.Module:
    """The same, where the head's name owns the parameter."""
    model = Language()
    del model.embed
    model.embed = nn.Embedding(500, 256)
    model.embed.weight = model.head.weight
    nn.init.normal_(model.head.weight)
    return model


def padding_row() -> nn.Module:
    """Pain 29: the embedding is drawn anew, its padding row too."""
    model = nn.Sequential(nn.Embedding(50, 16, padding_idx=0), nn.Linear(16, 4))
    nn.init.normal_(model[0].weight, std=0.02)
    return model


def padding_row_of_a_bag() -> nn.Module:
    model = nn.EmbeddingBag(50, 16, padding_idx=-1)
    nn.init.xavier_uniform_(model.weight)
    return model


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lstm = nn.LSTM(24, 48, num_layers=2, bidirectional=True)
        self.head = nn.Linear(96, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0])


def default_forget_gates() -> nn.Module:
    """Pain 28: forget gates start at 0.5."""
    return Tagger()


def wrong_gate() -> nn.Module:
    """TensorFlow's order of gates, i, g, f, o, assumed of torch's i, f, g, o."""
    model = Tagger()
    for name, bias in model.lstm.named_parameters():
        if name.startswith("bias"):
            nn.init.zeros_(bias)
        if name.startswith("bias_ih"):
            nn.init.ones_(bias.detach()[96:144])
    return model


def both_forget_biases() -> nn.Module:
    """Pain 28: 1 in both biases, which add."""
    model = Tagger()
    for name, bias in model.lstm.named_parameters():
        if name.startswith("bias"):
            nn.init.zeros_(bias)
            nn.init.ones_(bias.detach()[48:96])
    return model


def biases_of_one() -> nn.Module:
    """`ones_` on all that is one-dimensional, as for norms."""
    torch.manual_seed(0)
    layers = [nn.Linear(64, 64), nn.LayerNorm(64), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_normal_(layer.weight, gain=0.25)
            nn.init.ones_(layer.bias)
    return model


def large_filter_bias() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sigmoid(), nn.Conv2d(8, 8, 3))
    nn.init.constant_(model[0].bias, 10.0)
    return model


class Adapted(nn.Module):
    """peft's names for the two factors."""

    def __init__(self) -> None:
        super().__init__()
        self.base_layer = nn.Linear(64, 64)
        self.lora_A = nn.ModuleDict({"default": nn.Linear(64, 8, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(8, 64, bias=False)})

    def forward(self, x: Tensor) -> Tensor:
        return self.base_layer(x) + self.lora_B["default"](self.lora_A["default"](x))


class Factors(nn.Module):
    """Raw parameters, as `x @ self.down @ self.up`."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(48, 48)
        self.down = nn.Parameter(torch.zeros(48, 4))
        self.up = nn.Parameter(torch.zeros(4, 48))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + x @ self.down @ self.up


def dead_adapters() -> nn.Module:
    """Pain 38 (relora 18): both factors are zero."""
    torch.manual_seed(0)
    model = nn.Sequential(Adapted(), nn.GELU(), Adapted())
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            nn.init.zeros_(parameter)
    return model


def dead_bottleneck() -> nn.Module:
    torch.manual_seed(0)
    adapter = nn.Sequential(nn.Linear(64, 8, bias=False), nn.Linear(8, 64, bias=False))
    for parameter in adapter.parameters():
        nn.init.zeros_(parameter)
    return nn.Sequential(nn.Linear(64, 64), adapter)


def checkerboard() -> nn.Module:
    return nn.Sequential(
        nn.ConvTranspose2d(16, 8, 3, stride=2, padding=1, output_padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 3, 4, stride=2, padding=1),
    )


def gaps() -> nn.Module:
    """A kernel smaller than its stride."""
    return nn.Sequential(nn.Conv1d(1, 8, 5), nn.ConvTranspose1d(8, 8, 2, stride=3))


def convolutions(norm: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 32, 3), norm, nn.ReLU(), nn.Conv2d(32, 8, 3))


def drawn_norm() -> nn.Module:
    """EfficientNet in transformers: norms beside the layers that `_init_weights` draws."""
    model = convolutions(nn.BatchNorm2d(32))
    nn.init.normal_(model[1].weight, std=0.02)
    return model


def dead_norm() -> nn.Module:
    model = convolutions(nn.GroupNorm(4, 32))
    nn.init.zeros_(model[1].weight)
    return model


def loud_norm() -> nn.Module:
    """The square of the width in place of its root."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 24), nn.RMSNorm(24), nn.Linear(24, 5))
    nn.init.constant_(model[1].weight, 24.0**2)
    return model


def zero_before_a_layer() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 24), nn.LayerNorm(24), nn.GELU(), nn.Linear(24, 5))
    nn.init.zeros_(model[1].weight)
    return model


class GemmaRMSNorm(nn.Module):
    """It adds 1 to its weight, as the class of this name in transformers does."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * x.square().mean(-1, keepdim=True).rsqrt() * (1 + self.weight)


def doubled_norm() -> nn.Module:
    """`ones_` on every norm, whatever it does with its weight."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 24), GemmaRMSNorm(24), nn.Linear(24, 5))
    nn.init.ones_(model[1].weight)
    return model


class PreNorm(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.up, self.down = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.up(self.norm(x)).relu())


class Stack(nn.Module):
    def __init__(self, dim: int = 32) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(PreNorm(dim) for _ in range(3))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, 5)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def zeroed_vectors() -> nn.Module:
    """Xavier for matrices, and zeros for all that has one dim."""
    model = Stack()
    for parameter in model.parameters():
        if parameter.dim() == 1:
            nn.init.zeros_(parameter)
    return model


LAYER_FAULTS = (
    Fault("FAN301", "tied table of N(0, 1)", tied_table, "embed.weight"),
    Fault("FAN301", "tied, the head first", head_first),
    Fault("FAN302", "padding row drawn", padding_row, "0.weight"),
    Fault("FAN302", "padding row of a bag", padding_row_of_a_bag, "weight"),
    Fault("FAN303", "default forget gates", default_forget_gates, "lstm.bias_ih_l0"),
    Fault("FAN303", "another library's gates", wrong_gate, "lstm.bias_ih_l0"),
    Fault("FAN303", "both biases", both_forget_biases, "lstm.bias_ih_l0"),
    Fault("FAN304", "biases of one", biases_of_one, "0.bias"),
    Fault("FAN304", "filters", large_filter_bias, "0.bias"),
    Fault("FAN305", "peft's names", dead_adapters, "0.lora_A.default.weight"),
    Fault("FAN305", "raw factors", Factors, "down"),
    Fault("FAN305", "bottleneck", dead_bottleneck, "1.0.weight"),
    Fault("FAN306", "kernel 3, stride 2", checkerboard, "0"),
    Fault("FAN306", "gaps", gaps, "1"),
    Fault("FAN307", "drawn", drawn_norm, "1.weight"),
    Fault("FAN307", "dead", dead_norm, "1.weight"),
    Fault("FAN307", "loud", loud_norm, "1.weight"),
    Fault("FAN307", "zeros before a layer", zero_before_a_layer, "1.weight"),
    Fault("FAN307", "doubled", doubled_norm, "1.weight"),
    Fault("FAN307", "zeroed vectors", zeroed_vectors, "blocks.0.norm.weight"),
)
