"""LeCun initialization: layers without a gain keep the variance of what flows forward."""

from __future__ import annotations

from torch import nn

from fanin.initializers import variance_scaling
from fanin.planning import Recipe, rule
from fanin.recipes.families import CONVOLUTION, LINEAR, RECURRENT, common_rules
from fanin.recipes.options import stated

__all__ = ["lecun"]


def lecun(*, distribution: str = "normal") -> Recipe:
    """Weights with ``std = sqrt(1 / fan_in)``, zero biases: for SELU, and for tanh at small inputs.

    The fans are the module's own: groups, and the parts of packed weights, count.

    Args:
        distribution: ``"normal"``, ``"uniform"``, or ``"truncated_normal"`` (at ±2σ, with this std
            after truncation), which is the default of the dense layers of Flax.

    Returns:
        A recipe for every module of torch.

    Raises:
        UnknownNameError: another distribution.

    Example:
        >>> import fanin
        >>> fanin.plan(nn.Linear(64, 8), lecun(), seed=0).steps[0].fill
        Normal(mean=0.0, std=0.125)

    Source: LeCun et al. 1998, Efficient BackProp, eq. 16; Klambauer et al. 2017, arXiv:1706.02515.
    """
    weight = variance_scaling(distribution=distribution)
    return Recipe(
        "lecun",
        1,
        (
            *common_rules(),
            rule(LINEAR, weight, parameter="weight", label="linear weight"),
            rule(CONVOLUTION, weight, parameter="weight", label="conv weight"),
            rule(RECURRENT, weight, parameter="weight_*", label="recurrent weight"),
            rule(nn.MultiheadAttention, weight, parameter="*_weight", label="attention weight"),
        ),
        summary="std = sqrt(1 / fan_in), zero biases (LeCun et al. 1998)",
        options=stated(lecun, distribution=distribution),
    )
