"""Layers scaled one after the other, in the order in which a forward pass calls them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, TypeAlias

from torch import nn

from fanin.calibration import units
from fanin.calibration.calibration import Calibration, CalibrationRow
from fanin.calibration.errors import CalibrationError
from fanin.calibration.layers import Layer, layers_of
from fanin.calibration.lsuv import orthogonal_start, scale_layer
from fanin.calibration.passing import Call, visit_layers
from fanin.calibration.selection import Names
from fanin.calibration.weights import restored_on_failure
from fanin.model.view import identity
from fanin.probing.measuring.statistics import std_and_rms

__all__ = ["LayerMethod", "scale_layers"]

LayerMethod: TypeAlias = Literal["lsuv", "weight_norm"]


def scale_layers(
    model: nn.Module,
    batch: object,
    method: LayerMethod,
    *,
    target: float,
    tolerance: float,
    max_iterations: int,
    orthogonal_seed: int | None,
    only: Names,
    skip: Names,
) -> Calibration:
    """Scale each layer at its first call; then measure all in one more pass.

    Args:
        model: with values.
        batch: that is passed through.
        method: ``"lsuv"`` or ``"weight_norm"``.
        target: std of every layer's output.
        tolerance: by what share of the target it may differ.
        max_iterations: how often a layer is scaled at most.
        orthogonal_seed: of orthogonal weights that are drawn first; None draws none.
        only: names or globs of the layers to calibrate.
        skip: of those to leave alone.

    Raises:
        CalibrationError: when the pass raises, a layer returns a constant, NaN or infinity, or no
            layer is called.
        ArgumentError: for names that fit no layer.
    """
    layers = layers_of(model, only=only, skip=skip)
    if method == "weight_norm":
        layers = tuple(replace(each, note=each.note or units.obstacle(each)) for each in layers)
    running = _Running(layers, _step(method, target, tolerance, max_iterations))
    places = [site for each in layers for site in (*(w.site for w in each.weights), *each.others)]
    with restored_on_failure(places):
        if orthogonal_seed is not None:
            orthogonal_start(model, layers, seed=orthogonal_seed).apply(model)
        visit_layers(model, batch, layers, running.calibrate)
        for layer in layers:
            for weight in layer.weights:
                weight.finish()
        if not running.rows:
            raise CalibrationError(
                "calibrate: the forward pass calls a layer with weights. Got none of "
                f"{len(layers)}. Pass a model that has some, and calls them as modules."
            )
        visit_layers(model, batch, layers, running.measurement(method, target, tolerance))
    never = [
        CalibrationRow(each.name, each.kind, note=each.note or "never called")
        for each in layers
        if each.name not in running.rows
    ]
    rows = (*running.rows.values(), *never)
    return Calibration(method, target, tolerance, rows, orthogonal_seed)


class _Running:
    """Rows in the making, by the names of layers, in the order of first calls."""

    def __init__(self, layers: tuple[Layer, ...], step: Callable[[Call], CalibrationRow]) -> None:
        self.rows: dict[str, CalibrationRow] = {}
        self._step = step
        self._owners: dict[object, str] = {}  # of weights that are calibrated, by identity

    def calibrate(self, call: Call) -> None:
        """Write the weights of a layer, unless there is a reason not to."""
        layer = call.layer
        note = layer.note or self._obstacle(call)
        if note:
            self.rows[layer.name] = CalibrationRow(layer.name, layer.kind, note=note)
            return
        self._owners |= {identity(weight.site): layer.name for weight in layer.weights}
        self.rows[layer.name] = self._step(call)

    def measurement(
        self, method: LayerMethod, target: float, tolerance: float
    ) -> Callable[[Call], None]:
        """A visit that notes what came of it, in a pass through the model as it is now."""

        def measure(call: Call) -> None:
            row, tensor = self.rows.get(call.layer.name), call.signal
            if row is None or tensor is None:
                return
            std = std_and_rms(tensor)[0]
            distance = abs(std / target - 1)
            if method == "weight_norm" and not row.note:
                distance = units.worst_unit(call, target=target)
            converged = not row.note and distance <= tolerance
            self.rows[call.layer.name] = replace(row, after=std, converged=converged)

        return measure

    def _obstacle(self, call: Call) -> str:
        if call.signal is None:
            return "its output has no floating-point numbers, or is inside a torch.func transform"
        for weight in call.layer.weights:
            owner = self._owners.get(identity(weight.site))
            if owner is not None:
                return f"its weight is that of {owner!r}"
        return ""


def _step(
    method: LayerMethod, target: float, tolerance: float, max_iterations: int
) -> Callable[[Call], CalibrationRow]:
    if method == "weight_norm":
        return lambda call: units.normalize_units(call, target=target)
    return lambda call: scale_layer(
        call, target=target, tolerance=tolerance, max_iterations=max_iterations
    )
