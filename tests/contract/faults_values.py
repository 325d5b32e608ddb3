"""Faults that a weight's own values show: FAN101 to FAN110."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import torch
from faults_table import Fault
from torch import Tensor, nn

__all__ = ["VALUE_FAULTS"]


def mlp(*, seed: int = 0, width: int = 64) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
    )


def with_memory(model: nn.Module, name: str, content: Tensor) -> nn.Module:
    """A parameter over memory that held something else, as `to_empty` leaves it (pains 1 and 2)."""
    parameter = model.get_parameter(name)
    words = content.view(parameter.dtype).flatten()
    repeats = -(-parameter.numel() // words.numel())
    parameter.data = words.repeat(repeats)[: parameter.numel()].view(parameter.shape).clone()
    return model


def random_words(count: int) -> Tensor:
    torch.manual_seed(1)
    return torch.randint(-(2**31), 2**31, (count,)).to(torch.int32)


def not_a_number() -> nn.Module:
    """A std of 0/0, as of xavier for a layer without inputs."""
    model = mlp()
    with torch.no_grad():
        model[2].weight[3, 5] = float("nan")
    return model


def infinite_in_half() -> nn.Module:
    """A weight that overflowed when it was cast to float16."""
    model = mlp()
    with torch.no_grad():
        model[0].weight.mul_(2e6)
    return model.half()


def pointers() -> nn.Module:
    """Pain 1: the free list's pointers at the start of a small tensor."""
    addresses = torch.tensor([0x7F4552CE7E80, 0x55D0A3B4C7F0, 0x7F4552CE7E80, 12])
    return with_memory(mlp(), "0.bias", addresses)


def integers() -> nn.Module:
    """Pain 1: the token ids of a batch that was freed."""
    return with_memory(mlp(), "2.weight", torch.randint(1, 50000, (32 * 64,)))


def raw_bytes() -> nn.Module:
    """Random bytes, as of compressed images."""
    return with_memory(mlp(), "2.weight", random_words(64 * 64))


def text_bytes() -> nn.Module:
    """Memory that held text."""
    text = (b"Once upon a time there was a tensor that nobody filled. " * 300)[: 64 * 64 * 4]
    return with_memory(mlp(), "0.weight", torch.frombuffer(bytearray(text), dtype=torch.uint8))


def doubles() -> nn.Module:
    """The memory of a float64 tensor, read as float32."""
    torch.manual_seed(0)
    return with_memory(mlp(), "0.weight", torch.randn(64 * 32, dtype=torch.float64))


def placeholder() -> nn.Module:
    """A module's own sentinel for "not loaded yet" that stayed."""
    model = mlp()
    nn.init.constant_(model[2].weight, -999.0)
    return model


def huge_norm() -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8))
    nn.init.constant_(model[1].weight, 1e30)
    return model


def all_zeros() -> nn.Module:
    """Every parameter set to 0, as logistic regression allows and a network does not."""
    model = mlp()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return model


def zero_before_relu() -> nn.Module:
    model = mlp()
    nn.init.zeros_(model[2].weight)
    nn.init.zeros_(model[2].bias)
    return model


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.second = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.norm(self.first(x)).relu())


def zero_in_a_block() -> nn.Module:
    """The wrong one of two: not the branch's last layer but its first is zero."""
    torch.manual_seed(0)
    model = nn.Sequential(Block(32), Block(32), nn.Linear(32, 10))
    nn.init.zeros_(model[0].first.weight)
    return model


def ones() -> nn.Module:
    """`nn.init.ones_` on every parameter, as for norms."""
    model = mlp()
    nn.init.ones_(model[2].weight)
    return model


def constant_gate() -> nn.Module:
    model = nn.LSTM(32, 32)
    with torch.no_grad():
        model.weight_ih_l0[32:64].fill_(0.1)
    return model


def constant_filters() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3))
    nn.init.constant_(model[2].weight, 0.01)
    return model


def encoder() -> nn.Module:
    """Pain 11: `nn.TransformerEncoder` copies the layer that it is given."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    return nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)


def copied_layers() -> nn.Module:
    """Pain 11: a list of deep copies."""
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 64))
    return nn.ModuleList(copy.deepcopy(layer) for _ in range(6))


def seeded_twice() -> nn.Module:
    """The seed is set before every layer."""
    layers = []
    for _ in range(3):
        torch.manual_seed(42)
        layers += [nn.Linear(48, 48), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(48, 2))


def repeated_filters() -> nn.Module:
    """16 filters, and each of them four times: a widened layer."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 8, 1))
    with torch.no_grad():
        model[0].weight.copy_(model[0].weight[:16].repeat(4, 1, 1, 1))
    return model


def broadcast_rows() -> nn.Module:
    """One row that was broadcast over the layer."""
    model = mlp()
    with torch.no_grad():
        model[2].weight.copy_(torch.randn(64))
    return model


def thin_product() -> nn.Module:
    """A weight merged from factors of rank 4, without what they were added to."""
    model = mlp()
    with torch.no_grad():
        model[2].weight.copy_(torch.randn(64, 4) @ torch.randn(4, 64) / 16)
    return model


