"""He initialization: layers before a ReLU keep the variance of what flows forward."""

from __future__ import annotations

from torch import nn

from fanin.initializers import kaiming_normal
from fanin.planning import Recipe, rule
from fanin.recipes.families import ATTENTION_OUTPUT, CONVOLUTION, LINEAR, RECURRENT, common_rules

__all__ = ["kaiming"]

_BEFORE_RELU = kaiming_normal(nonlinearity="relu", mode="fan_in")
_LINEAR = kaiming_normal(nonlinearity="linear", mode="fan_in")


def kaiming() -> Recipe:
    """Normal with ``std = sqrt(2 / fan_in)`` for linear and convolution weights; biases are zero.

    No rectifier follows the projections of an attention or the gates of a recurrent cell: their
    gain is 1. The fans are the module's own: groups, and the parts of packed weights, count.

    Example:
        >>> import fanin
        >>> fanin.plan(nn.Linear(8, 4), kaiming(), seed=0).steps[0].fill
        Normal(mean=0.0, std=0.5)

    Source: He et al. 2015, arXiv:1502.01852, eq. 10.
    """
    return Recipe(
        "kaiming",
        1,
        (
            *common_rules(),
            rule(LINEAR, _BEFORE_RELU, parameter="weight", label="linear weight"),
            rule(CONVOLUTION, _BEFORE_RELU, parameter="weight", label="conv weight"),
            rule(RECURRENT, _LINEAR, parameter="weight_*", label="recurrent weight"),
            rule(nn.MultiheadAttention, _LINEAR, parameter="*_weight", label="attention weight"),
            rule(ATTENTION_OUTPUT, _LINEAR, parameter="weight", label="attention output"),
        ),
        summary="normal, std = sqrt(2 / fan_in), zero biases (He et al. 2015)",
    )
