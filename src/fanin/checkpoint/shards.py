"""Which tensor goes to which file, and how the files of a checkpoint are called."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fanin.checkpoint.contents import Stored
from fanin.checkpoint.safetensors import header
from fanin.errors import ArgumentError

__all__ = ["INDEX", "Shard", "grouped", "index_text", "is_shard_name", "shards", "size_in_bytes"]

INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_NAME = re.compile(r"model(-\d{5,}-of-\d{5,})?\.safetensors")
_UNITS = {"": 1, "B": 1} | {
    prefix + ending: base**power
    for power, prefix in enumerate("KMGT", start=1)
    for ending, base in (("B", 1000), ("IB", 1024))
}


@dataclass(frozen=True, eq=False, slots=True)
class Shard:
    """One file: its name, what it stores in order, and all its bytes before the tensors."""

    name: str
    stored: tuple[Stored, ...]
    header: bytes

    @property
    def nbytes(self) -> int:
        """The size of the whole file."""
        return len(self.header) + sum(each.nbytes for each in self.stored)


def grouped(stored: Sequence[Stored], max_shard_size: int) -> list[list[Stored]]:
    """Tensors in their order, a new group where the next one would not fit; none is divided."""
    groups: list[list[Stored]] = [[]]
    size = 0
    for each in stored:
        if groups[-1] and size + each.nbytes > max_shard_size:
            groups.append([])
            size = 0
        groups[-1].append(each)
        size += each.nbytes
    return groups


def shards(groups: Sequence[Sequence[Stored]], metadata: Mapping[str, str]) -> tuple[Shard, ...]:
    """A file for each group.

    Within a file large elements come first: each tensor then starts at a multiple of its element
    size. The names of ties that are left out are metadata.
    """
    return tuple(
        _shard(group, number, len(groups), metadata) for number, group in enumerate(groups, start=1)
    )


def index_text(parts: Sequence[Shard]) -> str:
    """Hugging Face's index of a checkpoint in several files."""
    stored = [each for part in parts for each in part.stored]
    content = {
        "metadata": {
            "total_parameters": sum(each.numel for each in stored),
            "total_size": sum(each.nbytes for each in stored),
        },
        "weight_map": {each.name: part.name for part in parts for each in part.stored},
    }
    return json.dumps(content, indent=2, sort_keys=True) + "\n"


def is_shard_name(name: str) -> bool:
    """Whether a file of this name would be read as part of the checkpoint."""
    return _NAME.fullmatch(name) is not None


def size_in_bytes(size: int | str) -> int:
    """``"5GB"`` is 5·10⁹ bytes, as Hugging Face counts, and ``"5GiB"`` is 5·2³⁰.

    Example:
        >>> size_in_bytes("1.5 MB"), size_in_bytes("2GiB"), size_in_bytes(100)
        (1500000, 2147483648, 100)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(size))
    unit = _UNITS.get(match[2].upper()) if match else None
    count = int(float(match[1]) * unit) if match and unit else 0
    if count < 1:
        raise ArgumentError(
            f"max_shard_size: a number of bytes, or one with KB, MB, GB, TB or KiB, MiB, GiB, TiB. "
            f"Got {size!r}. As in --max-shard-size 5GB."
        )
    return count


def _shard(group: Sequence[Stored], number: int, count: int, metadata: Mapping[str, str]) -> Shard:
    ordered = sorted(group, key=lambda each: -each.dtype.itemsize)
    ties = {alias: each.name for each in ordered for alias in each.aliases}
    text = {**ties, **metadata, "fanin.shard": f"{number} of {count}"}
    tensors = ((each.name, each.dtype, each.shape) for each in ordered)
    return Shard(_file_name(number, count), tuple(ordered), header(tensors, text))


def _file_name(number: int, count: int) -> str:
    return _SINGLE if count == 1 else f"model-{number:05}-of-{count:05}.safetensors"
