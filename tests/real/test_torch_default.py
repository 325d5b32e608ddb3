"""The recipe `torch_default` against what torch's constructors really draw.

Each parameter of many fresh modules is tested (Kolmogorov-Smirnov) against the distribution that
the plan states: mean, std and family in one. With about 100 parameters and a threshold of 1e-9
the whole file raises a false alarm once in 1e7 seeds; the seed is fixed besides.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from scipy import stats
from torch import nn

import fanin
from fanin.fills import Constant, Fill, Normal, Packed, Uniform
from fanin.planning import Step

P_VALUE = 1e-9
VALUES = 20_000  # of each parameter, over as many modules as it takes

MODULES: dict[str, Callable[[], nn.Module]] = {
    "Linear": lambda: nn.Linear(30, 20),
    "Bilinear": lambda: nn.Bilinear(12, 7, 9),
    "Conv1d": lambda: nn.Conv1d(8, 12, 3),
    "Conv2d, grouped": lambda: nn.Conv2d(8, 12, (3, 5), groups=4),
    "Conv3d": lambda: nn.Conv3d(4, 6, 3),
    "ConvTranspose1d": lambda: nn.ConvTranspose1d(8, 12, 3, stride=2),
    "ConvTranspose2d, grouped": lambda: nn.ConvTranspose2d(8, 12, 3, stride=2, groups=2),
    "ConvTranspose3d": lambda: nn.ConvTranspose3d(4, 6, 3),
    "Embedding": lambda: nn.Embedding(40, 16, padding_idx=3),
    "EmbeddingBag": lambda: nn.EmbeddingBag(40, 16, padding_idx=-1),
    "BatchNorm2d": lambda: nn.BatchNorm2d(6),
    "InstanceNorm2d": lambda: nn.InstanceNorm2d(6, affine=True),
    "LayerNorm": lambda: nn.LayerNorm(6),
    "GroupNorm": lambda: nn.GroupNorm(2, 6),
    "RMSNorm": lambda: nn.RMSNorm(6),
    "PReLU": lambda: nn.PReLU(6, init=0.1),
    "RNN": lambda: nn.RNN(6, 10, num_layers=2),
    "LSTM": lambda: nn.LSTM(6, 10, bidirectional=True, proj_size=5),
    "GRU": lambda: nn.GRU(6, 10, num_layers=2),
    "LSTMCell": lambda: nn.LSTMCell(6, 10),
    "MultiheadAttention": lambda: nn.MultiheadAttention(16, 4, add_bias_kv=True),
    "MultiheadAttention, three projections": lambda: nn.MultiheadAttention(16, 4, kdim=6, vdim=9),
    "MultiheadAttention, no bias": lambda: nn.MultiheadAttention(16, 4, bias=False),
    "TransformerEncoderLayer": lambda: nn.TransformerEncoderLayer(16, 4, 32),
    "Transformer": lambda: nn.Transformer(16, 4, 1, 1, 32, batch_first=True),
    "AdaptiveLogSoftmaxWithLoss": lambda: nn.AdaptiveLogSoftmaxWithLoss(32, 30, [5, 15]),
}


@pytest.mark.parametrize("name", MODULES)
def test_the_plan_states_what_the_constructor_draws(name: str) -> None:
    torch.manual_seed(0)
    first = MODULES[name]()
    plan = fanin.plan(first, "torch_default", seed=0)
    smallest = min(p.numel() for p in first.parameters())
    modules = [first, *(MODULES[name]() for _ in range(min(VALUES // smallest, 400)))]
    for step in plan.steps:
        _compare(step, torch.stack([m.get_parameter(step.name).detach() for m in modules]))


def _compare(step: Step, drawn: torch.Tensor) -> None:
    """The step's fill, part by part, against the torch parameters stacked along dim 0."""
    if step.padding_row is not None:
        assert not drawn[:, step.padding_row].any(), step.name
        drawn = torch.cat([drawn[:, : step.padding_row], drawn[:, step.padding_row + 1 :]], dim=1)
    if isinstance(step.fill, Packed):
        for part in step.fill.parts:
            length = part.stop - part.start
            values = drawn.narrow(1 + step.fill.dim, part.start, length)
            _follows(part.fill, values.flatten(), f"{step.name}, {part.name}")
    else:
        assert step.fill is not None
        _follows(step.fill, drawn.flatten(), step.name)


def _follows(fill: Fill, values: torch.Tensor, name: str) -> None:
    if isinstance(fill, Constant):
        assert (values == fill.value).all(), name
        return
    if isinstance(fill, Uniform):
        law = stats.uniform(fill.low, fill.high - fill.low)
        # The bound itself: the extremes come close and stay inside, but for float32's rounding.
        assert values.abs().max() <= fill.high * (1 + 1e-6), name
        assert values.abs().max() >= fill.high * 0.98, name
    else:
        assert isinstance(fill, Normal)
        law = stats.norm(fill.mean, fill.std)
    assert stats.kstest(values.double().numpy(), law.cdf).pvalue > P_VALUE, name
