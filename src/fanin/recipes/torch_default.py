"""What torch's own constructors do, module by module, with torch's own idea of a fan."""

from __future__ import annotations

import math

from torch import nn
from torch.nn.modules.conv import _ConvNd

from fanin.fills import derived
from fanin.initializers import Initializer, constant, normal, uniform, zeros
from fanin.model import Site
from fanin.planning import Recipe, rule
from fanin.recipes.families import (
    ATTENTION_OUTPUT,
    CONVOLUTION,
    EMBEDDING,
    RECURRENT,
    attention_token,
    norm_rules,
)

__all__ = ["torch_default"]


def torch_default() -> Recipe:
    """The distributions that torch's own constructors draw from, of every module of `torch.nn`.

    ``U(±1/sqrt(fan_in))`` for linear and convolution layers, with which the second moment of what
    flows forward falls to a third in each layer, or to a sixth where a ReLU follows.

    Example:
        >>> import fanin
        >>> fanin.plan(nn.Linear(4, 2), torch_default(), seed=0).steps[0].fill
        Uniform(low=-0.5, high=0.5)

    Source: the `reset_parameters` of each module in torch 2.13, and `nn.Transformer`, which goes
    over all its matrices once more.
    """
    return Recipe(
        "torch_default",
        1,
        (
            *norm_rules(),
            rule(_LINEAR_OR_CONV, fan_in_bound, parameter="weight", label="linear, conv weight"),
            rule(_LINEAR_OR_CONV, fan_in_bound, parameter="bias", label="linear, conv bias"),
            rule(nn.Bilinear, first_input_bound, label="bilinear"),
            rule(EMBEDDING, normal(mean=0.0, std=1.0), parameter="weight", label="embedding"),
            rule(nn.PReLU, prelu_slope, parameter="weight", label="PReLU slope"),
            rule(RECURRENT, hidden_bound, label="recurrent"),
            rule(_ATTENTION, xavier_bound, parameter="*_weight", label="attention weight"),
            rule(_ATTENTION, zeros(), parameter="in_proj_bias", label="attention bias"),
            rule(_ATTENTION, attention_token, parameter="bias_[kv]", label="attention token"),
            rule(ATTENTION_OUTPUT, zeros(), parameter="bias", label="attention output bias"),
            rule(is_matrix, xavier_bound, within=nn.Transformer, label="transformer weight"),
        ),
        summary="what torch's constructors do, module by module",
    )


_LINEAR_OR_CONV = (nn.Linear, *CONVOLUTION)
_ATTENTION = nn.MultiheadAttention


def fan_in_bound(site: Site) -> Initializer:
    """U(±1/sqrt(fan_in)): what ``kaiming_uniform_(a=sqrt(5))`` comes to, and the bias beside it."""
    fan_in = _terms(site.module)
    return _within(1 / math.sqrt(fan_in) if fan_in else 0.0)


def first_input_bound(site: Site) -> Initializer:
    """U(±1/sqrt(in1_features)), of `nn.Bilinear`."""
    assert isinstance(site.module, nn.Bilinear)
    return _within(1 / math.sqrt(site.module.in1_features))


def hidden_bound(site: Site) -> Initializer:
    """U(±1/sqrt(hidden_size)), of every recurrent weight and bias."""
    assert isinstance(site.module, RECURRENT)
    hidden = site.module.hidden_size
    return _within(1 / math.sqrt(hidden) if hidden else 0.0)


def xavier_bound(site: Site) -> Initializer:
    """``xavier_uniform_``, with a packed (3E, E) projection counted as one matrix."""
    shape = site.tensor.shape
    return _within(math.sqrt(6 / ((shape[0] + shape[1]) * shape[2:].numel())))


def prelu_slope(site: Site) -> Initializer:
    """The slope that the module was made with, 1/4 by default."""
    assert isinstance(site.module, nn.PReLU)
    return constant(site.module.init)


def is_matrix(site: Site) -> bool:
    """Whether the parameter has two dims or more."""
    return site.tensor.dim() > 1


def _terms(module: nn.Module) -> int:
    """torch's fan_in, of dim 1: for a transposed convolution, of its outputs."""
    if isinstance(module, _ConvNd):
        channels = module.out_channels if module.transposed else module.in_channels
        return channels // module.groups * math.prod(module.kernel_size)
    assert isinstance(module, nn.Linear)
    return module.in_features


def _within(bound: float) -> Initializer:
    return uniform(low=-derived(bound), high=derived(bound))
