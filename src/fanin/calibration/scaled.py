"""The parameters of a model as values times scales, apart from the model until they are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fanin.calibration.learned import ScaleRow
from fanin.calibration.selection import Names, left_out
from fanin.model import Entry
from fanin.model.view import entries

__all__ = ["Scaled", "parameters_of"]


@dataclass(frozen=True, eq=False, slots=True)
class Scaled:
    """A parameter that training changes, with all the names under which the model reads it.

    Args:
        name: canonical.
        paths: where it hangs in the model, tied places included.
        tensor: the parameter itself.
        start: a copy of what it holds.
        note: why its scale is not learned; empty where it is.
        is_listed: whether a report has a row for it.
    """

    name: str
    paths: tuple[str, ...]
    tensor: Tensor
    start: Tensor
    note: str = ""
    is_listed: bool = True

    def value(self, factor: float) -> Tensor:
        """The value at the start times a factor: a new leaf that asks for a gradient."""
        return self._times(factor).requires_grad_()

    def slope(self, gradient: Tensor) -> float:
        """Derivative by the factor, of what has this gradient by the value."""
        wide = torch.promote_types(self.start.dtype, torch.float32)
        return float((gradient.to(wide) * self.start.to(wide)).sum())

    @torch.no_grad()
    def write(self, factor: float) -> None:
        """Write what `value` has with this factor; a factor of 1 writes nothing."""
        if factor != 1:
            self.tensor.copy_(self._times(factor))

    @torch.no_grad()
    def restore(self) -> None:
        """Write the value at the start."""
        self.tensor.copy_(self.start)

    @torch.no_grad()
    def _times(self, factor: float) -> Tensor:
        if factor == 1:
            return self.start.clone()
        wide = torch.promote_types(self.start.dtype, torch.float32)
        return (self.start.to(wide) * factor).to(self.start.dtype)


def parameters_of(
    model: nn.Module, *, only: Names, skip: Names, weights_only: bool
) -> tuple[tuple[Scaled, ...], tuple[ScaleRow, ...]]:
    """The parameters that training changes; and rows of those it does not.

    Args:
        model: with values.
        only: names or globs of parameters, or of the modules that have them.
        skip: likewise.
        weights_only: whether scales are learned of tensors with two or more dims alone.

    Raises:
        ArgumentError: when ``only`` or ``skip`` fits nothing.
    """
    held = [entry for entry in entries(model) if not entry.owner.is_buffer]
    chosen_out = _chosen_out(held, only, skip)
    trained: list[Scaled] = []
    others: list[ScaleRow] = []
    for entry in held:
        tensor = entry.tensor.detach()
        if entry.owner.through is not None:
            trained += _behind(entry)
            others.append(_left(entry, "it is computed from other parameters"))
        elif not entry.tensor.requires_grad:
            others.append(_left(entry, "it is frozen"))
        elif not tensor.is_floating_point():
            others.append(_left(entry, "it has no real numbers"))
        else:
            is_small = weights_only and tensor.dim() < 2
            note = "it has fewer than two dims" if is_small else chosen_out.get(entry.name, "")
            if not note and not bool(tensor.count_nonzero()):
                note = "it is zero"
            paths = tuple(site.prefix + site.attribute for site in (entry.owner, *entry.others))
            kept = tensor.clone()
            trained.append(Scaled(entry.name, paths, entry.tensor, kept, note, not is_small))
    return tuple(trained), tuple(others)


def _chosen_out(held: Sequence[Entry], only: Names, skip: Names) -> dict[str, str]:
    """The note of each parameter that is left out, by its own name or by its module's."""
    modules = {entry.name: entry.name.rpartition(".")[0] for entry in held}
    names = list(dict.fromkeys((*modules, *filter(None, modules.values()))))
    what = "parameters, or modules that have some"
    unwanted = left_out(names, only=None, skip=skip, what=what)
    unchosen = left_out(names, only=only, skip=None, what=what)
    notes = {}
    for name, module in modules.items():
        if name in unwanted or module in unwanted:
            notes[name] = "in skip="
        elif name in unchosen and module in {"", *unchosen}:
            notes[name] = "not in only="
    return notes


def _behind(entry: Entry) -> list[Scaled]:
    """What a parametrized weight is computed from: trained, its scale not learned."""
    paths: dict[int, list[str]] = {}
    tensors: dict[int, Tensor] = {}
    for site in (entry.owner, *entry.others):
        for original, tensor in site.through.originals if site.through is not None else ():
            paths.setdefault(id(tensor), []).append(site.prefix + original)
            tensors[id(tensor)] = tensor
    return [
        Scaled(
            name=places[0],
            paths=tuple(places),
            tensor=tensors[key],
            start=tensors[key].detach().clone(),
            note="a weight is computed from it",
            is_listed=False,
        )
        for key, places in paths.items()
        if tensors[key].requires_grad and tensors[key].is_floating_point()
    ]


def _left(entry: Entry, note: str) -> ScaleRow:
    norm = float(torch.linalg.vector_norm(entry.tensor.detach().to(torch.complex64)))
    return ScaleRow(entry.name, norm, norm, note=note)
