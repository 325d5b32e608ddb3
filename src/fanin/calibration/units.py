"""Data-dependent first values: every unit's output gets mean 0 and the target as its std."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from fanin.calibration.calibration import CalibrationRow
from fanin.calibration.errors import CalibrationError
from fanin.calibration.layers import Layer
from fanin.calibration.lsuv import measured_std
from fanin.calibration.passing import Call
from fanin.model import Site, layout_of

__all__ = ["normalize_units", "obstacle", "worst_unit", "written"]


def normalize_units(call: Call, *, target: float) -> CalibrationRow:
    """Scale the weights of each unit by 1 / std of its output, and shift its bias by the mean.

    On a layer of `weight_norm` that sets g and the bias, as published; on any other it comes to
    the same function.

    Raises:
        CalibrationError: for an output that is not finite, and for units that are constant.

    Source: Salimans and Kingma 2016, arXiv:1602.07868, section 3.
    """
    layer = call.layer
    before = measured_std(call)
    mean, std = _by_unit(call)
    dead = (std == 0).nonzero()[:, 0].tolist()
    if dead:
        raise CalibrationError(
            "calibrate: the output of every unit varies over the batch. Got a constant for "
            f"{len(dead)} of {len(std)} units of {layer.label}, unit {dead[0]} the first. Give "
            f"them other first values, a larger batch, or pass skip={layer.name!r}; nothing has "
            "changed."
        )
    (weight,) = layer.weights
    factors = target / std
    weight.begin()
    weight.scale(_along_weight(factors, layer).to(weight.site.tensor.device))
    for bias in (site.tensor for site in _biases(layer)):
        with torch.no_grad():
            shifted = (bias.detach().double() - mean.to(bias.device)) * factors.to(bias.device)
            bias.copy_(shifted.to(bias.dtype))
    call.repeat()
    return CalibrationRow(
        layer.name, layer.kind, before, factor=float(factors.log().mean().exp()), iterations=1
    )


def worst_unit(call: Call, *, target: float) -> float:
    """The largest difference of a unit from the target, and from mean 0 where it has a bias."""
    mean, std = _by_unit(call)
    worst = float((std / target - 1).abs().max())
    return max(worst, float(mean.abs().max()) / target) if _biases(call.layer) else worst


def obstacle(layer: Layer) -> str:
    """Why a layer's units cannot be told apart; empty where they can."""
    if any(weight.site.dtype.is_complex for weight in layer.weights):
        return "its weight has no real numbers"
    if isinstance(layer.module, _ConvNd):
        return ""
    if len(layer.weights) != 1 or isinstance(layer.module, nn.MultiheadAttention):
        return "several of its weights make one unit"
    layout = layout_of(layer.weights[0].site)
    if layout is None or len(layout.out_axes) != 1 or layout.is_lookup or layout.batch_axes:
        return "its weight has no axis of units"
    return ""


def written(layer: Layer) -> list[Site]:
    """The weights and the bias that are set."""
    return [*(weight.site for weight in layer.weights), *_biases(layer)]


def _by_unit(call: Call) -> tuple[Tensor, Tensor]:
    """Mean and std of each unit's output over all else, in float64 on the CPU."""
    tensor = call.signal
    assert tensor is not None
    module = call.layer.module
    dim = -1
    if isinstance(module, _ConvNd):
        dim = tensor.dim() - module.weight.dim() + 1  # an input without a batch axis has one less
    units = tensor.detach().movedim(dim, -1).reshape(-1, tensor.shape[dim]).double().cpu()
    return units.mean(0), units.std(0, correction=0)


def _along_weight(factors: Tensor, layer: Layer) -> Tensor:
    """Factors of units, shaped to be multiplied with the weight."""
    site = layer.weights[0].site
    shape, module = site.shape, layer.module
    ones = [1] * (len(shape) - 2)
    if isinstance(module, _ConvTransposeNd):  # (in, out / groups, *kernel)
        per_group = factors.view(module.groups, 1, -1)
        rows = per_group.expand(-1, shape[0] // module.groups, -1).reshape(shape[0], -1)
        return rows.view(*rows.shape, *ones)
    layout = layout_of(site)
    assert layout is not None
    axis = layout.out_axes[0] % len(shape)
    return factors.view([-1 if dim == axis else 1 for dim in range(len(shape))])


def _biases(layer: Layer) -> list[Site]:
    """One, or none."""
    return [s for s in layer.others if s.attribute == "bias" and s.through is None][:1]
