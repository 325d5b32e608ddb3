"""Linear layers in an `nn.ModuleList`, run in a loop as residual steps."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["Linears", "linears"]


class Linears(nn.Module):
    """``num_layers`` square linear layers; each adds what it computes to its input.

    Args:
        num_layers: length of the list.
        width: inputs and outputs of every layer.
    """

    def __init__(self, *, num_layers: int = 20, width: int = 10) -> None:
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(width, width) for _ in range(num_layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, width) to (batch, width)."""
        for linear in self.linears:
            x = x + linear(x).relu()
        return x


def linears(*, num_layers: int = 20, width: int = 10) -> Linears:
    """A list of linear layers; see `Linears`."""
    return Linears(num_layers=num_layers, width=width)
