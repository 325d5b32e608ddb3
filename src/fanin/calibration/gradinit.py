"""GradInit: scales are learned so that the first step of an optimizer leaves the smallest loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from fanin.calibration.errors import CalibrationError
from fanin.calibration.learned import LearnedScales
from fanin.calibration.scaled import Scaled
from fanin.calibration.settings import check_between, check_steps
from fanin.calibration.trials import Batch, Trials, total, wide
from fanin.errors import UnknownNameError, one_of

__all__ = ["GradInit"]

_OPTIMIZERS = ("adam", "sgd")
_GAIN = 0.1  # of the loss by the first step, to first order: step_size · gradient_bound
_CLIP = 1.0  # of derivatives by the logarithm of a factor, as in the authors' code
_MOMENTS = (0.9, 0.999)  # of Adam, Kingma and Ba 2015


@dataclass(frozen=True, slots=True)
class GradInit:
    """The method ``"gradinit"`` of `fanin.calibrate`, with its settings.

    One factor for each parameter, at least ``lowest``, is learned by Adam on its logarithm: the
    loss on a second batch after the step ``θ - step_size · A(g)`` is made smaller, g being the
    gradient on a first batch, while its norm is within ``gradient_bound``; where it is not, the
    norm is made smaller instead. For ``"sgd"`` the direction A is ``g / |g|`` and the norm is
    Euclidean; for ``"adam"``, whose first step it is, A is ``sign(g)`` and the norm the sum of
    absolute values. To first order the step takes ``step_size · |g|`` off the loss.

    Published are factors themselves as what Adam changes, and a derivative that takes g for a
    constant. Here the derivative is whole.

    Args:
        optimizer: ``"sgd"`` or ``"adam"``.
        step_size: length of the first step; None: 0.1 for sgd, 0.001 for adam.
        gradient_bound: of the gradient's norm; None: ``0.1 / step_size``, by which the first step
            gains 0.1 at most; that is the published 1 for sgd.
        steps: how many are taken; the best factors met on the way are kept.
        rate: of Adam: by about this share a factor changes in a step.
        lowest: that a factor may be.

    Raises:
        ArgumentError: for a setting out of its range.

    Example:
        >>> GradInit(optimizer="adam").bound
        100.0

    Source: Zhu et al. 2021, "GradInit: Learning to initialize neural networks for stable and
        efficient training", arXiv:2102.08098.
    """

    optimizer: Literal["sgd", "adam"] = "sgd"
    step_size: float | None = None
    gradient_bound: float | None = None
    steps: int = 200
    rate: float = 0.01
    lowest: float = 0.01

    def __post_init__(self) -> None:
        if self.optimizer not in _OPTIMIZERS:
            raise UnknownNameError(
                f"GradInit: an optimizer of a closed list. Got {self.optimizer!r} for optimizer. "
                f"{one_of(str(self.optimizer), _OPTIMIZERS)}"
            )
        check_steps("GradInit", self.steps)
        for name in ("step_size", "gradient_bound"):
            if getattr(self, name) is not None:
                check_between("GradInit", name, getattr(self, name), 0, math.inf)
        check_between("GradInit", "rate", self.rate, 0, 1)
        check_between("GradInit", "lowest", self.lowest, 0, 1)

    @property
    def size(self) -> float:
        """Length of the first step."""
        if self.step_size is not None:
            return self.step_size
        return 0.1 if self.optimizer == "sgd" else 1e-3

    @property
    def bound(self) -> float:
        """Of the gradient's norm."""
        return _GAIN / self.size if self.gradient_bound is None else self.gradient_bound

    def learn(
        self, trials: Trials, parameters: Sequence[Scaled], batches: Sequence[Batch]
    ) -> tuple[list[float], LearnedScales]:
        """The factor of each parameter, and what came of it, without rows.

        Args:
            trials: the model as a function.
            parameters: of which factors are learned.
            batches: for the gradient, and for the loss after the step.

        Raises:
            CalibrationError: when the gradient is zero at the start, or something is not finite.
        """
        factors = _Factors(parameters, self.rate, self.lowest)
        first: _Point | None = None
        best: _Point | None = None
        for step in range(self.steps + 1):
            point = self._at(trials, parameters, batches, factors.now, step)
            if not point.is_usable:
                if best is None:
                    raise _not_finite(point)
                factors.back_to(best.factors)
                continue
            first = first or point
            best = point if best is None or point.rank < best.rank else best
            factors.step(point.slopes, is_within=point.is_within)
        assert first is not None
        assert best is not None
        done = LearnedScales(
            method="gradinit",
            objective="loss after one step",
            loss=trials.kind,
            before=first.after if math.isfinite(first.after) else None,
            after=best.after if math.isfinite(best.after) else None,
            iterations=self.steps,
            best=best.step,
            rows=(),
            gradient_before=first.norm,
            gradient_after=best.norm,
            gradient_bound=self.bound,
        )
        return best.factors, done

    def _at(
        self,
        trials: Trials,
        parameters: Sequence[Scaled],
        batches: Sequence[Batch],
        factors: list[float],
        step: int,
    ) -> _Point:
        values = [p.value(factor) for p, factor in zip(parameters, factors, strict=True)]
        loss = trials.loss(values, batches[0])
        gradients = trials.gradients(loss, values, again=True)
        norm = self._norm(gradients)
        direction = self._direction(gradients, norm)
        moved = [v - self.size * d for v, d in zip(values, direction, strict=True)]
        after = trials.loss(moved, batches[1])
        length = float(norm.detach())
        is_within = length <= self.bound
        found = trials.gradients(after / self.size if is_within else norm.log(), values)
        slopes = [
            0.0 if p.note else p.slope(gradient) * factor  # by the logarithm of the factor
            for p, gradient, factor in zip(parameters, found, factors, strict=True)
        ]
        losses = float(loss.detach()), float(after.detach())
        return _Point(step, list(factors), length, *losses, slopes, is_within)

    def _norm(self, gradients: Sequence[Tensor]) -> Tensor:
        if self.optimizer == "adam":
            return total(g.abs() for g in gradients)
        return total(wide(g).square() for g in gradients).sqrt()

    def _direction(self, gradients: Sequence[Tensor], norm: Tensor) -> list[Tensor]:
        if self.optimizer == "adam":
            return [g.sign() for g in gradients]
        return [g / norm.to(g.dtype) for g in gradients]


