"""`calibrate`: weights scaled by what a batch does in the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, TypeAlias

from torch import nn

from fanin.calibration import units
from fanin.calibration.calibration import Calibration, CalibrationRow
from fanin.calibration.errors import CalibrationError
from fanin.calibration.layers import Layer, Names, layers_of
from fanin.calibration.lsuv import orthogonal_start, scale_layer
from fanin.calibration.passing import Call, visit_layers
from fanin.calibration.weights import restored_on_failure
from fanin.errors import ArgumentError, UnknownNameError, one_of
from fanin.model.view import identity
from fanin.probing.measuring.arguments import checked_model
from fanin.probing.measuring.statistics import std_and_rms
from fanin.stream.key import checked_seed, generator_bits

__all__ = ["Method", "calibrate"]

Method: TypeAlias = Literal["lsuv", "weight_norm"]

_METHODS = ("lsuv", "weight_norm")


def calibrate(
    model: nn.Module,
    batch: object,
    method: Method = "lsuv",
    *,
    target: float = 1.0,
    tolerance: float = 0.05,
    max_iterations: int = 10,
    orthogonal: bool | None = None,
    seed: int | None = None,
    only: Names = None,
    skip: Names = None,
) -> Calibration:
    """Scale a model's weights, layer by layer, until each output has the std that is wanted.

    Layers come in the order in which the forward pass calls them, whatever the order in which they
    were registered, and each is measured at its first call. ``"lsuv"`` draws orthogonal weights
    and then scales each layer by one factor. ``"weight_norm"`` keeps the directions of weights and
    gives each unit mean 0 and the target std, through its scale and bias.

    A layer is any module with weights: linear, convolutions, embeddings, attention as one (by its
    output projection), a user's own. Recurrent ones, frozen ones, those whose parametrization
    fixes their scale (`spectral_norm`), and those that share a weight with an earlier one are left
    alone, with the reason in their row. Parametrized weights are written through
    ``right_inverse``.

    Passes run in the mode that the model is in, dropout included, with the same random numbers.
    But for the weights and biases of layers everything is as before: running statistics and other
    buffers, gradients, modes, random generators. After an exception the weights are, too.

    Memory: a copy of the layers' parameters, and what one forward pass without gradients needs.

    Args:
        model: with values, whole on this process; wrappers such as DDP are left out.
        batch: as inputs of `fanin.probe`: a tensor, positional arguments in a tuple or list, or
            named ones in a mapping.
        method: ``"lsuv"`` or ``"weight_norm"``.
        target: std of every layer's output.
        tolerance: by what share of the target it may differ.
        max_iterations: how often a layer is scaled at most; without biases one is enough.
        orthogonal: for lsuv: whether orthogonal weights and zero biases are drawn first, as
            published; False keeps the values there are. Lookup tables keep theirs in any case.
        seed: of these draws, in ``[0, 2**64)``; None takes 64 bits from torch's default generator.
        only: names or globs of the layers to calibrate.
        skip: names or globs of layers to leave alone, such as a classifier whose first outputs
            are to be small.

    Returns:
        A `Calibration`; ``print`` shows a row a layer.

    Raises:
        CalibrationError: when the pass raises, a layer returns a constant, NaN or infinity, or no
            layer is called.
        ArgumentError: for an argument that is no such thing, and names that fit no layer.
        PlanError: when parameters or buffers have no values yet.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))
        >>> done = calibrate(model, torch.randn(256, 64), seed=0)
        >>> [(row.name, round(row.after, 1), row.iterations) for row in done.rows]
        [('0', 1.0, 0), ('2', 1.0, 1)]

    Source: Mishkin and Matas 2016, arXiv:1511.06422; Salimans and Kingma 2016, arXiv:1602.07868.
    """
    _check(method, target, tolerance, max_iterations, orthogonal, seed)
    model = checked_model(model, asked="calibrate")
    layers = layers_of(model, only=only, skip=skip)
    if method == "weight_norm":
        layers = tuple(replace(each, note=each.note or units.obstacle(each)) for each in layers)
    draws = method == "lsuv" and orthogonal is not False
    if draws:
        seed = generator_bits(None) if seed is None else checked_seed(seed)
    running = _Running(layers, _step(method, target, tolerance, max_iterations))
    places = [site for each in layers for site in (*(w.site for w in each.weights), *each.others)]
    with restored_on_failure(places):
        if draws:
            orthogonal_start(model, layers, seed=seed or 0).apply(model)
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
    return Calibration(method, target, tolerance, rows, seed if draws else None)


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
        self, method: Method, target: float, tolerance: float
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
    method: Method, target: float, tolerance: float, max_iterations: int
) -> Callable[[Call], CalibrationRow]:
    if method == "weight_norm":
        return lambda call: units.normalize_units(call, target=target)
    return lambda call: scale_layer(
        call, target=target, tolerance=tolerance, max_iterations=max_iterations
    )


def _check(
    method: str,
    target: float,
    tolerance: float,
    max_iterations: int,
    orthogonal: bool | None,
    seed: int | None,
) -> None:
    if method not in _METHODS:
        raise UnknownNameError(
            f"calibrate: a method of a closed list. Got {method!r} for method. "
            f"{one_of(str(method), _METHODS)}"
        )
    for name, value in (("target", target), ("tolerance", tolerance)):
        if not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise ArgumentError(
                f"calibrate: {name} is a finite number above 0. Got {value!r} for {name}."
            )
    if not isinstance(max_iterations, int) or max_iterations < 1:
        raise ArgumentError(
            f"calibrate: max_iterations is 1 or more. Got {max_iterations!r} for max_iterations."
        )
    if method == "weight_norm" and (orthogonal or seed is not None):
        raise ArgumentError(
            "calibrate: weight_norm draws nothing. Got orthogonal= or seed=, which are for lsuv. "
            "Leave them out."
        )
