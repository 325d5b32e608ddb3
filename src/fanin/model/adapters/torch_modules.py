"""The axes of the parameters and buffers of torch's own modules."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from fanin.geometry import Layout

__all__ = ["TORCH_ADAPTERS"]

# Many parameters of a model share a shape; a layout costs ten times what it takes to look it up.
_cached = lru_cache(maxsize=4096)
_matrix = _cached(Layout.linear)
_vector = _cached(Layout.vector)
_kernel = _cached(Layout.conv)
_transposed_kernel = _cached(Layout.conv_transpose)
_bilinear_form = _cached(Layout.bilinear)
_table = _cached(Layout.embedding)

_PROJECTIONS = ("q", "k", "v")
_LSTM_GATES = ("i", "f", "g", "o")
_GRU_GATES = ("r", "z", "n")
# By the mode of an `nn.RNNBase`, in the order in which they lie; a plain RNN packs nothing.
_GATES = {"LSTM": _LSTM_GATES, "GRU": _GRU_GATES, "RNN_TANH": (), "RNN_RELU": ()}
_CELL_GATES = {nn.LSTMCell: _LSTM_GATES, nn.GRUCell: _GRU_GATES, nn.RNNCell: ()}
_WITHOUT_FANS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def _linear(module: nn.Linear, name: str) -> Layout | None:
    if name == "weight":
        return _matrix(*module.weight.shape)
    return _bias(module, name)


def _bilinear(module: nn.Bilinear, name: str) -> Layout | None:
    if name == "weight":
        return _bilinear_form(*module.weight.shape)
    return _bias(module, name)


def _conv(module: _ConvNd, name: str) -> Layout | None:
    if name != "weight":
        return _bias(module, name)
    kernel = module.weight.shape[2:]
    return _kernel(module.out_channels, module.in_channels, *kernel, groups=module.groups)


def _conv_transpose(module: _ConvTransposeNd, name: str) -> Layout | None:
    if name != "weight":
        return _bias(module, name)
    kernel = module.weight.shape[2:]
    return _transposed_kernel(
        module.in_channels,
        module.out_channels,
        *kernel,
        groups=module.groups,
        stride=module.stride,
    )


def _embedding(module: nn.Embedding | nn.EmbeddingBag, name: str) -> Layout | None:
    if name != "weight":
        return None
    return _table(*module.weight.shape, padding_idx=module.padding_idx)


def _attention(module: nn.MultiheadAttention, name: str) -> Layout | None:
    if name in ("in_proj_weight", "in_proj_bias"):
        return _side_by_side(_PROJECTIONS, *_shape(module, name))
    if name in ("q_proj_weight", "k_proj_weight", "v_proj_weight"):
        return _matrix(*_shape(module, name))
    return _vector(*_shape(module, name)) if name in ("bias_k", "bias_v") else None


def _recurrent(module: nn.RNNBase, name: str) -> Layout | None:
    if name.startswith("weight_hr"):  # the projection of an LSTM's hidden state
        return _matrix(*_shape(module, name))
    if name.startswith(("weight_", "bias_")):
        return _side_by_side(_GATES[module.mode], *_shape(module, name))
    return None


def _recurrent_cell(module: nn.RNNCellBase, name: str) -> Layout | None:
    gates = next((_CELL_GATES[kind] for kind in _CELL_GATES if isinstance(module, kind)), None)
    if gates is None or not name.startswith(("weight_", "bias_")):
        return None  # a cell of its own kind: nobody knows how many gates lie in it
    return _side_by_side(gates, *_shape(module, name))


@_cached
def _side_by_side(parts: tuple[str, ...], *shape: int) -> Layout:
    """A weight (parts · out, in), or the bias of one."""
    layout = Layout.linear(*shape) if len(shape) == 2 else Layout.vector(*shape)
    return layout.packed(parts) if parts else layout


def _vectors(module: nn.Module, name: str) -> Layout | None:
    """Scales, shifts and running statistics, none of which has fans."""
    return _vector(*_shape(module, name)) if name in _WITHOUT_FANS else None


def _bias(module: nn.Module, name: str) -> Layout | None:
    return _vector(*_shape(module, name)) if name == "bias" else None


def _shape(module: nn.Module, name: str) -> tuple[int, ...]:
    shape: tuple[int, ...] = getattr(module, name).shape
    return shape


TORCH_ADAPTERS: dict[type[nn.Module], Callable[[Any, str], Layout | None]] = {
    nn.Linear: _linear,
    nn.Bilinear: _bilinear,
    _ConvNd: _conv,
    _ConvTransposeNd: _conv_transpose,
    nn.Embedding: _embedding,
    nn.EmbeddingBag: _embedding,
    nn.MultiheadAttention: _attention,
    nn.RNNBase: _recurrent,
    nn.RNNCellBase: _recurrent_cell,
    _NormBase: _vectors,
    nn.LayerNorm: _vectors,
    nn.GroupNorm: _vectors,
    nn.RMSNorm: _vectors,
    nn.PReLU: _vectors,
}
