"""Glorot initialization: a compromise between keeping variance forward and backward."""

from __future__ import annotations

from torch import nn

from fanin.initializers import xavier_uniform
from fanin.planning import Recipe, rule
from fanin.recipes.families import CONVOLUTION, LINEAR, RECURRENT, common_rules

__all__ = ["xavier"]


def xavier() -> Recipe:
    """Uniform with ``std = sqrt(2 / (fan_in + fan_out))`` where there are fans; biases are zero.

    The fans are the module's own: groups, and the parts of packed weights, count.

    Example:
        >>> import fanin
        >>> fanin.plan(nn.Linear(5, 1), xavier(), seed=0).steps[0].fill
        Uniform(low=-1.0, high=1.0)

    Source: Glorot and Bengio 2010, AISTATS, eq. 16.
    """
    return Recipe(
        "xavier",
        1,
        (
            *common_rules(),
            rule(LINEAR, _XAVIER, parameter="weight", label="linear weight"),
            rule(CONVOLUTION, _XAVIER, parameter="weight", label="conv weight"),
            rule(RECURRENT, _XAVIER, parameter="weight_*", label="recurrent weight"),
            rule(nn.MultiheadAttention, _XAVIER, parameter="*_weight", label="attention weight"),
        ),
        summary="uniform, std = sqrt(2 / (fan_in + fan_out)), zero biases (Glorot & Bengio 2010)",
    )


_XAVIER = xavier_uniform()
