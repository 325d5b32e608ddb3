"""The tree of a model for people: one of several like siblings, and totals below."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from fanin.model.inspection.module_view import ModuleView, TensorView
from fanin.report import Branch, Column, Table, bytes_text, shape_text, tree_table

__all__ = ["Totals", "outline", "tensor_table"]

_FEW = 3  # like siblings in a row, from which on only one of them is shown


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts over a model. Tied tensors are one, and lazy ones are in none but their own count.

    Args:
        parameters: elements of all parameters.
        trainable: elements of those that require a gradient.
        parameter_tensors: how many parameters there are.
        parameter_bytes: their size in memory.
        buffer_tensors: how many buffers there are.
        buffer_bytes: their size in memory.
        lazy_tensors: how many tensors have no shape yet.
        devices: where the tensors are.
    """

    parameters: int
    trainable: int
    parameter_tensors: int
    parameter_bytes: int
    buffer_tensors: int
    buffer_bytes: int
    lazy_tensors: int
    devices: tuple[str, ...]

    @classmethod
    def of(cls, root: ModuleView) -> Totals:
        """Of a module and all below it."""
        tensors = list(root.all_tensors())
        owners = [tensor for tensor in tensors if not tensor.tied_to]
        shaped = [tensor for tensor in owners if tensor.shape is not None]
        parameters = [tensor for tensor in shaped if not tensor.is_buffer]
        held = [tensor for tensor in shaped if tensor.is_buffer]
        return cls(
            parameters=sum(tensor.numel for tensor in parameters),
            trainable=sum(tensor.numel for tensor in parameters if tensor.requires_grad),
            parameter_tensors=len(parameters),
            parameter_bytes=sum(tensor.num_bytes for tensor in parameters),
            buffer_tensors=len(held),
            buffer_bytes=sum(tensor.num_bytes for tensor in held),
            lazy_tensors=len(owners) - len(shaped),
            devices=tuple(dict.fromkeys(tensor.device for tensor in tensors)),
        )

    def __str__(self) -> str:
        """``8 parameters in 2 tensors, 6 of them trainable; 32 B.``"""
        frozen = self.parameters - self.trainable
        trainable = f", {self.trainable:,} of them trainable" if frozen else ""
        held = f"{self.parameters:,} parameters in {_count(self.parameter_tensors, 'tensor')}"
        text = f"{held}{trainable}; {bytes_text(self.parameter_bytes)}."
        if self.buffer_tensors:
            size = bytes_text(self.buffer_bytes)
            text += f" {_count(self.buffer_tensors, 'buffer')}; {size}."
        if self.lazy_tensors:
            text += f" {_count(self.lazy_tensors, 'lazy tensor')} without a shape yet."
        return text


def outline(root: ModuleView, caption: str, *, collapse: bool, devices: bool) -> Table:
    """The tree of a module: a row for each module, each tensor and each kind of hook."""
    device: list[Column | str] = ["device"] if devices else []
    columns = ("name", "class or shape", "dtype", Column("parameters", "right"), *device, "notes")
    drawing = _Drawing(collapse=collapse, devices=devices)
    return tree_table(drawing.module(root), columns, caption=caption)


def tensor_table(root: ModuleView) -> Table:
    """A row for each parameter and buffer under its full name."""
    columns = ("name", "of", "shape", "dtype", "device", Column("elements", "right"), "notes")
    rows = [
        (
            tensor.name,
            module.type_name,
            _shape(tensor),
            tensor.dtype,
            tensor.device,
            f"{tensor.numel:,}",
            _notes(tensor),
        )
        for module in root.walk()
        for tensor in module.tensors
    ]
    return Table(columns, tuple(rows))


@dataclass(frozen=True, slots=True)
class _Drawing:
    """How a tree is drawn: each method gives the branch of one thing."""

    collapse: bool
    devices: bool

    def module(self, module: ModuleView, times: int = 1) -> Branch:
        own = (t for t in module.all_tensors() if not t.is_buffer and not t.tied_to)
        count = sum(tensor.numel for tensor in own)
        each = f"{times} × " if times > 1 else ""
        note = f"= {module.same_as}" if module.same_as else ""
        cells = self._cells(module.type_name, "", f"{each}{count:,}" if count else "", "", note)
        return Branch(module.label, cells, () if module.same_as else tuple(self._below(module)))

    def _below(self, module: ModuleView) -> Iterator[Branch]:
        for tensor in module.tensors:
            yield self._tensor(tensor)
        for kind, names in module.hooks.items():
            yield Branch(f"({kind})", self._cells(", ".join(names), "", "", "", ""))
        for run in _runs(module.modules, _FEW if self.collapse else len(module.modules) + 1):
            label = f"{run[0].label} … {run[-1].label} ({len(run)} ×)"
            shown = replace(run[0], label=label) if len(run) > 1 else run[0]
            yield self.module(shown, times=len(run))

    def _tensor(self, tensor: TensorView) -> Branch:
        count = "" if tensor.is_buffer or tensor.tied_to else f"{tensor.numel:,}"
        count = "?" if tensor.shape is None else count
        cells = (_shape(tensor), tensor.dtype, count, tensor.device, _notes(tensor))
        return Branch(tensor.label, self._cells(*cells))

    def _cells(self, what: str, dtype: str, count: str, device: str, notes: str) -> tuple[str, ...]:
        return (what, dtype, count, *([device] if self.devices else []), notes)


def _runs(modules: Sequence[ModuleView], few: int) -> Iterator[list[ModuleView]]:
    """Siblings in order; like ones in a row are together where there are ``few`` or more.

    Only numbered ones: names such as ``q_proj`` and ``k_proj`` are to be read.
    """
    for _, run in groupby(modules, key=_kind):
        alike = list(run)
        yield from [alike] if len(alike) >= few else ([module] for module in alike)


def _kind(module: ModuleView) -> object:
    """Equal for numbered siblings that differ in nothing but their number."""
    return _likeness(module, module.name, "" if module.label.isdecimal() else module.label)


def _likeness(module: ModuleView, base: str, label: str) -> object:
    """Equal for modules below ``base`` that differ in nothing but the name of ``base``."""
    tensors = tuple(
        replace(tensor, name="", tied_to=_relative(tensor.tied_to, base))
        for tensor in module.tensors
    )
    below = tuple(_likeness(child, base, child.label) for child in module.modules)
    same_as = _relative(module.same_as, base)
    return (label, module.type_name, tensors, tuple(module.hooks.items()), same_as, below)


def _relative(name: str, base: str) -> str:
    return name.removeprefix(f"{base}.") if name.startswith(f"{base}.") else f"/{name}"


def _shape(tensor: TensorView) -> str:
    return "?" if tensor.shape is None else shape_text(tensor.shape)


def _notes(tensor: TensorView) -> str:
    notes = [f"= {tensor.tied_to}"] if tensor.tied_to else []
    if tensor.is_buffer:
        notes.append("buffer" if tensor.is_saved else "buffer, not saved")
    elif not tensor.requires_grad:
        notes.append("frozen")
    if tensor.has_grad:
        notes.append("has grad")
    if tensor.shape is None:
        notes.append("lazy: shaped by the first input")
    if tensor.computed_from:
        parts = (f"{name} {shape_text(shape)}" for name, shape in tensor.computed_from)
        notes.append(f"computed from {', '.join(parts)}")
    if tensor.hooks:
        notes.append(f"hooks: {', '.join(tensor.hooks)}")
    return "; ".join(notes)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
