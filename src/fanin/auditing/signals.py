"""`Signals`: what one forward and one backward pass show, besides what a probe measures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fanin.auditing.weights import Weight
from fanin.auditing.zero_factors import Unblocked, unblocked
from fanin.model.wrappers import unwrapped
from fanin.planning import Plan
from fanin.probing.measuring.tensors import measurable, signal, tensors_in
from fanin.probing.probe import probe
from fanin.probing.signal_report import SignalReport

__all__ = ["Classes", "Signals", "is_same", "output_of", "signals_of"]

_ROUNDING = 1e-2  # of a mean of logarithms in bfloat16

_SAME = 4.0
"""Rounding errors by which outputs of one value may differ."""


@dataclass(frozen=True, slots=True)
class Classes:
    """A loss that is a cross-entropy: over how many classes, and the std of its logits."""

    count: int
    logits_std: float


@dataclass(frozen=True, slots=True, eq=False)
class Signals:
    """What the passes show.

    Args:
        report: of the probe.
        outputs: the tensor that stands for what the model returned; None where there is none.
        given: the tensor that stands for what went in.
        arrived: for each weight that a gradient arrived at, how many of its outputs got none, and
            how many there are; a weight without axes is one output.
        classes: of the loss; None where it is no cross-entropy.
        unblocked: what zero weights alone keep from a gradient, and the outputs without them.
    """

    report: SignalReport
    outputs: Tensor | None
    given: Tensor | None
    arrived: Mapping[str, tuple[int, int]]
    classes: Classes | None = None
    unblocked: Unblocked = field(default_factory=Unblocked)

    @property
    def is_same(self) -> bool:
        """Whether different inputs gave the same output, up to rounding."""
        return is_same(self.outputs, self.given)


@dataclass(slots=True)
class _Seen:
    """What hooks see go by."""

    output: Any = None
    arrived: dict[str, tuple[int, int]] = field(default_factory=dict)


def signals_of(
    model: nn.Module,
    weights: tuple[Weight, ...],
    inputs: object,
    *,
    loss: Callable[[Any], Tensor] | None = None,
    plan: Plan | None = None,
) -> Signals:
    """Run the two passes; the model is left as it was.

    Raises:
        ProbeError: when one of them raises.
        ArgumentError: when the loss or the plan does not fit.
    """
    seen = _Seen()
    with _watching(unwrapped(model), weights, seen):
        report = probe(model, inputs, loss=loss, plan=plan)
    output = seen.output
    tensor = output_of(output)
    given = next((each for each in tensors_in(inputs) if each.dim()), None)
    classes = _classes(output, loss) if report.loss is not None else None
    signals = Signals(report, tensor, given, seen.arrived, classes)
    idle = [name for name, (none, units) in seen.arrived.items() if none == units]
    if not (idle or signals.is_same):
        return signals
    found = unblocked(
        unwrapped(model),
        weights,
        inputs,
        loss=loss,
        idle=idle,
        reached=seen.arrived.keys() - set(idle),
    )
    return replace(signals, unblocked=found)


def is_same(outputs: Tensor | None, given: Tensor | None) -> bool:
    """Whether the samples of a batch differ and what came of them does not, up to rounding.

    Args:
        outputs: of a model, batch first.
        given: the batch.
    """
    if outputs is None or given is None or not _is_batch(outputs, given):
        return False
    if _varies(given) <= 0 or not bool(outputs.isfinite().all()):
        return False
    size = float(outputs.double().abs().max())
    return _varies(outputs) <= _SAME * torch.finfo(outputs.dtype).eps * size


def output_of(returned: Any) -> Tensor | None:
    """The tensor that stands for what a model returned, besides its loss."""
    return signal(measurable(_without_loss(_detached(returned))))


def _is_batch(outputs: Tensor, given: Tensor) -> bool:
    has_dims = outputs.dim() > 1 and given.dim() > 1 and outputs.numel() > 0 < given.numel()
    return has_dims and outputs.shape[0] == given.shape[0] > 1


def _varies(tensor: Tensor) -> float:
    """The largest difference of an entry between two samples."""
    values = tensor.double()
    return float((values.amax(0) - values.amin(0)).max())


@contextmanager
def _watching(model: nn.Module, weights: tuple[Weight, ...], seen: _Seen) -> Iterator[None]:
    def keep(module: nn.Module, args: object, output: object) -> None:
        seen.output = _detached(output)

    with ExitStack() as hooks:
        hooks.callback(model.register_forward_hook(keep).remove)
        for weight in weights:
            if weight.site is None or weight.site.through is not None:
                continue
            parameter: Any = weight.site.tensor
            if parameter.requires_grad:
                arrive = partial(_arrive, seen, weight)
                hooks.callback(parameter.register_hook(arrive).remove)
        yield


def _arrive(seen: _Seen, weight: Weight, gradient: Tensor) -> None:
    """Count the outputs whose weights get a gradient of exactly 0."""
    if gradient.is_sparse:
        return
    if not gradient.numel():  # nothing in it could be 0
        seen.arrived[weight.name] = (0, 1)
        return
    layout = weight.layout
    if layout is not None and weight.is_matrix and not layout.is_lookup:
        units = (*layout.batch_axes, *layout.out_axes)
        others = [axis for axis in range(gradient.dim()) if axis not in units]
        largest = gradient.detach().abs().amax(others) if others else gradient.detach().abs()
    else:
        largest = gradient.detach().abs().max()
    seen.arrived[weight.name] = (int((largest == 0).sum()), largest.numel())


def _detached(output: Any) -> Any:
    """The output without its graph; what is no tensor or mapping of tensors as it is."""
    if isinstance(output, Tensor):
        return output.detach()
    if isinstance(output, Mapping):
        return {key: _detached(item) for key, item in output.items()}
    if isinstance(output, tuple | list):
        return [_detached(item) for item in output]
    return output


def _without_loss(output: Any) -> Any:
    if isinstance(output, Mapping):
        return {key: item for key, item in output.items() if key != "loss"}
    return output


def _classes(output: Any, loss: Callable[[Any], Tensor] | None) -> Classes | None:
    """What a cross-entropy compares: the loss of a model's own is believed to be one of logits.

    A given loss is one if logits of 0 cost the logarithm of their number.
    """
    if loss is None:
        logits = output.get("logits") if isinstance(output, Mapping) else None
        if not isinstance(logits, Tensor) or logits.dim() < 2 or logits.shape[-1] < 3:
            return None
        return Classes(logits.shape[-1], _spread(logits, -1))
    if not isinstance(output, Tensor) or output.dim() < 2 or not output.is_floating_point():
        return None
    with torch.no_grad():
        try:
            guess = float(loss(torch.zeros_like(output)))
        except Exception:  # it may compare values that must not be equal
            return None
    for dim in dict.fromkeys((output.dim() - 1, 1)):
        count = output.shape[dim]
        if count >= 2 and math.isclose(guess, math.log(count), rel_tol=_ROUNDING):
            return Classes(count, _spread(output, dim))
    return None


def _spread(logits: Tensor, dim: int) -> float:
    """Std of the logits about the mean of their sample: what softmax sees."""
    centred = logits.double() - logits.double().mean(dim, keepdim=True)
    return math.sqrt(float(centred.square().mean()))
