"""Glorot initialization: a compromise between keeping variance forward and backward."""

from __future__ import annotations

from torch import nn

from fanin.initializers import xavier_uniform
from fanin.planning import Recipe, rule
from fanin.recipes.families import CONVOLUTION, RECURRENT, common_rules

__all__ = ["xavier"]

# Uniform with std = sqrt(2 / (fan_in + fan_out)) for every weight that has fans; biases are zero.
# The fans are the module's own: groups, and the parts of packed weights, count.
# Source: Glorot and Bengio 2010, eq. 16.
xavier = Recipe(
    "xavier",
    1,
    (
        *common_rules(),
        rule((nn.Linear, nn.Bilinear), xavier_uniform(), parameter="weight", label="linear weight"),
        rule(CONVOLUTION, xavier_uniform(), parameter="weight", label="conv weight"),
        rule(RECURRENT, xavier_uniform(), parameter="weight_*", label="recurrent weight"),
        rule(
            nn.MultiheadAttention, xavier_uniform(), parameter="*_weight", label="attention weight"
        ),
    ),
    summary="uniform, std = sqrt(2 / (fan_in + fan_out)), zero biases (Glorot & Bengio 2010)",
)
