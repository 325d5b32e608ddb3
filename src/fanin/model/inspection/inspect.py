"""`inspect`: everything that is registered in a model, to look at."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace

from torch import nn

from fanin.errors import ArgumentError, UnknownNameError
from fanin.model.globs import matches
from fanin.model.inspection.collection import collect
from fanin.model.inspection.module_view import ModuleView, TensorView
from fanin.model.inspection.outline import Totals, outline, tensor_table
from fanin.report import Table

__all__ = ["Inspection", "inspect"]


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a model holds, as data: ``print`` shows it as a tree.

    Args:
        root: the modules that were asked for, with all that is registered in them.
        totals: of the whole model.
        is_whole: whether the whole model was asked for.
        collapse: whether the tree shows one of several like numbered siblings in a row.
    """

    root: ModuleView
    totals: Totals
    is_whole: bool = True
    collapse: bool = True

    def table(self, *, devices: bool = True) -> Table:
        """The tree: a row for each module, each tensor and each kind of hook.

        Args:
            devices: say where the tensors are: in a column when not all are in one place, below
                the tree when all are on meta.
        """
        caption = str(self.totals) if self.is_whole else f"The whole model: {self.totals}"
        places = self.totals.devices if devices else ()
        if places == ("meta",):
            caption += " On meta: no values yet."
        return outline(self.root, caption, collapse=self.collapse, devices=len(places) > 1)

    def tables(self) -> tuple[Table, ...]:
        """A flat table with a row for each parameter and buffer, each under its full name."""
        return (tensor_table(self.root),)

    def to_json(self) -> str:
        """JSON text: the totals, every module and every tensor, none of them collapsed."""
        modules = [
            {"name": m.name, "type": m.type_name, "hooks": m.hooks, "same_as": m.same_as or None}
            for m in self.root.walk()
        ]
        tensors = [_tensor_json(tensor) for tensor in self.root.all_tensors()]
        return json.dumps({"totals": asdict(self.totals), "modules": modules, "tensors": tensors})

    def __str__(self) -> str:
        return str(self.table())

    __repr__ = __str__


def inspect(
    model: nn.Module, names: str | Iterable[str] | None = None, *, collapse: bool = True
) -> Inspection:
    """Everything that is registered in a model: modules, parameters, buffers and hooks.

    Nothing is written and nothing is run. Names are canonical: a wrapper such as DDP is shown, and
    contributes nothing to them.

    Args:
        model: any module.
        names: names or globs of modules, parameters or buffers; a module is shown with all it
            holds. None shows everything.
        collapse: show one of three or more siblings in a row that are called by numbers and
            differ in nothing else, as the blocks of a model do.

    Returns:
        An `Inspection`: ``print`` shows the tree, ``.tables()`` a flat table.

    Raises:
        ArgumentError: when ``model`` is no module, or ``names`` are no patterns.
        PlanError: when a parametrized weight cannot be computed.
        UnknownNameError: when a pattern fits nothing in the model; the message has near names.

    Example:
        >>> model = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
        >>> _ = model[0].bias.requires_grad_(False)
        >>> print(inspect(model))
        name          class or shape  dtype    parameters  notes
        ------------  --------------  -------  ----------  ------
        (model)       Sequential                        8
        ├─ 0          Linear                            8
        │  ├─ weight  2×3             float32           6
        │  └─ bias    2               float32           2  frozen
        └─ 1          ReLU
        <BLANKLINE>
        8 parameters in 2 tensors, 6 of them trainable; 32 B.
    """
    if not (isinstance(model, nn.Module) and hasattr(model, "_modules")):
        raise ArgumentError(
            "inspect: a model is an nn.Module, whose __init__ has called super().__init__(). "
            f"Got {model if isinstance(model, type) else type(model).__name__}."
        )
    if not isinstance(names, Iterable | None):
        raise _no_pattern(names)
    root = collect(model)
    whole = Inspection(root, Totals.of(root), collapse=collapse)
    if names is None:
        return whole
    patterns = (names,) if isinstance(names, str) else tuple(names)
    for pattern in patterns:
        _must_fit(pattern, root)
    return replace(whole, root=_chosen(root, patterns), is_whole=False)


def _must_fit(pattern: str, root: ModuleView) -> None:
    if not isinstance(pattern, str):
        raise _no_pattern(pattern)
    names = [tensor.name for tensor in root.all_tensors()]
    names += [module.name for module in root.walk() if module.name]
    if any(_fits((pattern,), name) for name in names):
        return
    near = difflib.get_close_matches(pattern.removeprefix("re:"), names, n=3, cutoff=0.5)
    listed = ", ".join(near or names[:3])
    advice = f"{'Near' if near else 'Names look like'}: {listed}." if listed else "It holds none."
    raise UnknownNameError(
        f"inspect: a name or glob fits a module, a parameter or a buffer. Got {pattern!r}, which "
        f"fits none. {advice}"
    )


def _no_pattern(value: object) -> ArgumentError:
    return ArgumentError(f"inspect: names= takes names and name patterns. Got {value!r}.")


def _chosen(module: ModuleView, patterns: tuple[str, ...]) -> ModuleView:
    """The module with what fits a pattern below it: whole modules where their name does."""
    return replace(
        module,
        tensors=tuple(tensor for tensor in module.tensors if _fits(patterns, tensor.name)),
        modules=tuple(_chosen_below(module, patterns)),
        hooks={},
    )


def _chosen_below(module: ModuleView, patterns: tuple[str, ...]) -> Iterator[ModuleView]:
    for child in module.modules:
        if _fits(patterns, child.name):
            yield child
            continue
        chosen = _chosen(child, patterns)
        if chosen.tensors or chosen.modules:
            yield chosen


def _fits(patterns: tuple[str, ...], name: str) -> bool:
    return bool(name) and any(matches(pattern, name) for pattern in patterns)


def _tensor_json(tensor: TensorView) -> dict[str, object]:
    content = asdict(tensor)
    del content["label"]
    content["tied_to"] = tensor.tied_to or None
    content["computed_from"] = dict(tensor.computed_from)
    return content
