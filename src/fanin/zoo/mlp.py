"""A multilayer perceptron of any depth: the model that shows what a gain does."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

__all__ = ["mlp"]

# Halve their input, need arguments, or mix elements: none of them follows a layer here.
_NOT_BETWEEN_LAYERS = {"GLU", "MultiheadAttention", "Threshold"}


def mlp(
    *,
    depth: int = 3,
    width: int = 256,
    activation: str | None = "ReLU",
    in_features: int = 784,
    out_features: int = 10,
) -> nn.Sequential:
    """``depth`` linear layers with an activation between each two, or with none.

    Args:
        depth: number of linear layers, at least 1.
        width: units of every hidden layer.
        activation: name of a class in `torch.nn`, in any case (``"gelu"``, ``"Tanh"``); ``"none"``
            or None for a net of linear layers alone.
        in_features: size of the input.
        out_features: size of the output.

    Returns:
        A model from (batch, in_features) to (batch, out_features).

    Raises:
        ValueError: for a depth below 1 or an activation that `torch.nn` does not have.

    Example:
        >>> [type(layer).__name__ for layer in mlp(depth=2, activation="tanh")]
        ['Linear', 'Tanh', 'Linear']
        >>> [type(layer).__name__ for layer in mlp(depth=2, activation="none")]
        ['Linear', 'Linear']
    """
    if depth < 1:
        raise ValueError(f"mlp: depth counts the linear layers, at least 1. Got {depth}.")
    sizes = [in_features, *[width] * (depth - 1), out_features]
    linear = [nn.Linear(*both) for both in pairwise(sizes)]
    if activation is None or activation.lower() == "none":
        return nn.Sequential(*linear)
    make_activation = _activation(activation)
    layers = [layer for each in linear for layer in (each, make_activation())]
    return nn.Sequential(*layers[:-1])


def _activation(name: str) -> type[nn.Module]:
    for known in nn.modules.activation.__all__:
        if known.lower() == name.lower() and known not in _NOT_BETWEEN_LAYERS:
            found: type[nn.Module] = getattr(nn, known)
            return found
    raise ValueError(
        f"mlp: activation is the name of a class in torch.nn, such as relu, gelu or tanh, or "
        f"none. Got {name!r}."
    )
