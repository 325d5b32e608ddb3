"""The axes of the parameters of torch's own modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from fanin.geometry import Layout

__all__ = ["TORCH_ADAPTERS"]

# Order of the gates in packed recurrent weights; a plain RNN has one, which is not packed.
_GATES = {"LSTM": ("i", "f", "g", "o"), "GRU": ("r", "z", "n")}


def _linear(module: nn.Linear, name: str) -> Layout | None:
    return Layout.linear(*module.weight.shape) if name == "weight" else _bias(module, name)


def _bilinear(module: nn.Bilinear, name: str) -> Layout | None:
    return Layout.bilinear(*module.weight.shape) if name == "weight" else _bias(module, name)


def _conv(module: _ConvNd, name: str) -> Layout | None:
    if name != "weight":
        return _bias(module, name)
    kernel = module.weight.shape[2:]
    return Layout.conv(module.out_channels, module.in_channels, *kernel, groups=module.groups)


def _conv_transpose(module: _ConvTransposeNd, name: str) -> Layout | None:
    if name != "weight":
        return _bias(module, name)
    kernel = module.weight.shape[2:]
    return Layout.conv_transpose(
        module.in_channels,
        module.out_channels,
        *kernel,
        groups=module.groups,
        stride=module.stride,
    )


def _embedding(module: nn.Embedding | nn.EmbeddingBag, name: str) -> Layout | None:
    if name != "weight":
        return None
    return Layout.embedding(*module.weight.shape, padding_idx=module.padding_idx)


def _attention(module: nn.MultiheadAttention, name: str) -> Layout | None:
    shape = _shape(module, name)
    if name == "in_proj_weight":
        return Layout.linear(*shape).packed(("q", "k", "v"))
    if name == "in_proj_bias":
        return Layout.vector(*shape).packed(("q", "k", "v"))
    if name in ("q_proj_weight", "k_proj_weight", "v_proj_weight"):
        return Layout.linear(*shape)
    return Layout.vector(*shape) if name in ("bias_k", "bias_v") else None


def _recurrent(module: nn.RNNBase | nn.RNNCellBase, name: str) -> Layout | None:
    shape = _shape(module, name)
    if name.startswith("weight_hr"):  # the projection of an LSTM's hidden state
        return Layout.linear(*shape)
    if not name.startswith(("weight_", "bias_")):
        return None
    layout = Layout.linear(*shape) if name.startswith("weight_") else Layout.vector(*shape)
    gates = next((gates for kind, gates in _GATES.items() if _is_kind(module, kind)), ())
    return layout.packed(gates) if gates else layout


def _is_kind(module: nn.Module, kind: str) -> bool:
    return isinstance(module, getattr(nn, kind) | getattr(nn, f"{kind}Cell"))


def _vectors(module: nn.Module, name: str) -> Layout | None:
    """Scales and shifts without fans."""
    return Layout.vector(*_shape(module, name)) if name in ("weight", "bias") else None


def _bias(module: nn.Module, name: str) -> Layout | None:
    return Layout.vector(*_shape(module, name)) if name == "bias" else None


def _shape(module: nn.Module, name: str) -> tuple[int, ...]:
    tensor: Any = getattr(module, name)
    return tuple(tensor.shape)


TORCH_ADAPTERS: dict[type[nn.Module], Callable[[Any, str], Layout | None]] = {
    nn.Linear: _linear,
    nn.Bilinear: _bilinear,
    _ConvNd: _conv,
    _ConvTransposeNd: _conv_transpose,
    nn.Embedding: _embedding,
    nn.EmbeddingBag: _embedding,
    nn.MultiheadAttention: _attention,
    nn.RNNBase: _recurrent,
    nn.RNNCellBase: _recurrent,
    _NormBase: _vectors,
    nn.LayerNorm: _vectors,
    nn.GroupNorm: _vectors,
    nn.RMSNorm: _vectors,
    nn.PReLU: _vectors,
}
