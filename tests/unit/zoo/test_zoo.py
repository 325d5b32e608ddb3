from __future__ import annotations

import pytest
import torch
from torch import nn

from fanin.zoo import MODELS, alexnet, choices, lenet, linears, mlp


def test_lenet_maps_digits_to_scores() -> None:
    assert lenet()(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_alexnet_has_the_published_shapes() -> None:
    with torch.device("meta"):
        model = alexnet()
    assert sum(p.numel() for p in model.parameters()) == 61_100_840
    assert model(torch.zeros(1, 3, 224, 224, device="meta")).shape == (1, 1000)


def test_mlp_has_depth_width_and_activation() -> None:
    model = mlp(depth=4, width=7, activation="gelu", in_features=3, out_features=2)
    linear = [layer for layer in model if isinstance(layer, nn.Linear)]
    assert [layer.in_features for layer in linear] == [3, 7, 7, 7]
    assert linear[-1].out_features == 2
    assert sum(isinstance(layer, nn.GELU) for layer in model) == 3


@pytest.mark.parametrize("activation", ["none", "None", None])
def test_mlp_can_be_linear_throughout(activation: str | None) -> None:
    model = mlp(depth=3, width=4, activation=activation)
    assert [type(layer) for layer in model] == [nn.Linear] * 3


@pytest.mark.parametrize("activation", ["reluu", "threshold", ""])
def test_mlp_refuses_an_unknown_activation(activation: str) -> None:
    with pytest.raises(ValueError, match="name of a class in"):
        mlp(activation=activation)


def test_mlp_refuses_no_layers() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        mlp(depth=0)


def test_linears_are_a_list_of_twenty() -> None:
    model = linears()
    assert len(model.linears) == 20
    assert model(torch.zeros(3, 10)).shape == (3, 10)


@pytest.mark.parametrize(
    ("choice", "activation"), [("conv", "prelu"), ("pool", "leaky"), ("pool", "prelu")]
)
def test_choices_are_taken_by_name(choice: str, activation: str) -> None:
    images = torch.zeros(1, 10, 9, 9)
    assert choices()(images, choice=choice, activation=activation).shape[:2] == (1, 10)


def test_every_model_is_listed_by_its_name() -> None:
    assert all(build.__name__ == name for name, build in MODELS.items())
