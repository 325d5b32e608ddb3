"""Models measured over several draws of their weights, beside what is predicted of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fanin.flow.moments import ParameterMoments, Prediction, predict
from fanin.flow.trace import trace
from fanin.probing import probe


@dataclass(frozen=True)
class Row:
    """One call of a module: medians over the draws, and the prediction."""

    label: str
    std: float
    predicted: float
    spread: float
    gradient: float | None
    predicted_gradient: float | None

    @property
    def error(self) -> float:
        """|log(measured / predicted)|."""
        return abs(math.log(self.std / self.predicted))

    @property
    def gradient_error(self) -> float:
        """Likewise, of the gradient."""
        assert self.gradient
        assert self.predicted_gradient
        return abs(math.log(self.gradient / self.predicted_gradient))


def drawn(model: nn.Module, *, gain: float = 1.0) -> nn.Module:
    """Normal weights of std gain / sqrt(fan_in), biases of std 0.1."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
                fan_in = module.weight[0].numel()
                module.weight.normal_(0, gain / math.sqrt(fan_in))
                if module.bias is not None:
                    module.bias.normal_(0, 0.1)
    return model


def parameter_moments(model: nn.Module) -> dict[str, ParameterMoments]:
    """Of one draw: the mean of vectors, and every std; matrices are drawn around 0."""
    result = {}
    for name, parameter in model.named_parameters():
        values = parameter.detach()
        mean = float(values.mean()) if values.ndim == 1 else 0.0
        std = float(values.std(correction=0)) if values.numel() > 1 else 0.0
        result[name] = ParameterMoments(mean, std)
    return result


def predicted(
    model: nn.Module,
    inputs: Any,
    *,
    data: dict[str, Tensor] | None = None,
    gradients: bool = True,
) -> Prediction:
    """From the moments of the weights that a model has."""
    return predict(
        trace(model, inputs),
        parameter_moments(model),
        data,
        buffers=dict(model.named_buffers()),
        gradients=gradients,
    )


def measured(
    make: Callable[[], nn.Module],
    inputs: Callable[[], Any],
    *,
    draws: int = 5,
    backward: bool = False,
) -> list[Row]:
    """A row for every call that the probe reports and the trace knows."""
    found: dict[tuple[str, int], list[tuple[float, float | None]]] = {}
    with torch.random.fork_rng():
        for seed in range(draws):
            torch.manual_seed(seed)
            report = probe(make(), inputs(), backward=backward)
            for row in report.rows:
                gradient = row.gradient.rms if row.gradient is not None else None
                found.setdefault((row.name, row.call), []).append((row.output.std, gradient))
        torch.manual_seed(0)
        model, example = make(), inputs()
    prediction = predicted(model, example, gradients=backward)
    return list(_rows(found, prediction))


def _rows(
    found: dict[tuple[str, int], list[tuple[float, float | None]]], prediction: Prediction
) -> Iterator[Row]:
    for (name, call), values in found.items():
        expected = prediction.module(name, call)
        if expected is None:
            continue
        gradients = [gradient for _, gradient in values if gradient is not None]
        yield Row(
            f"{name} ({call})",
            statistics.median(std for std, _ in values),
            expected.median,
            expected.spread,
            statistics.median(gradients) if gradients else None,
            expected.gradient_rms,
        )
