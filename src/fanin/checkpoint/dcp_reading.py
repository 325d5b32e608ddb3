"""The tensors of a folder that `torch.distributed.checkpoint` loads, one at a time."""

from __future__ import annotations

import pickle
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load

from fanin.checkpoint.errors import CheckpointError
from fanin.checkpoint.saved_plan import SavedPlan
from fanin.geometry import Region

__all__ = ["DcpFiles"]

# What unpickling raises for a damaged file, as its documentation says and as it was seen to.
_UNREADABLE = (
    OSError,
    pickle.UnpicklingError,
    EOFError,
    AttributeError,
    ImportError,
    IndexError,
    RuntimeError,
    ArithmeticError,
    MemoryError,
    KeyError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class _Whole:
    """A tensor of the folder."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @classmethod
    def of(cls, described: TensorStorageMetadata) -> _Whole:
        """Of what unpickling made, which checks no types."""
        dtype, shape = described.properties.dtype, tuple(described.size)
        if not isinstance(dtype, torch.dtype) or not all(type(size) is int for size in shape):
            raise TypeError(f"a tensor of shape {shape} and {dtype}")
        return cls(dtype, shape)


class DcpFiles:
    """Every tensor of the folder, under each of its names; the one read last stays in memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._last: tuple[str, Tensor] | None = None
        try:
            self._reader = _Reader(folder)
            described = self._reader.read_metadata().state_dict_metadata
            self.held = {
                name: _Whole.of(each)
                for name, each in described.items()
                if isinstance(each, TensorStorageMetadata)
            }
            others = sorted(described.keys() - self.held.keys())
        except FileNotFoundError as error:
            raise CheckpointError(
                f"verify: a checkpoint has all its files. Got no .metadata, which is the last to "
                f"appear, in {str(folder)!r}. Run what wrote it again: it begins anew."
            ) from error
        except _UNREADABLE as error:
            raise self._unreadable(error) from error
        if others:
            raise CheckpointError(
                f"verify: a checkpoint that fanin wrote holds tensors. Got something else for "
                f"{others[0]!r} in {str(folder)!r}. Name the folder that fanin wrote."
            )

    def names(self, saved: SavedPlan) -> dict[str, str]:
        """All names of each step: a tied tensor is stored under every one."""
        drawn = (step for step in saved.plan.steps if step.name in saved.names)
        return {name: step.name for step in drawn for name in step.names}

    def read(self, name: str, region: Region) -> Tensor:
        """The region of a tensor that is read whole, unless it was the last one."""
        if self._last is None or self._last[0] != name:
            self._last = None  # its memory is free before the next tensor's is taken
            self._last = name, self._whole(name)
        whole = self._last[1]
        at = tuple(slice(*runs[0]) for runs in region.runs)
        return whole[at]

    def _whole(self, name: str) -> Tensor:
        kind = self.held[name]
        tensor = torch.empty(kind.shape, dtype=kind.dtype, device="cpu")
        state: dict[str, Any] = {name: tensor}
        failure: BaseException | None = None
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="torch.distributed is disabled")
                # Flattening keeps the tensor, in torch 2.10, until a garbage collection.
                planner = DefaultLoadPlanner(
                    flatten_state_dict=False, flatten_sharded_tensors=False
                )
                load(state, storage_reader=self._reader, planner=planner, no_dist=True)
        except CheckpointException as error:  # no Exception: it may hold an interrupt
            failure, _ = next(iter(error.failures.values()))
        if isinstance(failure, Exception):
            raise self._unreadable(failure) from failure
        if failure is not None:
            raise failure
        return tensor

    def _unreadable(self, error: Exception) -> CheckpointError:
        return CheckpointError(
            f"verify: a checkpoint can be read. Got {str(error) or type(error).__name__} in "
            f"{str(self._folder)!r}. Write it again, with force=True (--force)."
        )


class _Reader(FileSystemReader):
    """Reads the metadata once, not again for every tensor."""

    _metadata: Metadata | None = None

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        if self._metadata is None:
            self._metadata = super().read_metadata(*args, **kwargs)
        return self._metadata
