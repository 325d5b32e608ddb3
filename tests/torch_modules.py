"""Every module of `torch.nn`: how tests build one, small, with all the parameters it can have."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

__all__ = ["LAZY", "MODULES", "torch_modules"]

# Everything that holds parameters, also through its children, in all its forms.
MODULES: dict[str, Callable[[], nn.Module]] = {
    "Linear": lambda: nn.Linear(30, 20),
    "Bilinear": lambda: nn.Bilinear(12, 7, 9),
    "Conv1d": lambda: nn.Conv1d(8, 12, 3),
    "Conv2d": lambda: nn.Conv2d(8, 12, (3, 5)),
    "Conv2d, grouped": lambda: nn.Conv2d(8, 12, (3, 5), groups=4),
    "Conv3d": lambda: nn.Conv3d(4, 6, 3),
    "ConvTranspose1d": lambda: nn.ConvTranspose1d(8, 12, 3, stride=2),
    "ConvTranspose2d": lambda: nn.ConvTranspose2d(8, 12, 3),
    "ConvTranspose2d, grouped": lambda: nn.ConvTranspose2d(8, 12, 3, stride=2, groups=2),
    "ConvTranspose3d": lambda: nn.ConvTranspose3d(4, 6, 3),
    "Embedding": lambda: nn.Embedding(40, 16, padding_idx=3),
    "EmbeddingBag": lambda: nn.EmbeddingBag(40, 16, padding_idx=-1),
    "BatchNorm1d": lambda: nn.BatchNorm1d(6),
    "BatchNorm2d": lambda: nn.BatchNorm2d(6),
    "BatchNorm3d": lambda: nn.BatchNorm3d(6),
    "SyncBatchNorm": lambda: nn.SyncBatchNorm(6),
    "InstanceNorm1d": lambda: nn.InstanceNorm1d(6, affine=True),
    "InstanceNorm2d": lambda: nn.InstanceNorm2d(6, affine=True),
    "InstanceNorm3d": lambda: nn.InstanceNorm3d(6, affine=True, track_running_stats=True),
    "LayerNorm": lambda: nn.LayerNorm((2, 3)),
    "GroupNorm": lambda: nn.GroupNorm(2, 6),
    "RMSNorm": lambda: nn.RMSNorm(6),
    "PReLU": lambda: nn.PReLU(6, init=0.1),
    "RNNBase": lambda: nn.RNNBase("RNN_RELU", 6, 10),
    "RNN": lambda: nn.RNN(6, 10, num_layers=2),
    "LSTM": lambda: nn.LSTM(6, 10, num_layers=2),
    "LSTM, projected": lambda: nn.LSTM(6, 10, num_layers=2, bidirectional=True, proj_size=5),
    "GRU": lambda: nn.GRU(6, 10, num_layers=2, bidirectional=True),
    "RNNCell": lambda: nn.RNNCell(6, 10),
    "LSTMCell": lambda: nn.LSTMCell(6, 10),
    "GRUCell": lambda: nn.GRUCell(6, 10),
    "MultiheadAttention": lambda: nn.MultiheadAttention(16, 4, add_bias_kv=True),
    "MultiheadAttention, three projections": lambda: nn.MultiheadAttention(
        16, 4, kdim=6, vdim=9, add_bias_kv=True
    ),
    "MultiheadAttention, no bias": lambda: nn.MultiheadAttention(16, 4, bias=False),
    "TransformerEncoderLayer": lambda: nn.TransformerEncoderLayer(16, 4, 32),
    "TransformerDecoderLayer": lambda: nn.TransformerDecoderLayer(16, 4, 32),
    "TransformerEncoder": lambda: nn.TransformerEncoder(
        nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2, nn.LayerNorm(16)
    ),
    "TransformerDecoder": lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(16, 4, 32), 2),
    "Transformer": lambda: nn.Transformer(16, 4, 1, 1, 32, batch_first=True),
    "AdaptiveLogSoftmaxWithLoss": lambda: nn.AdaptiveLogSoftmaxWithLoss(32, 30, [5, 15]),
}
if hasattr(nn, "LinearCrossEntropyLoss"):  # since torch 2.13
    MODULES["LinearCrossEntropyLoss"] = lambda: nn.LinearCrossEntropyLoss(
        16, 5, out_features=(2,), bias=True
    )

# With arguments, and the shape of an input.
LAZY: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "LazyLinear": (lambda: nn.LazyLinear(5), (2, 7)),
    "LazyConv1d": (lambda: nn.LazyConv1d(6, 3, groups=2), (2, 4, 8)),
    "LazyConv2d": (lambda: nn.LazyConv2d(6, 3), (2, 4, 8, 8)),
    "LazyConv3d": (lambda: nn.LazyConv3d(6, 3), (2, 4, 8, 8, 8)),
    "LazyConvTranspose1d": (lambda: nn.LazyConvTranspose1d(6, 3, groups=2), (2, 4, 8)),
    "LazyConvTranspose2d": (lambda: nn.LazyConvTranspose2d(6, 3), (2, 4, 8, 8)),
    "LazyConvTranspose3d": (lambda: nn.LazyConvTranspose3d(6, 3), (2, 4, 8, 8, 8)),
    "LazyBatchNorm1d": (nn.LazyBatchNorm1d, (2, 4)),
    "LazyBatchNorm2d": (nn.LazyBatchNorm2d, (2, 4, 8, 8)),
    "LazyBatchNorm3d": (nn.LazyBatchNorm3d, (2, 4, 8, 8, 8)),
    "LazyInstanceNorm1d": (nn.LazyInstanceNorm1d, (2, 4, 8)),
    "LazyInstanceNorm2d": (nn.LazyInstanceNorm2d, (2, 4, 8, 8)),
    "LazyInstanceNorm3d": (nn.LazyInstanceNorm3d, (2, 4, 8, 8, 8)),
}

# What has no parameters and cannot be built without arguments.
_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "ChannelShuffle": (2,),
    "CrossMapLRN2d": (2,),
    "DataParallel": (nn.Identity(),),
    "Fold": (4, 2),
    "FractionalMaxPool2d": (2, 3),
    "FractionalMaxPool3d": (2, 3),
    "LocalResponseNorm": (2,),
    "PixelShuffle": (2,),
    "PixelUnshuffle": (2,),
    "RNNCellBase": (6, 10, True, 1),
    "Threshold": (0.0, 0.0),
    "Unflatten": (1, (2, 2)),
    "Unfold": (2,),
}
# The same for families whose members differ in their number of dims.
_FAMILY_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "AdaptiveAvgPool": (2,),
    "AdaptiveMaxPool": (2,),
    "AvgPool": (2,),
    "CircularPad": (1,),
    "ConstantPad": (1, 0.0),
    "LPPool": (2.0, 2),
    "MaxPool": (2,),
    "MaxUnpool": (2,),
    "ReflectionPad": (1,),
    "ReplicationPad": (1,),
    "ZeroPad": (1,),
}


def torch_modules() -> Iterator[tuple[type[nn.Module], Callable[[], nn.Module]]]:
    """Every module class that `torch.nn` shows, and a function that builds one."""
    for name, kind in sorted(vars(nn).items()):
        if isinstance(kind, type) and issubclass(kind, nn.Module):
            yield kind, lambda name=name, kind=kind: _build(name, kind)


def _build(name: str, kind: type[nn.Module]) -> nn.Module:
    if name in MODULES:
        return MODULES[name]()
    if name in LAZY:
        return LAZY[name][0]()
    family = name[:-2] if name.endswith(("1d", "2d", "3d")) else ""
    arguments = _ARGUMENTS.get(name, _FAMILY_ARGUMENTS.get(family, ()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated names are modules too
        return kind(*arguments)
