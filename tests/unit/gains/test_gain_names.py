"""Names, modules and parameters: what is accepted, and what is refused with its reason."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fanin.errors import ArgumentError, UnknownNameError
from fanin.gains import calculate_gain, gain


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("LeakyReLU", "leaky_relu"),
        ("LogSigmoid", "logsigmoid"),
        ("ConvTranspose2d", "conv_transpose2d"),
        ("SWISH", "silu"),
        ("gelu-pytorch-tanh", "gelu_tanh"),
        ("Hardswish", "hardswish"),
    ],
)
def test_spellings(spelling: str, name: str) -> None:
    assert gain(spelling) == gain(name)


@pytest.mark.parametrize(
    ("module", "name", "param"),
    [
        (nn.LeakyReLU(0.2), "leaky_relu", 0.2),
        (nn.PReLU(init=0.5), "prelu", 0.5),
        (nn.GELU(approximate="tanh"), "gelu_tanh", None),
        (nn.GELU(), "gelu", None),
        (nn.ELU(1.5), "elu", 1.5),
        (nn.Hardtanh(-0.5, 2.0), "hardtanh", (-0.5, 2.0)),
        (nn.RReLU(), "rrelu", None),
        (nn.ReLU(inplace=True), "relu", None),
        (nn.Softplus(beta=2.0), "softplus", 2.0),
        (functools.partial(F.leaky_relu, negative_slope=0.2), "leaky_relu", 0.2),
        (torch.tanh, "tanh", None),
    ],
)
@pytest.mark.parametrize("of", ["second_moment", "variance", "backward"])
def test_modules_and_callables_agree_with_names(
    module: Callable[[Tensor], Tensor], name: str, param: object, of: str
) -> None:
    assert gain(module, of=of) == pytest.approx(gain(name, param, of=of), rel=1e-12)


def test_a_function_that_casts_to_float32_keeps_its_seven_digits() -> None:
    assert gain(lambda x: torch.tanh(x.float())) == pytest.approx(gain("tanh"), rel=1e-6)


def test_numpy_scalars_are_parameters() -> None:
    slope = np.float32(0.5)
    assert gain("leaky_relu", slope) == gain("leaky_relu", 0.5)
    assert gain("leaky_relu", slope, method="table") == calculate_gain("leaky_relu", 0.5)


@pytest.mark.parametrize(
    ("name", "param", "message"),
    [
        ("relu", 0.1, r"gain of relu: it takes no parameter\. Got 0\.1 for param"),
        ("threshold", None, r"param is threshold and value, a pair .* Got None"),
        ("hardtanh", 1.0, r"a pair of finite numbers\. Got 1\.0 for param"),
        ("leaky_relu", "0.2", r"negative_slope, a finite number\. Got '0\.2'"),
        ("elu", math.nan, r"alpha, a finite number\. Got nan"),
        ("elu", True, r"alpha, a finite number\. Got True"),
        ("celu", 0.0, r"gain of celu\(alpha=0\).*alpha cannot be 0"),
        (F.relu, 0.1, r"a callable carries its own parameters\. Got 0\.1"),
    ],
)
def test_wrong_parameters(name: str, param: object, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        gain(name, param)


def test_an_unknown_name_is_told_its_neighbours() -> None:
    with pytest.raises(UnknownNameError, match=r"Got 'gelo' for nonlinearity\. Did you mean gelu"):
        gain("gelo")
    with pytest.raises(UnknownNameError, match=r"Got 'derivative' for of\. .*backward"):
        gain("relu", of="derivative")
    with pytest.raises(UnknownNameError, match=r"Got 'tables' for method\. Did you mean table"):
        gain("relu", method="tables")


@pytest.mark.parametrize(
    ("nonlinearity", "message"),
    [
        ("glu", "gate; use 'sigmoid'"),
        ("GEGLU", "use 'gelu'"),
        ("SwiGLU", "use 'silu'"),
        (nn.GLU(), "use 'sigmoid'"),
        ("softmax", "its outputs share one sum"),
        ("LogSoftmax", "its outputs share one sum"),
        (nn.Softmin(dim=-1), "its outputs share one sum"),
        (F.log_softmax, "its outputs share one sum"),
        ("dropout", "random"),
        (nn.Dropout2d(), "random"),
        (F.alpha_dropout, "random"),
        (nn.LayerNorm(8), "sets the scale"),
        (nn.MaxPool2d(2), "mixes neighbours"),
        (nn.ReLU, r"Got the class ReLU .* Write ReLU\(\)"),
        (5, "Got 5 for nonlinearity"),
        (nn.Linear(3, 3), r"gain of Linear: it must map a float64 vector.*cannot be multiplied"),
        (nn.PReLU(3), r"gain of PReLU: .*Mismatch of parameter numbers"),
        (nn.PReLU(device="meta"), "one on the meta device"),
        (lambda x: F.softmax(x, dim=-1), "must depend on its own input alone"),
        (lambda x: x.cumsum(0), "must depend on its own input alone"),
        (lambda x: x.sort().values, "must depend on its own input alone"),
        (lambda x: x.roll(1), "must depend on its own input alone"),
        (lambda x: x - x.mean(), "must depend on its own input alone"),
        (lambda x: x / x.abs().max(), "must depend on its own input alone"),
        (lambda x: x * torch.arange(len(x)), "must depend on its own input alone"),
        (lambda x: F.dropout(x), "the same on every call"),
        (lambda x: x.sum(), r"a real tensor of its input's shape \(64,\)\. Got .*shape \(\)"),
        (lambda x: x + 0j, "Got torch.complex128"),
        (lambda x: (x,), "Got <class 'tuple'>"),
        (torch.log, r"its value must be finite .* Got nan at z = -3\.1"),
        (lambda x: 1 / (x > 0), "Got inf at z = -3.1"),
        (lambda x: 1 / x, "does not settle around z = "),
        (lambda x: torch.exp(x * x / 4), "grows too fast"),
        (lambda x: torch.exp(x**2), "grows too fast"),
        (lambda x: 0 * x, "zero wherever a normal number may fall"),
    ],
)
def test_refusals(nonlinearity: object, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        gain(nonlinearity)


class _NoBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.tanh()


@pytest.mark.parametrize(
    ("nonlinearity", "message"),
    [
        (lambda x: x.detach(), "cut off from its input"),
        (lambda x: (x > 0).double(), "cut off from its input"),
        (_NoBackward.apply, "NotImplementedError.*give it a backward"),
        (torch.sign, "flat wherever"),
        (lambda x: x.abs().sqrt(), "does not settle"),
        (lambda x: torch.where(x > 0, x.sqrt(), 0.0), "its slope must be finite .* Got nan"),
    ],
)
def test_backward_refusals(nonlinearity: Callable[[Tensor], Tensor], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        gain(nonlinearity, of="backward")


def test_a_constant_has_a_second_moment_but_no_variance() -> None:
    assert gain(lambda x: 0 * x + 3.3) == pytest.approx(1 / 3.3)
    with pytest.raises(ArgumentError, match="constant wherever"):
        gain(lambda x: 0 * x + 3.3, of="variance")