@dataclass(frozen=True, slots=True)
class _Point:
    """What was found with some factors; slopes are by their logarithms."""

    step: int
    factors: list[float]
    norm: float
    loss: float
    after: float
    slopes: list[float]
    is_within: bool

    @property
    def is_usable(self) -> bool:
        """Whether all is finite, and there is a gradient to follow."""
        needed = (self.norm, self.loss, *self.slopes, *((self.after,) if self.is_within else ()))
        return self.norm > 0 and all(map(math.isfinite, needed))

    @property
    def rank(self) -> tuple[bool, float]:
        """The smallest is the best: within the bound by the loss, else by the norm."""
        return (not self.is_within, self.after if self.is_within else self.norm)


class _Factors:
    """Factors changed by Adam on their logarithms; the bound has moments of its own."""

    def __init__(self, parameters: Sequence[Scaled], rate: float, lowest: float) -> None:
        self._logs = [0.0] * len(parameters)
        self._rate = rate
        self._lowest = math.log(lowest)
        self._forget()

    @property
    def now(self) -> list[float]:
        """One for each parameter."""
        return [math.exp(log) for log in self._logs]

    def step(self, slopes: Sequence[float], *, is_within: bool) -> None:
        """One step of Adam against the slopes."""
        first, second = _MOMENTS
        self._counts[is_within] += 1
        count, moments = self._counts[is_within], self._moments[is_within]
        for i, slope in enumerate(slopes):
            clipped = min(max(slope, -_CLIP), _CLIP)
            mean, square = moments[i]
            mean = first * mean + (1 - first) * clipped
            square = second * square + (1 - second) * clipped**2
            moments[i] = (mean, square)
            if square > 0:
                size = math.sqrt(square / (1 - second**count))
                log = self._logs[i] - self._rate * mean / (1 - first**count) / size
                self._logs[i] = max(log, self._lowest)

    def back_to(self, factors: Sequence[float]) -> None:
        """Begin again from these, with half the rate."""
        self._logs = [math.log(factor) for factor in factors]
        self._rate /= 2
        self._forget()

    def _forget(self) -> None:
        self._counts = {True: 0, False: 0}
        self._moments = {kind: [(0.0, 0.0)] * len(self._logs) for kind in (True, False)}


def _not_finite(point: _Point) -> CalibrationError:
    what = "a gradient of zero" if point.norm == 0 else "NaN or infinity"
    return CalibrationError(
        "calibrate: gradinit starts where the loss is finite, with a gradient that is finite and "
        f'not zero. Got {what}. Scale the model first, by fanin.calibrate(model, batch, "lsuv"), '
        "or correct the batch and the loss; nothing has changed."
    )
