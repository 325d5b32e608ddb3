"""CUDA graphs that are being captured: every replay would copy what was copied then."""

from __future__ import annotations

import torch

from fanin.errors import ArgumentError

__all__ = ["check_not_capturing", "is_capturing"]


def is_capturing(device: torch.device) -> bool:
    """Whether work on this device goes into a CUDA graph, rather than being done."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def check_not_capturing(device: torch.device, rule: str, got: str) -> None:
    """Refuse a copy to the device while a CUDA graph is captured.

    Args:
        device: of the tensor that is drawn.
        rule: what cannot be copied, in words.
        got: what would be.

    Raises:
        ArgumentError: for it.
    """
    if is_capturing(device):
        raise ArgumentError(
            f"draw: a captured CUDA graph cannot copy {rule}. Got {got}. Draw this tensor before "
            "the capture."
        )
