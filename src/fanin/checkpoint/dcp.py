"""A folder for `torch.distributed.checkpoint`, each tensor drawn when the writer asks for it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fanin.checkpoint.contents import Stored
from fanin.checkpoint.errors import CheckpointError
from fanin.checkpoint.files import sync_directory, whole_file
from fanin.checkpoint.folder import (
    clear_leftovers,
    dcp_files,
    foreign,
    open_folder,
    to_remove,
)
from fanin.checkpoint.lock import locked
from fanin.checkpoint.saved_plan import PLAN
from fanin.checkpoint.writing import Checkpoint, check_space, check_writable
from fanin.errors import FaninError
from fanin.geometry import Region
from fanin.planning import Plan

if TYPE_CHECKING:
    from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex
    from torch.distributed.checkpoint.storage import WriteResult

__all__ = ["DcpWriting", "ready_to_write_dcp", "under_each_name"]


def ready_to_write_dcp(
    path: Path, plan: Plan, stored: Sequence[Stored], small: Mapping[str, str], *, force: bool
) -> DcpWriting:
    """The work for a folder, which is made where it is not there.

    Raises:
        CheckpointError: when the folder cannot be written, holds a checkpoint, finished or not, or
            its disk has too little room.
    """
    writing = DcpWriting(path, plan, {each.name: each for each in stored}, small, force)
    with _explained(path):
        open_folder(path)
        if not force:
            _check_empty(path, small)
        check_writable(path)
        removed = _removed(path, small, force=force)
        check_space(path, writing.remaining_bytes, removed=removed)
    return writing


def under_each_name(stored: Iterable[Stored]) -> tuple[Stored, ...]:
    """What is stored, under all names of a model's state: loading looks for those of ties too."""
    return tuple(
        replace(each, name=name, aliases=())
        for each in stored
        for name in (each.name, *each.aliases)
    )


@dataclass(frozen=True, slots=True)
class DcpWriting:
    """A checkpoint that is ready to be written.

    Args:
        path: the folder.
        plan: what is drawn.
        tensors: what is stored, by name; a tied tensor has several.
        small: the other files: name and text.
        force: whether files of another checkpoint are replaced.
    """

    path: Path
    plan: Plan
    tensors: Mapping[str, Stored]
    small: Mapping[str, str]
    force: bool

    @property
    def remaining_bytes(self) -> int:
        """What is to be written."""
        return sum(each.nbytes for each in self.tensors.values())

    def run(self, on_bytes: Callable[[int], None] | None = None) -> Checkpoint:
        """Write all files; after an error, none of those with tensors stays.

        Raises:
            CheckpointError: when the folder or the disk refuses, or when another run writes to the
                folder, or has written a checkpoint since this one was prepared.
        """
        with _explained(self.path), locked(self.path, rank=0):
            if not self.force:
                _check_empty(self.path, self.small)
            for each in _removed(self.path, self.small, force=self.force):
                each.unlink(missing_ok=True)
            clear_leftovers(self.path, self.small)
            for name, text in self.small.items():
                with whole_file(self.path / name) as file:
                    file.write(text.encode())
            try:
                _save(self.tensors, self.path, on_bytes)
            except BaseException:
                for path in dcp_files(self.path):
                    path.unlink(missing_ok=True)
                raise
        names = tuple(path.name for path in dcp_files(self.path) if path.name != ".metadata")
        size = self.remaining_bytes
        return Checkpoint(self.path, self.plan, names, size, size, is_complete=True)


def _save(
    tensors: Mapping[str, Stored], path: Path, on_bytes: Callable[[int], None] | None
) -> None:
    # Imported here, as they take most of a second.
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
    from torch.distributed.checkpoint.filesystem import FileSystemWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    class DurableWriter(FileSystemWriter):
        """Brings the names of the tensors' files to the disk before the one by which they load."""

        def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
            sync_directory(path)
            super().finish(metadata, results)
            sync_directory(path)

    class DrawingPlanner(DefaultSavePlanner):
        """Plans with tensors on meta, and draws each when its turn to be written has come."""

        def lookup_object(self, index: MetadataIndex) -> Tensor:
            stored = tensors[index.fqn]
            value = _whole(stored)
            if on_bytes is not None:
                on_bytes(stored.nbytes)
            return value

    # The writer keeps the tensors of a file until it is closed, hence a file for each. Nothing is
    # copied ahead: the values are on the CPU.
    writer = DurableWriter(
        path, single_file_per_rank=False, thread_count=1, per_thread_copy_ahead=0
    )
    state = {
        name: torch.empty(each.shape, dtype=each.dtype, device="meta")
        for name, each in tensors.items()
    }
    failure: BaseException | None = None
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            warnings.filterwarnings("ignore", message="TypedStorage is deprecated")  # till 2.10
            save(state, storage_writer=writer, planner=DrawingPlanner(), no_dist=True)
    except CheckpointException as error:  # no Exception: it may hold an interrupt
        failure, _ = next(iter(error.failures.values()))
    if failure is not None:  # raised here, where it keeps what led to it
        raise failure


def _whole(stored: Stored) -> Tensor:
    if stored.step is None:
        assert stored.value is not None
        return stored.value.detach().cpu().contiguous()
    out = torch.empty(stored.shape, dtype=stored.dtype, device="cpu")
    stored.step.draw_region(Region.whole(stored.shape), out)
    return out


def _removed(path: Path, small: Mapping[str, str], *, force: bool) -> list[Path]:
    """The files that go before the first one is written."""
    return to_remove(path, (), small) if force else _leftovers(path, small)


def _leftovers(path: Path, small: Mapping[str, str]) -> list[Path]:
    """The files that a killed run of the same checkpoint left: without .metadata none loads."""
    plan = path / PLAN
    if not plan.is_file() or plan.read_bytes() != small[PLAN].encode():
        return []
    found = dcp_files(path)
    return [] if any(each.name == ".metadata" for each in found) else found


def _check_empty(path: Path, small: Mapping[str, str]) -> None:
    left = {each.name for each in _leftovers(path, small)}
    for name, reason in foreign(path, (), small):
        if name in left:
            continue
        raise CheckpointError(
            "write_checkpoint: format='dcp' begins in a folder without a checkpoint; it is not "
            f"resumed. Got {str(path / name)!r}: {reason}. Name another folder, or replace it "
            "with force=True (--force)."
        )


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except FaninError:
        raise
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"write_checkpoint: cannot write to {str(path)!r}: {_reason(error)}. "
            "format='dcp' is not resumed: the same call begins anew once that is mended."
        ) from error


def _reason(error: Exception) -> str:
    """What the system said: `torch.save` reports a position instead, as it ends its archive."""
    context: BaseException | None = error
    while context is not None:
        if isinstance(context, OSError):
            return context.strerror or str(context)
        context = context.__context__
    return str(error)
