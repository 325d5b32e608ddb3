"""`audit_checkpoint`: a safetensors file or folder, without building the model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from fanin.auditing.audit import examine
from fanin.auditing.checks import CHECKS
from fanin.auditing.evidence import Evidence
from fanin.auditing.findings import Audit
from fanin.auditing.numbers import numbers_of
from fanin.auditing.selection import chosen_checks
from fanin.auditing.weights import Weight
from fanin.errors import ArgumentError
from fanin.geometry import Layout

__all__ = ["audit_checkpoint", "safetensors_in", "tensors_in"]

_INDEX = "model.safetensors.index.json"
_AXES = "axes are read off names and shapes: what scale a weight needs is judged with its model"


def audit_checkpoint(
    path: str | Path, *, select: Sequence[str] | None = None, ignore: Sequence[str] = ()
) -> Audit:
    """Find what is wrong with the tensors of a checkpoint.

    What they mean is read off names and shapes: a tensor of two dims or more whose name ends in
    ``weight`` is taken for a matrix of outputs by inputs, a table if its name speaks of an
    embedding. What follows from a module's type is not checked. Tensors of whole numbers are left
    out. The files are mapped, not copied: one larger than memory may be audited.

    Args:
        path: a ``.safetensors`` file, the index of several, or a folder of them.
        select: as for `audit`.
        ignore: as for `audit`.

    Returns:
        An `Audit`.

    Raises:
        ArgumentError: when there is no such file, or it is not one of safetensors.
        UnknownNameError: when no check has such a code or name.

    Example:
        >>> import tempfile, torch
        >>> from safetensors.torch import save_file
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_file({"head.weight": torch.full((8, 16), 0.1)}, f"{folder}/model.safetensors")
        ...     found = audit_checkpoint(folder)
        >>> [(finding.code, finding.place) for finding in found.findings]
        [('FAN104', 'head.weight')]
    """
    checks = chosen_checks(CHECKS, select=select, ignore=ignore)
    found = [
        _weight(name, tensor)
        for name, tensor in tensors_in(Path(path)).items()
        if tensor.is_floating_point() or tensor.is_complex()
    ]
    evidence = Evidence(
        None,
        tuple(weight for weight in found if not _is_statistic(weight.name)),
        tuple(weight for weight in found if _is_statistic(weight.name)),
        notes=(_AXES,),
    )
    return examine(evidence, checks, title=Path(path).resolve().name)


def tensors_in(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a checkpoint, by name, mapped from its files.

    Raises:
        ArgumentError: when there is none, or two files have one name.
    """
    found: dict[str, Tensor] = {}
    for file in safetensors_in(path):
        for name, tensor in _tensors(file):
            if name in found:
                raise ArgumentError(
                    f"checkpoint: a tensor is in one file. Got {name!r} in {str(file)!r} and in "
                    "another one. Name the files that belong together by their index."
                )
            found[name] = tensor
    return found


def safetensors_in(path: Path) -> list[Path]:
    """The files of a checkpoint: those of its index, where there is one, or all, by their names.

    Raises:
        ArgumentError: when there is none.
    """
    index = path / _INDEX if path.is_dir() else path
    if index.name.endswith(".index.json") and index.is_file():
        files = _indexed(index)
    else:
        files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    missing = [file for file in files if not file.is_file()]
    if missing or not files:
        raise ArgumentError(
            "checkpoint: a .safetensors file that exists, the index of several, or a folder of "
            f"them. Got {str(missing[0] if missing else path)!r}. Look at the path; a model in "
            "memory is for fanin.audit."
        )
    return files


def _indexed(index: Path) -> list[Path]:
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
        names = sorted({str(name) for name in content["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArgumentError(
            f"checkpoint: an index with a weight_map. Got {error!r} for {str(index)!r}. "
            "Name the files' folder without it, or write it again."
        ) from error
    return [index.parent / name for name in names]


def _tensors(file: Path) -> Iterator[tuple[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as content:
            for name in list(content.keys()):
                yield name, content.get_tensor(name)
    except (SafetensorError, OSError) as error:
        raise ArgumentError(
            f"checkpoint: a file of safetensors. Got {error} for {str(file)!r}. Write it again, or "
            "get it anew."
        ) from error


def _weight(name: str, tensor: Tensor) -> Weight:
    return Weight(name, (), tensor, numbers_of(tensor), layout=_layout(name, tensor))


def _layout(name: str, tensor: Tensor) -> Layout | None:
    """Enough to know rows from columns."""
    if tensor.dim() < 2 or not name.endswith("weight"):
        return None
    if tensor.dim() == 2 and any(word in name for word in _TABLES):
        return Layout.embedding(*tensor.shape)
    return Layout(tuple(tensor.shape), out_axes=(0,), in_axes=(1,))


def _is_statistic(name: str) -> bool:
    return name.rpartition(".")[2] in ("running_mean", "running_var")


_TABLES = ("embed", "wte", "wpe", "shared.weight", "relative_attention_bias")
