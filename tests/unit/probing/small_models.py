"""What the tests of a probe share: a model made of a function, and its rows by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from fanin.probing import SignalReport

__all__ = ["Calls", "X", "names", "only"]


class Calls(nn.Module):
    """Modules by name, and a function of them and the input for a forward."""

    def __init__(self, forward: Callable[[Any, Any], Any], **modules: nn.Module) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)
        self.does = forward

    def forward(self, x: Any) -> Any:
        return self.does(self, x)


def names(report: SignalReport) -> list[str]:
    return [row.name for row in report.rows]


def only(report: SignalReport, name: str) -> Any:
    (row,) = [row for row in report.rows if row.name == name]
    return row


X = torch.linspace(-2, 2, 12).reshape(3, 4)