def outer_product() -> nn.Module:
    torch.manual_seed(0)
    model = nn.MultiheadAttention(64, 4)
    with torch.no_grad():
        model.out_proj.weight.copy_(torch.outer(torch.randn(64), torch.randn(64)))
    return model


def on_meta() -> nn.Module:
    """Half of a model that was built on the meta device and never materialised."""
    return nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8, device="meta"))


def lazy() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls lazy modules new
        return nn.Sequential(nn.Linear(8, 8), nn.LazyLinear(4))


def zero_variance() -> nn.Module:
    """Pain 2: `to_empty` over running statistics, on memory of zeros."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    model[1].running_var.zero_()
    return model


def negative_variance() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    model[1].running_var.normal_(generator=torch.Generator().manual_seed(0))
    return model


def garbage_frequencies() -> nn.Module:
    """Pain 2: rotary frequencies that are in no checkpoint and did not come back."""
    model = nn.Sequential(nn.Linear(8, 8))
    frequencies = torch.tensor([0x7F4552CE7E80, 0x55D0A3B4C7F0]).view(torch.float32)
    model.register_buffer("inv_freq", frequencies.clone(), persistent=False)
    return model


def hooked(build: Callable[[nn.Module], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older functions are deprecated, and in use
        return nn.Sequential(build(nn.Conv1d(8, 8, 3)), nn.Tanh(), nn.Conv1d(8, 2, 3))


def written_past_weight_norm() -> nn.Module:
    """Pain 10: `nn.init` on the attribute that a hook sets."""
    model = hooked(nn.utils.weight_norm)
    nn.init.normal_(model[0].weight, std=0.5)
    return model


def data_past_weight_norm() -> nn.Module:
    """Pain 10 (hifi-gan 145): `m.weight.data.normal_(0.0, 0.01)`."""
    model = hooked(nn.utils.weight_norm)
    model[0].weight.data.normal_(0.0, 0.01)
    return model


def written_past_spectral_norm() -> nn.Module:
    model = hooked(nn.utils.spectral_norm)
    model(torch.randn(1, 8, 9))
    nn.init.normal_(model[0].weight, std=0.02)
    return model


def original_of_spectral_norm() -> nn.Module:
    """The original is drawn anew, and the singular vectors are those of the old one."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(64, 64)))
    nn.init.orthogonal_(model[0].parametrizations.weight.original)
    return model


VALUE_FAULTS = (
    Fault("FAN101", "one NaN", not_a_number, "2.weight"),
    Fault("FAN101", "infinite in float16", infinite_in_half, "0.weight"),
    Fault("FAN102", "pointers", pointers, "0.bias"),
    Fault("FAN102", "integers", integers, "2.weight"),
    Fault("FAN102", "random bytes", raw_bytes, "2.weight"),
    Fault("FAN102", "text", text_bytes, "0.weight"),
    Fault("FAN102", "float64 read as float32", doubles, "0.weight"),
    Fault("FAN102", "placeholder", placeholder, "2.weight"),
    Fault("FAN102", "a norm of 1e30", huge_norm, "1.weight"),
    Fault("FAN103", "all zeros", all_zeros, "0.weight"),
    Fault("FAN103", "zeros before a rectifier", zero_before_relu, "2.weight"),
    Fault("FAN103", "zeros first in a branch", zero_in_a_block, "0.first.weight"),
    Fault("FAN104", "ones", ones, "2.weight"),
    Fault("FAN104", "a constant gate", constant_gate, "weight_ih_l0[f]"),
    Fault("FAN104", "constant filters", constant_filters, "2.weight"),
    Fault("FAN105", "transformer encoder", encoder, "layers.0"),
    Fault("FAN105", "deep copies", copied_layers, "0"),
    Fault("FAN105", "one seed for every layer", seeded_twice, "0"),
    Fault("FAN106", "repeated filters", repeated_filters, "0.weight"),
    Fault("FAN106", "one row for all", broadcast_rows, "2.weight"),
    Fault("FAN107", "product of thin factors", thin_product, "2.weight"),
    Fault("FAN107", "outer product", outer_product, "out_proj.weight"),
    Fault("FAN108", "meta", on_meta, "1.weight"),
    Fault("FAN108", "lazy", lazy, "1.weight"),
    Fault("FAN109", "variance of 0", zero_variance, "1.running_var"),
    Fault("FAN109", "negative variance", negative_variance, "1.running_var"),
    Fault("FAN109", "rotary frequencies", garbage_frequencies, "inv_freq"),
    Fault("FAN110", "weight_norm, nn.init", written_past_weight_norm, "0.weight"),
    Fault("FAN110", "weight_norm, .data", data_past_weight_norm, "0.weight"),
    Fault("FAN110", "spectral_norm after a pass", written_past_spectral_norm, "0.weight"),
    Fault("FAN110", "original of spectral_norm", original_of_spectral_norm, "0.weight"),
)
