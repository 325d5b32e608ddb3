"""Module types that recipes treat alike, and the rules that most recipes share."""

from __future__ import annotations

import math

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from fanin.fills import derived
from fanin.initializers import Initializer, constant, normal, ones, zeros
from fanin.model import Site
from fanin.planning import Rule, rule

__all__ = [
    "ATTENTION_OUTPUT",
    "CONVOLUTION",
    "EMBEDDING",
    "NORM",
    "RECURRENT",
    "attention_token",
    "common_rules",
    "norm_rules",
]

CONVOLUTION = (_ConvNd,)
EMBEDDING = (nn.Embedding, nn.EmbeddingBag)
NORM = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
RECURRENT = (nn.RNNBase, nn.RNNCellBase)
# The type that `nn.MultiheadAttention` uses for its output projection, and nothing else does.
ATTENTION_OUTPUT = NonDynamicallyQuantizableLinear


def common_rules() -> tuple[Rule, ...]:
    """What has no fans: scales start at one, biases at zero, lookups at N(0, 1), PReLU at 1/4."""
    return (
        *norm_rules(),
        rule(nn.PReLU, constant(0.25), parameter="weight", label="PReLU slope"),
        rule(EMBEDDING, normal(mean=0.0, std=1.0), parameter="weight", label="embedding"),
        rule((nn.Linear, nn.Bilinear), zeros(), parameter="bias", label="linear bias"),
        rule(CONVOLUTION, zeros(), parameter="bias", label="conv bias"),
        rule(RECURRENT, zeros(), parameter="bias_*", label="recurrent bias"),
        rule(nn.MultiheadAttention, zeros(), parameter="in_proj_bias", label="attention bias"),
        rule(
            nn.MultiheadAttention, attention_token, parameter="bias_[kv]", label="attention token"
        ),
    )


def norm_rules() -> tuple[Rule, ...]:
    """The identity, with the running statistics of data that is normal already."""
    return (
        rule(NORM, ones(), parameter="weight", label="norm weight"),
        rule(NORM, zeros(), parameter="bias", label="norm bias"),
        rule(_NormBase, zeros(), parameter="running_mean", label="running mean"),
        rule(_NormBase, ones(), parameter="running_var", label="running variance"),
        rule(_NormBase, zeros(), parameter="num_batches_tracked", label="batches tracked"),
    )


def attention_token(site: Site) -> Initializer:
    """The learned key and value of `nn.MultiheadAttention`: N(0, 1/E), as torch's xavier gives."""
    return normal(mean=0.0, std=derived(1 / math.sqrt(site.tensor.shape[-1])))
