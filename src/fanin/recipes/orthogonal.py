"""Orthogonal initialization: layers keep norms and angles exactly, up to a gain."""

from __future__ import annotations

from torch import nn

from fanin.gains import gain as gain_of
from fanin.initializers import orthogonal as orthogonal_matrix
from fanin.planning import Recipe, rule
from fanin.recipes.families import ATTENTION_OUTPUT, CONVOLUTION, LINEAR, RECURRENT, common_rules
from fanin.recipes.options import stated

__all__ = ["orthogonal"]


def orthogonal(*, nonlinearity: str = "linear") -> Recipe:
    """Weights that are orthogonal matrices times the gain of a nonlinearity, zero biases.

    A convolution is the matrix (out, in · kernel), each group its own, as in
    `torch.nn.init.orthogonal_`; each gate of a recurrent cell and each of q, k and v is a matrix.
    No nonlinearity follows those: their gain is 1. A lookup sums nothing: embeddings are N(0, 1).

    Args:
        nonlinearity: what follows linear layers and convolutions; a layer with fewer outputs than
            inputs shrinks a typical input by ``sqrt(fan_out / fan_in)`` all the same.

    Returns:
        A recipe for every module of torch.

    Raises:
        UnknownNameError: a nonlinearity that is not known by name.

    Example:
        >>> import fanin
        >>> layer = nn.Linear(8, 8)
        >>> _ = fanin.initialize(layer, orthogonal(), seed=0)
        >>> bool((layer.weight @ layer.weight.T - layer.weight.new_ones(8).diag()).norm() < 1e-5)
        True

    Source: Saxe, McClelland and Ganguli 2013, arXiv:1312.6120.
    """
    scaled, matrix = orthogonal_matrix(gain=gain_of(nonlinearity)), orthogonal_matrix()
    return Recipe(
        "orthogonal",
        1,
        (
            *common_rules(),
            rule(LINEAR, scaled, parameter="weight", label="linear weight"),
            rule(CONVOLUTION, scaled, parameter="weight", label="conv weight"),
            rule(RECURRENT, matrix, parameter="weight_*", label="recurrent weight"),
            rule(nn.MultiheadAttention, matrix, parameter="*_weight", label="attention weight"),
            rule(ATTENTION_OUTPUT, matrix, parameter="weight", label="attention output"),
        ),
        summary="orthogonal matrices, zero biases (Saxe et al. 2013)",
        options=stated(orthogonal, nonlinearity=nonlinearity),
    )
