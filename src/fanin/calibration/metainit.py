"""MetaInit: norms of weights are learned so that a step of gradient descent changes no gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fanin.calibration.errors import CalibrationError
from fanin.calibration.learned import LearnedScales
from fanin.calibration.scaled import Scaled
from fanin.calibration.settings import check_between, check_steps
from fanin.calibration.trials import Batch, Trials, total, wide

__all__ = ["MetaInit", "gradient_quotient"]


@dataclass(frozen=True, slots=True)
class MetaInit:
    """The method ``"metainit"`` of `fanin.calibrate`, with its settings.

    The scales are learned by signed gradient descent with momentum on the gradient quotient
    ``GQ = 1/N Σ |(g - Hg) / (g + ε sign(g)) - 1|``, over the N entries of all trained parameters:
    the relative change of the gradient g by a step along itself, H being the Hessian of the loss.
    It is small where the loss is nearly linear over that step.

    Published are steps of 0.1 on norms. Here a step is a share of the norm: it fits large weights
    and small ones, and no norm becomes negative.

    Args:
        steps: how many are taken; the best scales met on the way are kept.
        rate: share of its norm by which a weight changes in a step, before momentum.
        momentum: of these steps.
        epsilon: gradients below it count as none.

    Raises:
        ArgumentError: for a setting out of its range.

    Example:
        >>> MetaInit(steps=10)
        MetaInit(steps=10, rate=0.01, momentum=0.9, epsilon=1e-05)

    Source: Dauphin and Schoenholz 2019, "MetaInit: Initializing learning by learning to
        initialize", NeurIPS 32, eq. 1.
    """

    steps: int = 100
    rate: float = 0.01
    momentum: float = 0.9
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        check_steps("MetaInit", self.steps)
        check_between("MetaInit", "rate", self.rate, 0, 1)
        check_between("MetaInit", "momentum", self.momentum, 0, 1, may_be_lowest=True)
        check_between("MetaInit", "epsilon", self.epsilon, 0, math.inf)

    def learn(
        self, trials: Trials, parameters: Sequence[Scaled], batches: Sequence[Batch]
    ) -> tuple[list[float], LearnedScales]:
        """The factor of each parameter, and what came of it, without rows.

        Raises:
            CalibrationError: when the loss or the quotient is not finite at the start, or the
                gradient zero.
        """
        logs = [0.0] * len(parameters)
        speeds = [0.0] * len(parameters)
        rate = self.rate
        tried: list[tuple[float, int, list[float]]] = []
        first: float | None = None
        for step in range(self.steps + 1):
            values = [p.value(math.exp(log)) for p, log in zip(parameters, logs, strict=True)]
            quotient = gradient_quotient(trials, values, batches[0], epsilon=self.epsilon)
            reached = float(quotient.detach())
            slopes = self._slopes(trials, quotient, parameters, values)
            if not all(map(math.isfinite, (reached, *slopes))):
                if first is None:
                    raise _not_finite(trials.kind)
                logs, speeds, rate = list(tried[0][2]), [0.0] * len(parameters), rate / 2
                continue
            first = reached if first is None else first
            tried = [min((*tried, (reached, step, list(logs))))]
            for i, slope in enumerate(slopes):
                sign = math.copysign(1.0, slope) if slope else 0.0
                speeds[i] = self.momentum * speeds[i] - rate * sign
                logs[i] += speeds[i]
        after, best, kept = tried[0]
        done = LearnedScales(
            "metainit", "gradient quotient", trials.kind, first, after, self.steps, best, ()
        )
        return [math.exp(log) for log in kept], done

    def _slopes(
        self,
        trials: Trials,
        quotient: Tensor,
        parameters: Sequence[Scaled],
        values: Sequence[Tensor],
    ) -> list[float]:
        """Derivatives of the quotient by the factors; 0 for those that are not learned."""
        found = trials.gradients(quotient, values)
        return [
            0.0 if p.note else p.slope(gradient)
            for p, gradient in zip(parameters, found, strict=True)
        ]


def gradient_quotient(
    trials: Trials, values: Sequence[Tensor], batch: Batch, *, epsilon: float
) -> Tensor:
    """GQ at these values of the parameters, with its graph.

    NaN where the loss is not finite, or all of the gradient zero.

    Source: Dauphin and Schoenholz 2019, eq. 1.
    """
    loss = trials.loss(values, batch)
    gradients = [wide(g) for g in trials.gradients(loss, values, again=True)]
    square = total(g.square() for g in gradients) / 2
    products = [wide(p) for p in trials.gradients(square, values, again=True)]  # Hg
    if not bool(loss.isfinite()) or not any(bool(g.count_nonzero()) for g in gradients):
        return torch.full((), math.nan)
    changes = []
    for g, product in zip(gradients, products, strict=True):
        sign = torch.where(g >= 0, 1.0, -1.0).to(g.dtype)
        changes.append(((g - product) / (g + epsilon * sign) - 1).abs())
    return total(changes) / sum(value.numel() for value in values)


def _not_finite(kind: str) -> CalibrationError:
    return CalibrationError(
        "calibrate: metainit starts where the loss and the gradient quotient are finite. Got NaN "
        f"or infinity, or a gradient of zero ({kind}). Scale the model first, by "
        'fanin.calibrate(model, batch, "lsuv"), or correct the batch; nothing has changed.'
    )
