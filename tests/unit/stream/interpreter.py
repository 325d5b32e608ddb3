"""A process in which Triton interprets kernels: it decides that once, when it is imported."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from fanin.geometry import Region
from fanin.stream.laws import Law

__all__ = ["Asked", "draw_all", "draw_group", "start"]

Asked = tuple[Law, int, Region, Tensor]


def start() -> None:
    """What the process does first."""
    os.environ["TRITON_INTERPRET"] = "1"
    torch.set_num_threads(1)


def portable(asked: Sequence[Asked]) -> list[Asked]:
    """Without what a process cannot send to another."""
    return [(replace(law, native=None), key, region, out) for law, key, region, out in asked]


def draw_all(asked: list[Asked]) -> list[Tensor]:
    """Each tensor's memory, all of its storage, after the cuda engine drew into it."""
    from fanin.stream.cuda import kernels, launching

    assert type(kernels.draw_runs).__name__ == "InterpretedFunction"
    for law, key, region, out in asked:
        launching.fill(law, key, region, out)
    return [_memory(out) for *_, out in asked]


def draw_group(asked: list[Asked]) -> list[Tensor]:
    """The same for whole contiguous tensors, drawn together."""
    from fanin.stream.cuda import launching

    launching.fill_together([(law, key, out) for law, key, _, out in asked])
    return [_memory(out) for *_, out in asked]


def _memory(tensor: Tensor) -> Tensor:
    return torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
