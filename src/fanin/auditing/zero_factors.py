"""`Unblocked`: what zero weights alone keep from a gradient, found by another pass without them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fanin.auditing.weights import Weight
from fanin.probing.measuring.gradients import backward, start
from fanin.probing.measuring.isolation import undisturbed
from fanin.probing.measuring.tensors import copied

__all__ = ["Unblocked", "listed", "unblocked"]

_STD = 0.05
"""Of what stands in for the zeros: it moves outputs by more than rounding, and blows nothing up."""

_ROUNDS = 4
"""A zero behind another one (a gate before a head of zeros) gets its gradient a round later."""


@dataclass(frozen=True, slots=True, eq=False)
class Unblocked:
    """What the passes show with small values for the zeros that a gradient reaches.

    Args:
        causes: for each parameter that then gets a gradient, the zeros that kept it away.
        output: of the model then; None where nothing stood in for anything.
        zeros: the names of all that something stood in for.
    """

    causes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    output: Any = None
    zeros: tuple[str, ...] = ()


def unblocked(
    model: nn.Module,
    weights: Sequence[Weight],
    inputs: object,
    *,
    loss: Callable[[Any], Tensor] | None,
    idle: Iterable[str],
    reached: Iterable[str],
) -> Unblocked:
    """Run the passes again on other values for the zeros; the model is left as it was.

    A zero counts if it gets a gradient itself, so that the first step moves it. Matrices and the
    scales of modules come first: raw vectors and tables are mostly added, not multiplied, and
    stand for a cause only where the former explain nothing.

    Args:
        model: without its wrappers.
        weights: of it.
        inputs: as for a probe.
        loss: as for a probe.
        idle: names of parameters whose gradient is 0.
        reached: names of those that have another one.
    """
    by_name = {weight.name: weight for weight in weights if _is_trained(weight)}
    open_, live = [name for name in idle if name in by_name], set(reached)
    causes: dict[str, tuple[str, ...]] = {}
    values: dict[str, Tensor] = {}
    output: Any = None
    for _ in range(_ROUNDS):
        able = [w for w in by_name.values() if w.name in live - values.keys() and _is_zero(w)]
        new = [w for w in able if _multiplies(w)] or able
        if not new or not (open_ or not values):
            break
        values |= {
            weight.name: _small(weight.tensor, len(values) + n) for n, weight in enumerate(new)
        }
        try:
            output, found = _passes(model, by_name, values, inputs, loss, open_)
        except Exception:  # a forward may check the very values; then nothing is known
            return Unblocked()
        causes |= dict.fromkeys(found, tuple(weight.name for weight in new))
        open_ = [name for name in open_ if name not in found]
        live |= set(found)
    return Unblocked(causes, output, tuple(values))


def listed(names: Sequence[str]) -> str:
    """The first name, and how many more there are."""
    more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    return f"{names[0]!r}{more}" if names else ""


def _passes(
    model: nn.Module,
    weights: Mapping[str, Weight],
    values: Mapping[str, Tensor],
    inputs: object,
    loss: Callable[[Any], Tensor] | None,
    asked: Sequence[str],
) -> tuple[Any, list[str]]:
    """The output with these values, and which of the parameters get a gradient that is not 0."""
    owners = {id(_parameter(weights[name])): value for name, value in values.items()}
    tensors = {
        name: owners[id(parameter)]
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if id(parameter) in owners
    }
    given = copied(inputs)
    args, kwargs = ((), given) if isinstance(given, Mapping) else (given, {})
    with undisturbed(model), torch.enable_grad():
        output = functional_call(
            model, tensors, tuple(args) if isinstance(args, tuple | list) else (args,), dict(kwargs)
        )
        begin = start(output, loss)
        targets = [_parameter(weights[name]) for name in asked]
        if not begin.roots or not targets:
            return output, []
        gradients, _ = backward(begin, targets)
        found = [
            name
            for name, gradient in zip(asked, gradients, strict=True)
            if gradient is not None and bool(gradient.detach().count_nonzero())
        ]
    return output, found


def _parameter(weight: Weight) -> Tensor:
    assert weight.site is not None
    tensor: Tensor = weight.site.tensor
    return tensor


def _is_trained(weight: Weight) -> bool:
    site = weight.site
    return site is not None and site.through is None and site.tensor.requires_grad


def _is_zero(weight: Weight) -> bool:
    """Whether its entries are 0 and it is no bias: those are added."""
    is_bias = "bias" in weight.attribute
    return not is_bias and weight.tensor.numel() > 0 and not weight.tensor.count_nonzero()


def _multiplies(weight: Weight) -> bool:
    return not weight.is_lookup and (weight.is_matrix or weight.attribute == "weight")


def _small(like: Tensor, number: int) -> Tensor:
    """Values of another sequence for each weight, the same at every call."""
    generator = torch.Generator().manual_seed(number)
    drawn = _STD * torch.randn(like.shape, generator=generator)
    return drawn.to(device=like.device, dtype=like.dtype).requires_grad_()
