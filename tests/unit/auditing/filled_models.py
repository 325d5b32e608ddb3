"""What the tests of scales share: a model with its weights filled, and its findings."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fanin.auditing import Finding, audit


def found(model: nn.Module, code: str) -> tuple[Finding, ...]:
    return audit(model, select=[code]).findings


def filled(model: nn.Module, fill: Callable[[Tensor], object]) -> nn.Module:
    torch.manual_seed(0)
    for weight in model.parameters():
        if weight.dim() > 1:
            fill(weight)
    return model
