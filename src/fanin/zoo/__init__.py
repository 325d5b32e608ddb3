"""Small models for examples, tests and benchmarks. Each is a plain file that needs only torch."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from fanin.zoo.alexnet import AlexNet, alexnet
from fanin.zoo.choices import Choices, choices
from fanin.zoo.dcgan import DCGAN, dcgan
from fanin.zoo.lenet import lenet
from fanin.zoo.linears import Linears, linears
from fanin.zoo.mlp import mlp
from fanin.zoo.resnet import ResNet, resnet

__all__ = [
    "DCGAN",
    "MODELS",
    "AlexNet",
    "Choices",
    "Linears",
    "ResNet",
    "alexnet",
    "choices",
    "dcgan",
    "lenet",
    "linears",
    "mlp",
    "resnet",
]

MODELS: dict[str, Callable[..., nn.Module]] = {
    "alexnet": alexnet,
    "choices": choices,
    "dcgan": dcgan,
    "lenet": lenet,
    "linears": linears,
    "mlp": mlp,
    "resnet": resnet,
}
