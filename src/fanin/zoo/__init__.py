"""Small models for examples, tests and benchmarks. Each is a plain file that needs only torch."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from fanin.zoo.alexnet import AlexNet, alexnet
from fanin.zoo.choices import Choices, choices
from fanin.zoo.lenet import lenet
from fanin.zoo.linears import Linears, linears
from fanin.zoo.mlp import mlp

__all__ = [
    "MODELS",
    "AlexNet",
    "Choices",
    "Linears",
    "alexnet",
    "choices",
    "lenet",
    "linears",
    "mlp",
]

MODELS: dict[str, Callable[..., nn.Module]] = {
    "alexnet": alexnet,
    "choices": choices,
    "lenet": lenet,
    "linears": linears,
    "mlp": mlp,
}
