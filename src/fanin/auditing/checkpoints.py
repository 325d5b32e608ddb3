"""`audit_checkpoint`: a safetensors file or folder, without building the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from fanin.auditing.audit import examine
from fanin.auditing.checks import CHECKS
from fanin.auditing.evidence import Evidence
from fanin.auditing.findings import Audit
from fanin.auditing.selection import chosen_checks
from fanin.auditing.weights import Weight, numbers_of
from fanin.errors import ArgumentError
from fanin.geometry import Layout

__all__ = ["audit_checkpoint", "safetensors_in"]

_AXES = "axes are read off names and shapes: what scale a weight needs is judged with its model"


def audit_checkpoint(
    path: str | Path, *, select: Sequence[str] | None = None, ignore: Sequence[str] = ()
) -> Audit:
    """Find what is wrong with the tensors of a checkpoint.

    They are read one at a time. What they mean is read off names and shapes: a tensor of two dims
    or more whose name ends in ``weight`` is taken for a matrix of outputs by inputs, a table if
    its name speaks of an embedding. What follows from a module's type is not checked.

    Args:
        path: a ``.safetensors`` file, or a folder of them.
        select: as for `audit`.
        ignore: as for `audit`.

    Raises:
        ArgumentError: when there is no such file, or it is not one of safetensors.
        UnknownNameError: when no check has such a code or name.
    """
    checks = chosen_checks(CHECKS, select=select, ignore=ignore)
    found = [_weight(name, tensor) for name, tensor in _tensors(Path(path))]
    evidence = Evidence(
        None,
        tuple(weight for weight in found if not _is_statistic(weight.name)),
        tuple(weight for weight in found if _is_statistic(weight.name)),
        notes=(_AXES,),
    )
    return examine(evidence, checks, title=Path(path).name)


def safetensors_in(path: Path) -> list[Path]:
    """The files of a checkpoint, in the order of their names.

    Raises:
        ArgumentError: when there is none.
    """
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise ArgumentError(
            f"audit_checkpoint: a .safetensors file, or a folder of them. Got {str(path)!r}. "
            "For a model that is in memory use fanin.audit."
        )
    return files


def _tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    for file in safetensors_in(path):
        try:
            with safe_open(file, framework="pt") as content:
                for name in list(content.keys()):
                    yield name, content.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise ArgumentError(
                f"audit_checkpoint: a file of safetensors. Got {error} for {str(file)!r}."
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
