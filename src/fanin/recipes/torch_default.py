"""What torch's own constructors do, module by module, with torch's own idea of a fan."""

from __future__ import annotations

import math

import torch
from torch import nn

from fanin.fills import derived
from fanin.initializers import Initializer, constant, normal, ones, uniform, zeros
from fanin.model import Site
from fanin.planning import Recipe, rule
from fanin.recipes.families import (
    ATTENTION_OUTPUT,
    CONVOLUTION,
    EMBEDDING,
    NORM,
    RECURRENT,
    attention_token,
)

__all__ = ["torch_default"]


def fan_in_bound(site: Site) -> Initializer:
    """U(±1/sqrt(fan_in)): what ``kaiming_uniform_(a=sqrt(5))`` comes to, and the bias beside it."""
    weight = site.module.get_parameter("weight")
    fan_in, _ = _fans(weight.shape)
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
    fan_in, fan_out = _fans(site.tensor.shape)
    return _within(math.sqrt(6 / (fan_in + fan_out)))


def prelu_slope(site: Site) -> Initializer:
    """The slope that the module was made with, 1/4 by default."""
    assert isinstance(site.module, nn.PReLU)
    return constant(site.module.init)


def is_matrix(site: Site) -> bool:
    """Whether the parameter has two dims or more."""
    return site.tensor.dim() > 1


def _fans(shape: torch.Size) -> tuple[int, int]:
    """torch's fans, from the shape alone: the wrong way round for a transposed convolution."""
    kernel = shape[2:].numel()
    return shape[1] * kernel, shape[0] * kernel


def _within(bound: float) -> Initializer:
    return uniform(low=-derived(bound), high=derived(bound))


_LINEAR_OR_CONV = (nn.Linear, *CONVOLUTION)

# Source: the `reset_parameters` of each module in torch 2.13, and `nn.Transformer`, which goes over
# all its matrices once more.
torch_default = Recipe(
    "torch_default",
    1,
    (
        rule(_LINEAR_OR_CONV, fan_in_bound, parameter="weight", label="linear, conv weight"),
        rule(_LINEAR_OR_CONV, fan_in_bound, parameter="bias", label="linear, conv bias"),
        rule(nn.Bilinear, first_input_bound, label="bilinear"),
        rule(EMBEDDING, normal(mean=0.0, std=1.0), parameter="weight", label="embedding"),
        rule(NORM, ones(), parameter="weight", label="norm weight"),
        rule(NORM, zeros(), parameter="bias", label="norm bias"),
        rule(nn.PReLU, prelu_slope, parameter="weight", label="PReLU slope"),
        rule(RECURRENT, hidden_bound, label="recurrent"),
        rule(nn.MultiheadAttention, xavier_bound, parameter="*_weight", label="attention weight"),
        rule(nn.MultiheadAttention, zeros(), parameter="in_proj_bias", label="attention bias"),
        rule(
            nn.MultiheadAttention, attention_token, parameter="bias_[kv]", label="attention token"
        ),
        rule(ATTENTION_OUTPUT, zeros(), parameter="bias", label="attention output bias"),
        rule(is_matrix, xavier_bound, within=nn.Transformer, label="transformer weight"),
    ),
    summary="what torch's constructors do, module by module",
)
