"""Module types that recipes treat alike, and the rules that most recipes share.

transformers itself is not imported: its classes are known by name.
"""

from __future__ import annotations

import math

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from fanin.fills import derived
from fanin.initializers import Initializer, constant, normal, ones, zeros
from fanin.model import Site, module_type
from fanin.planning import Match, Rule, rule

__all__ = [
    "ADDS_ONE",
    "ATTENTION_OUTPUT",
    "CONVOLUTION",
    "EMBEDDING",
    "LINEAR",
    "NORM",
    "RECURRENT",
    "adds_one",
    "attention_token",
    "common_rules",
    "is_norm",
    "norm_rules",
]

CONVOLUTION = (_ConvNd,)
EMBEDDING = (nn.Embedding, nn.EmbeddingBag)
# `Conv1D` is the linear layer of GPT-2 in transformers, whose weight is (in, out).
LINEAR = (nn.Linear, nn.Bilinear, "Conv1D")
# By name too, since most norms of transformers are classes of their own: `LlamaRMSNorm`.
NORM = (_NormBase, nn.GroupNorm, "*LayerNorm", "*RMSNorm", "*RMSNormGated")
# Norms of transformers 5.23 that scale by one more than their weight, which starts at zero.
ADDS_ONE = frozenset(
    {
        "Gemma2RMSNorm",
        "Gemma3RMSNorm",
        "GemmaRMSNorm",
        "MiniMaxM3VLRMSNorm",
        "MuseGlimmerTextCenteredRMSNorm",
        "MuseSparkTextCenteredRMSNorm",
        "MuseSparkTextInputScaledRMSNorm",
        "Qwen3NextRMSNorm",
        "Qwen3_5MoeRMSNorm",
        "Qwen3_5RMSNorm",
        "Qwen4ExpTextRMSNorm",
        "RecurrentGemmaRMSNorm",
        "Step3p7RMSNorm",
        "T5Gemma2RMSNorm",
        "T5GemmaRMSNorm",
        "VaultGemmaRMSNorm",
        "VideoPrismLayerNorm",
    }
)
RECURRENT = (nn.RNNBase, nn.RNNCellBase)
# The type that `nn.MultiheadAttention` uses for its output projection, and nothing else does.
ATTENTION_OUTPUT = NonDynamicallyQuantizableLinear


def common_rules() -> tuple[Rule, ...]:
    """What has no fans: scales start at one, biases at zero, lookups at N(0, 1), PReLU at 1/4."""
    return (
        *norm_rules(),
        rule(nn.PReLU, constant(0.25), parameter="weight", label="PReLU slope"),
        rule(EMBEDDING, normal(mean=0.0, std=1.0), parameter="weight", label="embedding"),
        rule(LINEAR, zeros(), parameter="bias", label="linear bias"),
        rule(CONVOLUTION, zeros(), parameter="bias", label="conv bias"),
        rule(RECURRENT, zeros(), parameter="bias_*", label="recurrent bias"),
        rule(nn.MultiheadAttention, zeros(), parameter="in_proj_bias", label="attention bias"),
        rule(
            nn.MultiheadAttention, attention_token, parameter="bias_[kv]", label="attention token"
        ),
    )


def is_norm(module: nn.Module) -> bool:
    """Whether a module is one of `NORM`, by type or by name."""
    return Match(types=NORM).fits_kind(module_type(module), "weight")


def norm_rules() -> tuple[Rule, ...]:
    """The identity, with the running statistics of data that is normal already."""
    return (
        rule(NORM, identity_scale, parameter="weight", label="norm weight"),
        rule(NORM, zeros(), parameter="bias", label="norm bias"),
        rule(_NormBase, zeros(), parameter="running_mean", label="running mean"),
        rule(_NormBase, ones(), parameter="running_var", label="running variance"),
        rule(_NormBase, zeros(), parameter="num_batches_tracked", label="batches tracked"),
    )


def identity_scale(site: Site) -> Initializer:
    """The weight with which a norm scales by one."""
    return zeros() if adds_one(site.module) else ones()


def adds_one(module: nn.Module) -> bool:
    """Whether a norm scales by one more than its weight."""
    return any(base.__name__ in ADDS_ONE for base in module_type(module).__mro__)


def attention_token(site: Site) -> Initializer:
    """The learned key and value of `nn.MultiheadAttention`: N(0, 1/E), as torch's xavier gives."""
    return normal(mean=0.0, std=derived(1 / math.sqrt(site.tensor.shape[-1])))
