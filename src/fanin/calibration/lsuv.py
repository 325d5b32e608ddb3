"""LSUV: each layer's weights are scaled until the std of its output is the target."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import nn

from fanin.calibration.calibration import CalibrationRow
from fanin.calibration.errors import CalibrationError
from fanin.calibration.layers import Layer
from fanin.calibration.passing import Call
from fanin.initializers import orthogonal, zeros
from fanin.model import Site, layout_of
from fanin.model.view import identity
from fanin.planning import Plan, Recipe, keep, rule
from fanin.planning.resolve import make_plan
from fanin.probing.measuring.statistics import std_and_rms

__all__ = ["measured_std", "orthogonal_start", "scale_layer"]

_FOLLOWS = 1e-3  # d log std / d log scale, below which a scale does nothing
_FLATTEST, _STEEPEST = 0.05, 16.0  # between which one measurement of it is believed
_TELLING = 0.1  # change of the log scale from which roundings do not hide what it does
_FARTHEST = 80.0  # of log scales: float32 holds e to +-88


def scale_layer(
    call: Call, *, target: float, tolerance: float, max_iterations: int
) -> CalibrationRow:
    """Scale the weights of the layer that was called, all by one factor; the call's output follows.

    The std of an output grows like a power of the scale, the first for a layer without biases. The
    power is measured from step to step, so that biases and products of weights cost few steps.
    Where it is none the target is out of reach, and the weights stay as they were.

    Raises:
        CalibrationError: for an output that is constant or not finite.
    """
    layer = call.layer
    std = before = measured_std(call)
    wanted = math.log(target)
    for weight in layer.weights:
        weight.begin()
    power = float(len(layer.weights))
    tried = [(abs(math.log(std) - wanted), 0.0)]  # distance from the target, log of the scale
    log_scale = 0.0
    while abs(std / target - 1) > tolerance and len(tried) <= max_iterations:
        previous, log_std = log_scale, math.log(std)
        log_scale += (wanted - log_std) / power
        log_scale = min(max(log_scale, -_FARTHEST), _FARTHEST)
        std = _tried(call, log_scale)
        if not 0 < std < math.inf:
            break
        tried.append((abs(math.log(std) - wanted), log_scale))
        if log_scale == previous:
            break
        measured = (math.log(std) - log_std) / (log_scale - previous)
        is_telling = len(tried) == 2 or abs(log_scale - previous) > _TELLING
        if is_telling and abs(measured) < _FOLLOWS:
            _tried(call, 0.0)
            note = "its output does not follow the scale of its weights"
            return CalibrationRow(layer.name, layer.kind, before, note=note)
        power = min(max(measured, _FLATTEST), _STEEPEST)
    best = min(tried)[1]
    if best != log_scale:
        _tried(call, best)
    return CalibrationRow(
        layer.name,
        layer.kind,
        before,
        factor=math.exp(best),
        iterations=len(tried) - 1,
    )


def measured_std(call: Call) -> float:
    """Std of all entries of the output.

    Raises:
        CalibrationError: where it is 0, or not finite.
    """
    tensor = call.signal
    assert tensor is not None
    if not tensor.numel():
        raise CalibrationError(
            f"calibrate: what layers return has entries. Got none in the output of "
            f"{call.layer.label}. Pass a batch that is not empty; nothing has changed."
        )
    std = std_and_rms(tensor)[0]
    if not math.isfinite(std):
        got = "NaN" if math.isnan(std) else "infinity"
        raise CalibrationError(
            f"calibrate: what layers return is finite. Got {got} in the output of "
            f"{call.layer.label}. Give the model other first values, or correct the batch; nothing "
            "has changed."
        )
    if std == 0:
        raise CalibrationError(
            "calibrate: the output of a layer varies over units or inputs. Got the same number "
            f"everywhere, of {call.layer.label}: its weights or what reaches it are zero. Give it "
            f"other first values, a larger batch, or pass skip={call.layer.name!r}; nothing has "
            "changed."
        )
    return std


def orthogonal_start(model: nn.Module, layers: tuple[Layer, ...], *, seed: int) -> Plan:
    """The plan of orthogonal weights and zero biases for the layers that are calibrated.

    Lookup tables and weights whose axes nobody states stay as they are, and so does everything
    that is shared with such.
    """
    weights: set[object] = set()
    biases: set[object] = set()
    kept: set[object] = set()
    for layer in layers:
        is_lookup = False
        for site in layer.places:
            layout = layout_of(site)
            is_lookup |= layout is not None and layout.is_lookup
            is_matrix = layout is not None and layout.in_axes and layout.out_axes
            group = weights if is_matrix and not is_lookup and not layer.note else kept
            if not layer.note and len(site.shape) == 1 and "bias" in site.attribute:
                group = biases
            group.add(identity(site))

    def among(group: set[object]) -> Callable[[Site], bool]:
        return lambda site: identity(site) in group and identity(site) not in kept

    rules = (
        rule(lambda site: True, keep()),
        rule(among(weights), orthogonal(), label="orthogonal"),
        rule(among(biases), zeros(), label="bias"),
    )
    return make_plan(model, Recipe("lsuv", 1, rules), seed=seed)


def _tried(call: Call, log_scale: float) -> float:
    """The std with this scale; not finite or 0 where the weights then have no such."""
    for weight in call.layer.weights:
        weight.scale(math.exp(log_scale))
    call.repeat()
    tensor = call.signal
    assert tensor is not None
    return std_and_rms(tensor)[0]
