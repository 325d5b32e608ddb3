"""Layers scaled one after the other, in the order in which a forward pass calls them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal, TypeAlias

from torch import nn

from fanin.calibration import units
from fanin.calibration.calibration import Calibration, CalibrationRow
from fanin.calibration.errors import CalibrationError
from fanin.calibration.layers import Layer, layers_of, without_fixed
from fanin.calibration.lsuv import orthogonal_start, scale_layer
from fanin.calibration.passing import Call, visit_layers
from fanin.calibration.selection import Names
from fanin.calibration.weights import kept, restored_on_failure
from fanin.model import Site
from fanin.model.view import identity
from fanin.planning import Plan
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
    pass_seed: int | None,
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
        pass_seed: of torch's generators in each pass; None leaves them as they are.
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
    layers = without_fixed(layers)
    places = [site for each in layers for site in each.places]
    with restored_on_failure(places) as undo:
        step = _step(method, target, tolerance, max_iterations)
        written = units.written if method == "weight_norm" else _weights
        running = _Running(layers, step, written, undo)
        if orthogonal_seed is not None:
            running.draw(orthogonal_start(model, layers, seed=orthogonal_seed), model)
        visit_layers(
            model, batch, layers, running.calibrate, seed=pass_seed, prepare=running.prepare
        )
        running.finish()
        if not running.rows:
            raise CalibrationError(
                "calibrate: the forward pass calls a layer with weights. Got none of "
                f"{len(layers)}. Pass a model that has some, and calls them as modules."
            )
        measurement = running.measurement(method, target, tolerance)
        visit_layers(model, batch, layers, measurement, seed=pass_seed)
    never = [running.never_called(each) for each in layers if each.name not in running.rows]
    rows = (*running.rows.values(), *never)
    return Calibration(method, target, tolerance, rows, orthogonal_seed)


class _Running:
    """Rows in the making, by the names of layers, in the order of first calls."""

    def __init__(
        self,
        layers: tuple[Layer, ...],
        step: Callable[[Call], CalibrationRow],
        written: Callable[[Layer], list[Site]],
        undo: Mapping[int, Callable[[], None]],
    ) -> None:
        self.rows: dict[str, CalibrationRow] = {}
        self._layers = layers
        self._step = step
        self._written = written  # the places that a step writes
        self._undo = undo  # what restores a place, by the id of its site
        self._draws: dict[int, Callable[[], None]] = {}  # what writes its first values
        self._drawn: dict[object, str] = {}  # layers that have them, by identity of the place
        self._owners: dict[object, str] = {}  # of places that were written, by identity
        self._kept = {  # layers that are left alone, by identity of what they hold
            identity(site): each.name for each in layers if each.note for site in each.places
        }

    def draw(self, plan: Plan, model: nn.Module) -> None:
        """Draw first values, and hold them until a layer is called: many a layer never is."""
        plan.apply(model)
        sites = [site for each in self._layers if not each.note for site in each.places]
        self._draws = {id(site): kept(site) for site in sites}
        for restore in self._undo.values():
            restore()

    def prepare(self, layer: Layer) -> None:
        """Write a layer's first values, before its first call."""
        if layer.note or not self._draws or self._shared(layer):
            return
        for site in layer.places:
            if self._drawn.setdefault(identity(site), layer.name) == layer.name:
                self._draws[id(site)]()

    def calibrate(self, call: Call) -> None:
        """Write the weights of a layer, unless there is a reason not to."""
        layer = call.layer
        note = layer.note or self._obstacle(call)
        if note:
            self.rows[layer.name] = CalibrationRow(layer.name, layer.kind, note=note)
        else:
            self._owners |= {identity(site): layer.name for site in self._written(layer)}
            self.rows[layer.name] = self._step(call)
        if self.rows[layer.name].note:
            self._take_back(call)

    def _take_back(self, call: Call) -> None:
        """A layer that is left alone does without the values that were drawn for it."""
        layer = call.layer
        written = {id(site): site for site in self._drawn_for(layer)}
        if self.rows[layer.name].before is not None:
            written |= {id(weight.site): weight.site for weight in layer.weights}
        for place in written:
            self._undo[place]()
        for weight in layer.weights:
            weight.forget()
        if written:
            call.repeat()
        self._drawn = {place: name for place, name in self._drawn.items() if name != layer.name}

    def finish(self) -> None:
        """Write once more what parametrizations compute: buffers are taken back after a pass."""
        for layer in self._layers:
            for site in self._drawn_for(layer):
                if site.through is not None:
                    self._draws[id(site)]()
            for weight in layer.weights:
                weight.finish()

    def _drawn_for(self, layer: Layer) -> list[Site]:
        return [site for site in layer.places if self._drawn.get(identity(site)) == layer.name]

    def never_called(self, layer: Layer) -> CalibrationRow:
        """Its row, which says where its values changed all the same: as those of another layer."""
        owners = self._drawn | self._owners
        tied = [(site.attribute, owners.get(identity(site))) for site in layer.places]
        shared = [f"its {attribute} is that of {owner!r}" for attribute, owner in tied if owner]
        note = layer.note or "; ".join(("never called", *shared))
        return CalibrationRow(layer.name, layer.kind, note=note)

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
        return self._shared(call.layer)

    def _shared(self, layer: Layer) -> str:
        for site in self._written(layer):
            owner = self._owners.get(identity(site))
            if owner is not None:
                return f"its {site.attribute} is that of {owner!r}"
            owner = self._kept.get(identity(site))
            if owner is not None:
                return f"its {site.attribute} is that of {owner!r}, which is left alone"
        return ""


def _weights(layer: Layer) -> list[Site]:
    """The places that LSUV scales."""
    return [weight.site for weight in layer.weights]


def _step(
    method: LayerMethod, target: float, tolerance: float, max_iterations: int
) -> Callable[[Call], CalibrationRow]:
    if method == "weight_norm":
        return lambda call: units.normalize_units(call, target=target)
    return lambda call: scale_layer(
        call, target=target, tolerance=tolerance, max_iterations=max_iterations
    )
