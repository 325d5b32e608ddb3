"""What recipes of transformers models share: numbers from the config, and the base class's rules.

transformers itself is not imported: its classes are known by name, its configs by attribute.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from fanin.errors import ArgumentError
from fanin.initializers import Initializer, normal, ones, zeros
from fanin.initializers.initializer import check_numbers
from fanin.model import Site
from fanin.planning import Rule, rule
from fanin.recipes.families import CONVOLUTION, EMBEDDING

__all__ = ["MATRIX", "NORMS", "base_rules", "check_positive", "from_config", "std_of"]

# What multiplies its input by a matrix; `Conv1D` is the transposed linear layer of transformers.
MATRIX = (nn.Linear, nn.Bilinear, *CONVOLUTION, "Conv1D")
# By name, since most norms of transformers are classes of their own: LlamaRMSNorm, T5LayerNorm.
NORMS = ("*LayerNorm", "*RMSNorm", "GroupNorm", "_NormBase")


def base_rules(std: float | None) -> tuple[Rule, ...]:
    """Matrices and lookups N(0, std²), norms one, biases zero: a model without exceptions.

    Source: transformers 5.23, `PreTrainedModel._init_weights`; `nn.MultiheadAttention`, which none
    of its models here holds, counts as the matrices that it packs.
    """

    def normal_in_range(site: Site) -> Initializer:
        return normal(std=std_of(site, std))

    attention = nn.MultiheadAttention
    return (
        rule(MATRIX, normal_in_range, parameter="weight", label="matrix"),
        rule(MATRIX, zeros(), parameter="bias", label="bias"),
        rule(attention, normal_in_range, parameter="*_weight", label="attention weight"),
        rule(attention, zeros(), parameter="in_proj_bias", label="attention bias"),
        rule(attention, normal_in_range, parameter="bias_[kv]", label="attention token"),
        rule(EMBEDDING, normal_in_range, parameter="weight", label="embedding"),
        rule(NORMS, ones(), parameter="weight", label="norm weight"),
        rule(NORMS, zeros(), parameter="bias", label="norm bias"),
    )


def std_of(site: Site, std: float | None) -> float:
    """The std that was asked for, else the config's, else 0.02; a config's 0 counts as absent."""
    if std is not None:
        return std
    return float(from_config(site, "initializer_range", "init_std") or 0.02)


def from_config(site: Site, *names: str) -> Any:
    """The first of these names that the nearest config around a parameter states, or None."""
    for module in reversed(site.parents):
        config = getattr(module, "config", None)
        for name in names:
            value = getattr(config, name, None)
            if value is not None:
                return value
    return None


def check_positive(recipe: str, **options: float | None) -> None:
    """Refuse an option that is given and not a positive number."""
    given = {name: value for name, value in options.items() if value is not None}
    check_numbers(recipe, **given)
    for name, value in given.items():
        if value <= 0:
            raise ArgumentError(
                f"{recipe}: {name} is positive. Got {value!r}. Leave it out to take the config's."
            )
