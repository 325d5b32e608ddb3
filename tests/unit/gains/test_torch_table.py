"""torch's own table of gains."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch.nn.functional as F
from torch import nn

from fanin.errors import ArgumentError
from fanin.gains import calculate_gain, gain


@pytest.mark.parametrize("param", [None, 0, 1, 0.2, -3.5, np.float64(0.3)])
@pytest.mark.parametrize(
    "name",
    [
        *("linear", "conv1d", "conv2d", "conv3d"),
        *("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
        *("sigmoid", "tanh", "relu", "leaky_relu", "selu"),
    ],
)
def test_calculate_gain_is_torchs(name: str, param: float | None) -> None:
    ours, theirs = calculate_gain(name, param), nn.init.calculate_gain(name, param)
    assert ours == theirs
    assert type(ours) is type(theirs)
    assert gain(name, param, method="table") == theirs


@pytest.mark.parametrize(
    ("name", "param", "message"),
    [
        ("gelu", None, "Unsupported nonlinearity gelu"),
        ("ReLU", None, "Unsupported nonlinearity ReLU"),
        (["relu"], None, "Unsupported nonlinearity"),
        (None, None, "Unsupported nonlinearity None"),
        ("leaky_relu", "a", "negative_slope a not a valid number"),
        ("leaky_relu", True, "negative_slope True not a valid number"),
        ("leaky_relu", (0.1,), "not a valid number"),
    ],
)
def test_calculate_gain_refuses_what_torch_refuses(name: str, param: object, message: str) -> None:
    for function in (nn.init.calculate_gain, calculate_gain):
        with pytest.raises(ValueError, match=message):
            function(name, param)


@pytest.mark.parametrize("scalar", [np.float32, np.float16, np.int64, np.uint8])
def test_calculate_gain_takes_numpy_slopes(scalar: type[np.number]) -> None:
    assert calculate_gain("leaky_relu", scalar(1)) == 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gain("relu", of="backward", method="table"), "Got of='backward'"),
        (lambda: gain(F.relu, method="table"), "torch's table has one gain"),
        (lambda: gain("leaky_relu", (0.1, 0.2), method="table"), "takes one number"),
        (lambda: gain("gelu", method="table"), "Unsupported nonlinearity gelu"),
    ],
)
def test_what_the_table_does_not_hold(call: Callable[[], float], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        call()
