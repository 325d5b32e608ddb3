"""What recipes of transformers models share: numbers from the config, and the base class's rules.

transformers itself is not imported: its configs are read by attribute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from fanin.errors import ArgumentError
from fanin.initializers import Initializer, normal, zeros
from fanin.initializers.initializer import check_numbers
from fanin.model import Site
from fanin.planning import Rule, rule
from fanin.recipes.families import CONVOLUTION, EMBEDDING, LINEAR, norm_rules

__all__ = ["base_rules", "check_positive", "from_config", "std_of"]

_MATRIX = (*LINEAR, *CONVOLUTION)


def base_rules(std: float | None) -> tuple[Rule, ...]:
    """Matrices and lookups N(0, std²), norms the identity, biases zero: without exceptions.

    Source: transformers 5.23, `PreTrainedModel._init_weights`; `nn.MultiheadAttention`, which none
    of its models here holds, counts as the matrices that it packs.
    """
    attention, in_range = nn.MultiheadAttention, NormalInRange(std)
    return (
        *norm_rules(),
        rule(_MATRIX, in_range, parameter="weight", label="matrix"),
        rule(_MATRIX, zeros(), parameter="bias", label="bias"),
        rule(attention, in_range, parameter="*_weight", label="attention weight"),
        rule(attention, zeros(), parameter="in_proj_bias", label="attention bias"),
        rule(attention, in_range, parameter="bias_[kv]", label="attention token"),
        rule(EMBEDDING, in_range, parameter="weight", label="embedding"),
    )


@dataclass(frozen=True, slots=True)
class NormalInRange:
    """N(0, std²), by `std_of`."""

    std: float | None

    def __call__(self, site: Site) -> Initializer:
        return normal(std=std_of(site, self.std))


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
