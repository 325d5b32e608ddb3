"""The tensors of a checkpoint's safetensors files, read a region at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from fanin.checkpoint.errors import CheckpointError
from fanin.checkpoint.folder import is_for_dcp
from fanin.checkpoint.safetensors import Held, read_header
from fanin.checkpoint.saved_plan import SavedPlan
from fanin.checkpoint.shards import INDEX, is_shard_name
from fanin.geometry import Region

__all__ = ["Files", "Kind", "opened"]


class Kind(Protocol):
    """What a file says of a tensor before it is read."""

    @property
    def dtype(self) -> torch.dtype:
        """As in torch."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole tensor."""


class Files(Protocol):
    """What a checkpoint holds."""

    @property
    def held(self) -> Mapping[str, Kind]:
        """Each tensor, by name."""

    def names(self, saved: SavedPlan) -> dict[str, str]:
        """Under which names the tensors that a plan draws should be there, and of which steps."""

    def read(self, name: str, region: Region) -> Tensor:
        """The elements of a contiguous region of a tensor."""


def opened(folder: Path, saved: SavedPlan) -> Files:
    """The files of a checkpoint, of either format.

    Raises:
        CheckpointError: when one is missing or damaged as a whole.
    """
    if is_for_dcp(folder):
        from fanin.checkpoint.dcp_reading import DcpFiles  # which imports for half a second

        return DcpFiles(folder)
    try:
        return _SafetensorsFiles(folder, saved)
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"verify: a checkpoint can be read. Got {error} in {str(folder)!r}. Run what wrote it "
            "again: it resumes."
        ) from error


class _SafetensorsFiles:
    """Every tensor of the folder's shards, each once, as the index says where there is one."""

    def __init__(self, folder: Path, saved: SavedPlan) -> None:
        files = sorted(path for path in folder.iterdir() if is_shard_name(path.name))
        if len(files) != saved.files:
            raise CheckpointError(
                f"verify: a checkpoint has all its files. Got {len(files)} of {saved.files} in "
                f"{str(folder)!r}. Run what wrote it again: it resumes."
            )
        headers = {path: read_header(path)[0] for path in files}
        self.held: dict[str, Held] = {k: v for each in headers.values() for k, v in each.items()}
        self._file = {name: path for path, held in headers.items() for name in held}
        for path, held in headers.items():
            _check_once({name: self._file[name] for name in held}, path)
        if saved.files > 1:
            content = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            _check_index({name: path.name for name, path in self._file.items()}, content, folder)

    def names(self, saved: SavedPlan) -> dict[str, str]:
        """One name for each step."""
        return {stored: step for step, stored in saved.names.items()}

    def read(self, name: str, region: Region) -> Tensor:
        """The region's bytes, and no others."""
        held, offset = self.held[name], 0
        for size, runs in zip(region.shape, region.runs, strict=True):
            offset = offset * size + runs[0][0]
        content = bytearray(region.numel * held.dtype.itemsize)
        with self._file[name].open("rb") as file:
            file.seek(held.start + offset * held.dtype.itemsize)
            file.readinto(content)
        if not content:
            return torch.empty(region.local_shape, dtype=held.dtype)
        return torch.frombuffer(content, dtype=held.dtype).view(region.local_shape)


def _check_once(files: Mapping[str, Path], path: Path) -> None:
    for name, other in files.items():
        if other != path:
            raise CheckpointError(
                f"verify: a tensor is in one file. Got {name!r} in {str(path)!r} and in "
                f"{str(other)!r}. Remove both files and run what wrote the checkpoint again."
            )


def _check_index(files: dict[str, str], content: Any, folder: Path) -> None:
    listed = content.get("weight_map") if isinstance(content, dict) else None
    if listed != files:
        raise CheckpointError(
            f"verify: the index says which file has a tensor. Got another place for some in "
            f"{str(folder / INDEX)!r}. Remove it and run what wrote the checkpoint again."
        )
