"""Scales of parameters, learned on a model that is left alone until they are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from fanin.calibration.errors import CalibrationError
from fanin.calibration.gradinit import GradInit
from fanin.calibration.learned import LearnedScales, ScaleRow
from fanin.calibration.metainit import MetaInit
from fanin.calibration.scaled import Scaled, parameters_of
from fanin.calibration.selection import Names
from fanin.calibration.trials import Batch, LossFunction, Trials, twice_differentiable
from fanin.probing.measuring.tensors import replaced, tensors_in

__all__ = ["learn_scales"]


def learn_scales(
    model: nn.Module,
    batch: Batch,
    method: MetaInit | GradInit,
    *,
    loss: LossFunction | None,
    only: Names,
    skip: Names,
) -> LearnedScales:
    """Learn the scales, write them, and say what came of it.

    Raises:
        CalibrationError: when nothing can be scaled, a pass raises, or something is not finite.
        ArgumentError: for names that fit nothing, and a loss that is not one number.
    """
    name = "metainit" if isinstance(method, MetaInit) else "gradinit"
    parameters, others = parameters_of(model, only=only, skip=skip, weights_only=name == "metainit")
    if all(parameter.note for parameter in parameters):
        raise CalibrationError(
            f"calibrate: {name} scales parameters that training changes and that are not zero. Got "
            f"none, of {len(parameters) + len(others)}. Unfreeze some, give them first values, or "
            "choose others by only= and skip=."
        )
    trials = Trials(model, parameters, name, loss, needs_loss=name == "gradinit")
    with twice_differentiable(model):
        factors, done = method.learn(trials, parameters, _batches(batch, method, loss))
    _write(parameters, factors)
    rows = (_row(each, factor) for each, factor in zip(parameters, factors, strict=True))
    return replace(done, rows=(*filter(None, rows), *others))


def _batches(
    batch: Batch, method: MetaInit | GradInit, loss: LossFunction | None
) -> tuple[Batch, Batch]:
    """The batches of the gradient and of the loss after a step: two thirds each, one in common.

    They are the same where a loss may know the targets of the whole batch, and where not all
    tensors have one number of rows, three or more.

    Source: Zhu et al. 2021, arXiv:2102.08098.
    """
    sizes = {t.shape[0] if t.dim() else 0 for t in tensors_in((batch.inputs, batch.targets))}
    count = sizes.pop() if len(sizes) == 1 else 0
    is_bound = loss is not None and batch.targets is None
    if isinstance(method, MetaInit) or is_bound or count < 3:
        return batch, batch
    third = count // 3
    rows = torch.arange(count)
    first, second = rows[: 2 * third], torch.cat((rows[:third], rows[2 * third :]))
    return _part(batch, first), _part(batch, second)


def _part(batch: Batch, rows: Tensor) -> Batch:
    """These rows of each tensor, in the same containers."""

    def part(tensor: Tensor) -> Tensor:
        return tensor.detach()[rows.to(tensor.device)]

    return Batch(replaced(batch.inputs, part), replaced(batch.targets, part))


def _write(parameters: Sequence[Scaled], factors: Sequence[float]) -> None:
    """Write all, or none."""
    try:
        for parameter, factor in zip(parameters, factors, strict=True):
            parameter.write(factor)
    except BaseException:
        for parameter in parameters:
            parameter.restore()
        raise


def _row(parameter: Scaled, factor: float) -> ScaleRow | None:
    if not parameter.is_listed:
        return None
    before = float(torch.linalg.vector_norm(parameter.start.float()))
    after = float(torch.linalg.vector_norm(parameter.tensor.detach().float()))
    return ScaleRow(parameter.name, before, after, factor, parameter.note)
