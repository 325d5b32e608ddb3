"""The backward pass of a probe: from a loss, or from the outputs where there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fanin.drawing import draw
from fanin.errors import ArgumentError
from fanin.fills import Uniform
from fanin.geometry import Region
from fanin.probing.measuring.statistics import is_measurable
from fanin.probing.measuring.tensors import measurable
from fanin.stream import Key

__all__ = ["Start", "backward", "has_reentrant_checkpoint", "start"]


@dataclass(frozen=True, eq=False, slots=True)
class Start:
    """Where a backward pass begins: tensors, the gradient at each, and the loss if there is one."""

    roots: tuple[Tensor, ...]
    seeds: tuple[Tensor | None, ...]
    loss: Tensor | None


def start(output: object, loss: Callable[[Any], Tensor] | None) -> Start:
    """The loss: as given, as the model returns it; otherwise a random projection of the outputs.

    The projection gives each entry of each output the gradient 1 or -1, by the stream
    ``Key(0, "probe/output/<n>")``, n counting the outputs: their mean square is exactly 1.
    """
    value = loss(output) if loss is not None else _own_loss(output)
    if value is not None:
        _check_loss(value)
        return Start((value,) if value.requires_grad else (), (None,), value)
    outputs = {id(t): t for t in measurable(output) if t.requires_grad}
    roots = tuple(outputs.values())
    seeds = tuple(_signs(root, f"probe/output/{n}") for n, root in enumerate(roots))
    return Start(roots, seeds, None)


def backward(begin: Start, targets: Sequence[Tensor]) -> tuple[list[Tensor | None], bool]:
    """The gradient at each target, None where none arrives; nothing is accumulated in ``.grad``.

    The second result says whether there are reentrant checkpoints. torch refuses those but in a
    full backward pass, which does write ``.grad``: the caller sets it aside.
    """
    is_reentrant = has_reentrant_checkpoint(begin.roots)
    with ExitStack() as modes:
        for device in {root.device.type for root in begin.roots}:
            if torch.is_autocast_enabled(device):  # is for the forward pass alone
                modes.enter_context(torch.autocast(device, enabled=False))
        if is_reentrant:
            torch.autograd.backward(begin.roots, begin.seeds)
            return [target.grad if target.is_leaf else None for target in targets], True
        found = torch.autograd.grad(begin.roots, targets, begin.seeds, allow_unused=True)
    return list(found), False


def _own_loss(output: object) -> Tensor | None:
    """``output.loss``, ``output["loss"]``, or an output that is one number."""
    if isinstance(output, Tensor):
        return output if not output.dim() and is_measurable(output) else None
    found = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    return found if isinstance(found, Tensor) and found.numel() == 1 else None


def _check_loss(value: object) -> None:
    if isinstance(value, Tensor) and value.numel() == 1 and value.is_floating_point():
        return
    shape = tuple(value.shape) if isinstance(value, Tensor) else None
    got = f"a {value.dtype} tensor of shape {shape}" if isinstance(value, Tensor) else repr(value)
    raise ArgumentError(
        f"probe: loss= takes the model's output and returns one floating-point number as a "
        f"tensor. Got {got}. End it with .mean() or .sum()."
    )


def _signs(like: Tensor, name: str) -> Tensor:
    drawn = torch.empty(like.shape, dtype=torch.float32, device="cpu")
    draw(Uniform(-1.0, 1.0), Key(0, name), Region.of(drawn), drawn)
    drawn.lt_(0).mul_(-2).add_(1)
    return drawn.to(device=like.device, dtype=like.dtype)


def has_reentrant_checkpoint(roots: Iterable[Tensor]) -> bool:
    """Whether a backward pass from here meets a checkpoint that torch differentiates only once."""
    pending: list[Any] = [root.grad_fn for root in roots]
    seen = set()
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        if node.name() == "CheckpointFunctionBackward":
            return True
        seen.add(node)
        pending += [below for below, _ in node.next_functions]
    return False
