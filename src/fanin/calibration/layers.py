"""The layers of a model that can be calibrated, with the weights that are scaled for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from fanin.calibration.selection import Names, left_out
from fanin.calibration.weights import Weight, is_frozen
from fanin.model import Site, sites
from fanin.model.view import identity
from fanin.probing.measuring.modules import Watched, watched

__all__ = ["Layer", "layers_of", "without_fixed"]


@dataclass(frozen=True, eq=False, slots=True)
class Layer:
    """A module with weights and none below it that has some.

    Args:
        name: its first canonical name.
        kind: its class.
        module: that is called.
        weights: to be scaled.
        others: its other parameters: biases, and weights that another scale makes up for.
        note: why it is to be left alone; empty where it is not.
    """

    name: str
    kind: str
    module: nn.Module
    weights: tuple[Weight, ...]
    others: tuple[Site, ...]
    note: str = ""

    @property
    def places(self) -> tuple[Site, ...]:
        """Of the weights and the others."""
        return (*(weight.site for weight in self.weights), *self.others)

    @property
    def label(self) -> str:
        """For messages."""
        return f"{self.name!r} ({self.kind})" if self.name else self.kind


def layers_of(model: nn.Module, *, only: Names, skip: Names) -> tuple[Layer, ...]:
    """Every layer in registration order, those that are to be left alone included.

    Raises:
        ArgumentError: when ``only`` or ``skip`` names no layer.
    """
    found = [place for place in watched(model) if place.is_layer]
    names = [place.name for place in found]
    chosen_out = left_out(names, only=only, skip=skip, what="layers with weights")
    held = _held(model, found)
    layers = []
    for place in found:
        weights, others = _parted(place.module, held[id(place.module)])
        note = chosen_out.get(place.name) or _obstacle(place.module, weights)
        layers.append(Layer(place.name, place.kind, place.module, weights, others, note))
    return tuple(layers)


def without_fixed(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """The layers, without other parameters that are frozen or are those of one left alone."""
    fixed = {identity(site) for each in layers if each.note for site in each.places}

    def is_free(site: Site) -> bool:
        return not is_frozen(site) and identity(site) not in fixed

    return tuple(
        each if each.note else replace(each, others=tuple(filter(is_free, each.others)))
        for each in layers
    )


def _held(model: nn.Module, found: Sequence[Watched]) -> dict[int, list[Site]]:
    """The parameters in each layer, by the id of its module; a shared module's once."""
    held: dict[int, dict[tuple[int, str], Site]] = {id(place.module): {} for place in found}
    for site in sites(model):
        for parent in reversed(site.parents):
            if id(parent) in held:
                held[id(parent)].setdefault((id(site.module), site.attribute), site)
                break
    return {layer: list(places.values()) for layer, places in held.items()}


def _parted(module: nn.Module, held: Sequence[Site]) -> tuple[tuple[Weight, ...], tuple[Site, ...]]:
    """What is scaled, and the rest.

    The output of attention is linear in its last projection. The projections before it set how
    sharply it attends, which no std of an output tells: they are not scaled.
    """
    if isinstance(module, nn.MultiheadAttention):
        chosen = [site for site in held if site.module is module.out_proj and _is_weight(site)]
    else:
        chosen = [site for site in held if _is_weight(site)]
    rest = tuple(site for site in held if all(site is not each for each in chosen))
    return tuple(map(Weight, chosen)), rest


def _is_weight(site: Site) -> bool:
    return len(site.shape) > 1 and (site.dtype.is_floating_point or site.dtype.is_complex)


def _obstacle(module: nn.Module, weights: Sequence[Weight]) -> str:
    """Why a layer cannot be calibrated; empty where it can."""
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return "a recurrent layer's output is bounded by its gates, not scaled by its weights"
    if not weights:
        return "it has no weight of floating point"
    for weight in weights:
        if weight.is_frozen:
            return f"{weight.site.attribute!r} is frozen"
        reason = weight.obstacle()
        if reason:
            return reason
    return ""
