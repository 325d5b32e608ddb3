"""`calibrate`: weights scaled by what a batch does in the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, TypeAlias, cast, overload

from torch import nn
from torch.utils.data import DataLoader

from fanin.calibration.calibration import Calibration
from fanin.calibration.gradinit import GradInit
from fanin.calibration.layerwise import LayerMethod, scale_layers
from fanin.calibration.learned import LearnedScales
from fanin.calibration.learning import learn_scales
from fanin.calibration.metainit import MetaInit
from fanin.calibration.selection import Names
from fanin.calibration.trials import Batch, LossFunction
from fanin.errors import ArgumentError, UnknownNameError, one_of
from fanin.planning.seeding import drawn_seed
from fanin.probing.measuring.arguments import checked_model
from fanin.stream.key import checked_seed

__all__ = ["LearnedMethod", "calibrate"]

LearnedMethod: TypeAlias = Literal["metainit", "gradinit"] | MetaInit | GradInit

_LAYER_BY_LAYER = ("lsuv", "weight_norm")
_LEARNED: dict[str, type[MetaInit] | type[GradInit]] = {"metainit": MetaInit, "gradinit": GradInit}
_TARGET, _TOLERANCE, _ITERATIONS = 1.0, 0.05, 10


@overload
def calibrate(
    model: nn.Module,
    batch: object,
    method: LayerMethod = "lsuv",
    *,
    target: float = _TARGET,
    tolerance: float = _TOLERANCE,
    max_iterations: int = _ITERATIONS,
    orthogonal: bool | None = None,
    seed: int | None = None,
    only: Names = None,
    skip: Names = None,
) -> Calibration: ...
@overload
def calibrate(
    model: nn.Module,
    batch: object,
    method: LearnedMethod,
    *,
    loss: LossFunction | None = None,
    targets: object = None,
    only: Names = None,
    skip: Names = None,
) -> LearnedScales: ...
def calibrate(
    model: nn.Module,
    batch: object,
    method: LayerMethod | LearnedMethod = "lsuv",
    *,
    target: float = _TARGET,
    tolerance: float = _TOLERANCE,
    max_iterations: int = _ITERATIONS,
    orthogonal: bool | None = None,
    seed: int | None = None,
    loss: LossFunction | None = None,
    targets: object = None,
    only: Names = None,
    skip: Names = None,
) -> Calibration | LearnedScales:
    """Scale a model's weights by what a batch does in it.

    **Layer by layer**, until each output has the std that is wanted. Layers come in the order in
    which the forward pass calls them, whatever the order in which they were registered, and each
    is measured at its first call. ``"lsuv"`` draws orthogonal weights and then scales each layer by
    one factor. ``"weight_norm"`` keeps the directions of weights and gives each unit mean 0 and the
    target std, through its scale and bias. A layer is any module with weights: linear,
    convolutions, embeddings, attention as one (by its output projection), a user's own. Recurrent
    ones, frozen ones, those whose parametrization fixes their scale (`spectral_norm`), and those
    that share a weight with an earlier one are left alone, with the reason in their row.
    Parametrized weights are written through ``right_inverse``.

    **Learned**, all scales at once, by derivatives of what they do to the gradient. ``"metainit"``
    makes the gradient change as little as it can along a step of gradient descent; ``"gradinit"``
    makes the loss after one step of an optimizer small, with a bound on the gradient. A `MetaInit`
    or a `GradInit` states their settings. Any module will do whose operations have second
    derivatives; tied weights have one scale. Frozen parameters and those of parametrized weights
    keep theirs. The model is left alone until the scales are found.

    Passes run in the mode that the model is in, dropout included, with the same random numbers.
    But for the weights and biases that are calibrated everything is as before: running statistics
    and other buffers, gradients, modes, random generators. After an exception the weights are, too.
    A layer that shares a weight changes with it, called or not, which its row says.

    Memory: layer by layer, a copy of the layers' parameters, two where orthogonal ones are drawn,
    and what one forward pass without gradients needs, with two copies of a layer's inputs; learned,
    a copy of the parameters, and for metainit some 14 times what a training step needs, for
    gradinit three times.

    Args:
        model: with values, whole on this process; wrappers such as DDP are left out.
        batch: as inputs of `fanin.probe`: a tensor, positional arguments in a tuple or list, or
            named ones in a mapping; not a loader of batches.
        method: ``"lsuv"``, ``"weight_norm"``, ``"metainit"`` or ``"gradinit"``; or a `MetaInit` or
            `GradInit`.
        target: layer by layer: std of every layer's output.
        tolerance: by what share of the target it may differ.
        max_iterations: how often a layer is scaled at most; without biases one is enough.
        orthogonal: for lsuv: whether orthogonal weights and zero biases are drawn first, as
            published; False keeps the values there are. Lookup tables keep theirs in any case.
        seed: of these draws and of dropout in the passes, in ``[0, 2**64)``; None takes 64 bits
            from torch's default generator, where something is drawn.
        loss: learned: a function of the model's output, and of ``targets`` where they are given,
            that returns one number. Without it the model's own loss is taken, where it returns
            one; metainit makes do with a random projection of the outputs.
        targets: for ``loss``: tensors, with a row for each row of the batch. gradinit then takes
            the gradient on two thirds of the rows, and the loss on other two thirds; with a loss of
            the output alone both are on the whole batch.
        only: names or globs of the layers, or parameters, to calibrate.
        skip: of those to leave alone, such as a classifier whose first outputs are to be small.

    Returns:
        A `Calibration`, whose ``print`` shows a row a layer; where scales are learned, a
        `LearnedScales` with a row a parameter.

    Raises:
        CalibrationError: when a pass raises, a layer returns a constant, NaN or infinity, no layer
            is called; when a loss is not finite, or has no second derivatives.
        ArgumentError: for an argument that is no such thing, a loader in place of a batch, one of
            another method, and names that fit no layer; when gradinit has no loss.
        PlanError: when parameters or buffers have no values yet.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))
        >>> batch = torch.randn(256, 64)
        >>> done = calibrate(model, batch, seed=0)
        >>> [(row.name, round(row.after, 1), row.iterations) for row in done.rows]
        [('0', 1.0, 0), ('2', 1.0, 1)]
        >>> learned = calibrate(model, batch, MetaInit(steps=5))
        >>> learned.after <= learned.before
        True

    Source: Mishkin and Matas 2016, arXiv:1511.06422; Salimans and Kingma 2016, arXiv:1602.07868;
        Dauphin and Schoenholz 2019, NeurIPS 32; Zhu et al. 2021, arXiv:2102.08098.
    """
    _check_batch(batch)
    settings = _LEARNED[method]() if isinstance(method, str) and method in _LEARNED else method
    if isinstance(settings, MetaInit | GradInit):
        _check_learned(settings, target, tolerance, max_iterations, orthogonal, seed)
        _check_loss(loss, targets)
        model = checked_model(model, asked="calibrate")
        whole = Batch(batch, targets)
        return learn_scales(model, whole, settings, loss=loss, only=only, skip=skip)
    if method not in _LAYER_BY_LAYER:
        raise UnknownNameError(
            f"calibrate: a method of a closed list. Got {method!r} for method. "
            f"{one_of(str(method), (*_LAYER_BY_LAYER, *_LEARNED))}"
        )
    _check_layers(method, target, tolerance, max_iterations, orthogonal, seed)
    if loss is not None or targets is not None:
        raise ArgumentError(
            f"calibrate: {method} looks at outputs of layers alone. Got loss= or targets=, which "
            "are for metainit and gradinit. Leave them out."
        )
    model = checked_model(model, asked="calibrate")
    draws = method == "lsuv" and orthogonal is not False
    seed = None if seed is None else checked_seed(seed)
    given: AbstractContextManager[int | None] = nullcontext(seed)
    with drawn_seed() if draws and seed is None else given as bits:
        return scale_layers(
            model,
            batch,
            cast(Any, method),
            target=target,
            tolerance=tolerance,
            max_iterations=max_iterations,
            pass_seed=bits,
            orthogonal_seed=bits if draws else None,
            only=only,
            skip=skip,
        )


def _check_batch(batch: object) -> None:
    if isinstance(batch, Iterator | DataLoader):
        raise ArgumentError(
            "calibrate: the batch is what the model is called with, and more than once. Got "
            f"{type(batch).__name__}, which gives one batch after another. Pass one of them, "
            "without its targets: for instance inputs, targets = next(iter(loader))."
        )


def _check_layers(
    method: str,
    target: float,
    tolerance: float,
    max_iterations: int,
    orthogonal: bool | None,
    seed: int | None,
) -> None:
    for name, value in (("target", target), ("tolerance", tolerance)):
        if not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise ArgumentError(
                f"calibrate: {name} is a finite number above 0. Got {value!r} for {name}."
            )
    is_count = isinstance(max_iterations, int) and not isinstance(max_iterations, bool)
    if not is_count or max_iterations < 1:
        raise ArgumentError(
            f"calibrate: max_iterations is 1 or more. Got {max_iterations!r} for max_iterations."
        )
    if orthogonal not in (None, True, False):
        raise ArgumentError(
            f"calibrate: orthogonal is True, False or None. Got {orthogonal!r} for orthogonal."
        )
    if method == "weight_norm" and (orthogonal or seed is not None):
        raise ArgumentError(
            "calibrate: weight_norm draws nothing. Got orthogonal= or seed=, which are for lsuv. "
            "Leave them out."
        )


def _check_learned(
    method: MetaInit | GradInit,
    target: float,
    tolerance: float,
    max_iterations: int,
    orthogonal: bool | None,
    seed: int | None,
) -> None:
    given = {
        "target": target != _TARGET,
        "tolerance": tolerance != _TOLERANCE,
        "max_iterations": max_iterations != _ITERATIONS,
        "orthogonal": orthogonal is not None,
        "seed": seed is not None,
    }
    wrong = ", ".join(f"{name}=" for name, is_given in given.items() if is_given)
    if wrong:
        kind = type(method).__name__
        raise ArgumentError(
            f"calibrate: {kind.lower()} learns scales, has no std as its target and draws nothing. "
            f"Got {wrong}, of lsuv and weight_norm. Its own settings are those of "
            f"fanin.calibration.{kind}(...), passed as the method."
        )


def _check_loss(loss: object, targets: object) -> None:
    if loss is not None and not callable(loss):
        raise ArgumentError(
            f"calibrate: loss= is a function of the model's output. Got {loss!r}. Pass for "
            "instance torch.nn.functional.cross_entropy, with targets=."
        )
    if loss is None and targets is not None:
        raise ArgumentError(
            "calibrate: targets= are what loss= compares the output with. Got targets without a "
            "loss. Pass loss= too, or the targets in the batch of a model that returns its loss."
        )
