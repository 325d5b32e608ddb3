"""The loop that writes a checkpoint's files, and what it checks before and after."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from fanin.checkpoint.background import NUM_BUFFERS, background_writer
from fanin.checkpoint.contents import Stored
from fanin.checkpoint.drawing import Buffers, chunks
from fanin.checkpoint.errors import CheckpointError
from fanin.checkpoint.files import whole_file
from fanin.checkpoint.folder import (
    check_folder,
    clear_leftovers,
    is_finished,
    open_folder,
    to_remove,
)
from fanin.checkpoint.lock import locked
from fanin.checkpoint.processes import Processes
from fanin.checkpoint.saved_plan import PLAN
from fanin.checkpoint.shards import INDEX, Shard
from fanin.planning import Plan
from fanin.report import bytes_text

__all__ = ["Checkpoint", "Writing", "check_space", "check_writable", "ready_to_write"]


def ready_to_write(
    path: Path,
    plan: Plan,
    shards: tuple[Shard, ...],
    small: Mapping[str, str],
    *,
    processes: Processes,
    force: bool,
) -> Writing:
    """The work that is left in a folder, which is made where it is not there.

    Raises:
        CheckpointError: when the folder cannot be written, holds another checkpoint, or its disk
            has too little room.
    """
    with _explained(path):
        open_folder(path)
        if not force:
            check_folder(path, shards, small)
        check_writable(path)
        mine = processes.share(shards)
        remaining = tuple(shard for shard in mine if not is_finished(shard, path))
        is_cleared = force and processes.rank == 0
        removed = to_remove(path, shards, small) if is_cleared else []
        check_space(path, _room(remaining, path), removed=removed)
    return Writing(path, plan, shards, small, processes, force, remaining)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What is in the folder after a run.

    Args:
        path: the folder.
        plan: what was drawn.
        files: the names of all shards, in order.
        nbytes: the bytes of all tensors.
        written: the bytes that this run wrote; the rest was there, or is another process's.
        is_complete: whether all files are there. With several processes the last to finish finds
            them so.
    """

    path: Path
    plan: Plan
    files: tuple[str, ...]
    nbytes: int
    written: int
    is_complete: bool


@dataclass(frozen=True, slots=True)
class Writing:
    """A checkpoint that is ready to be written.

    Args:
        path: the folder.
        plan: what is drawn.
        shards: all files with tensors.
        small: the other files: name and text.
        processes: which of the shards are written here.
        force: whether files of another checkpoint are replaced.
        remaining: those of the shards that are written here and are not there yet.
    """

    path: Path
    plan: Plan
    shards: tuple[Shard, ...]
    small: Mapping[str, str]
    processes: Processes
    force: bool
    remaining: tuple[Shard, ...]

    @property
    def remaining_bytes(self) -> int:
        """What is to be written here."""
        return sum(each.nbytes for shard in self.remaining for each in shard.stored)

    def run(self, on_bytes: Callable[[int], None] | None = None) -> Checkpoint:
        """Write the files that are not there; those that are finished stay.

        Raises:
            CheckpointError: when the folder or the disk refuses, or when another run writes to the
                folder, or has written another checkpoint since this one was prepared.
        """
        with _explained(self.path), locked(self.path, self.processes.rank):
            if not self.force:
                check_folder(self.path, self.shards, self.small)
            self._make_room()
            remaining = [each for each in self.remaining if not is_finished(each, self.path)]
            for name, text in self.small.items():
                if name != INDEX:
                    self._write_text(name, text)
            buffers = Buffers(NUM_BUFFERS)
            for shard in remaining:
                _write_shard(shard, self.path, buffers, on_bytes or _ignore)
            self._check_result()
            is_complete = all(is_finished(shard, self.path) for shard in self.shards)
            if is_complete and INDEX in self.small:
                self._write_text(INDEX, self.small[INDEX])
        return Checkpoint(
            self.path,
            self.plan,
            tuple(shard.name for shard in self.shards),
            sum(each.nbytes for shard in self.shards for each in shard.stored),
            sum(each.nbytes for shard in remaining for each in shard.stored),
            is_complete,
        )

    def _make_room(self) -> None:
        """Remove what would be read with the checkpoint, and what a killed run has left."""
        if self.force and self.processes.rank == 0:
            for each in to_remove(self.path, self.shards, self.small):
                each.unlink(missing_ok=True)
        processes = self.processes
        clear_leftovers(self.path, (shard.name for shard in processes.share(self.shards)))
        clear_leftovers(self.path, {*self.small, INDEX}, rank=processes.rank, count=processes.count)

    def _write_text(self, name: str, text: str) -> None:
        path = self.path / name
        content = text.encode()
        if not (path.is_file() and path.read_bytes() == content):
            with whole_file(path, writer=self.processes.rank) as file:
                file.write(content)

    def _check_result(self) -> None:
        """Refuse to call a checkpoint written that another process has changed meanwhile."""
        mine = self.processes.share(self.shards)
        lost = [shard.name for shard in mine if not is_finished(shard, self.path)]
        if (self.path / PLAN).read_text(encoding="utf-8") != self.small[PLAN]:
            lost.append(PLAN)
        if lost:
            raise CheckpointError(
                f"write_checkpoint: one run at a time writes to a folder. Got another {lost[0]!r} "
                f"in {str(self.path)!r} than was written. Stop the other run, then run this one "
                "again."
            )


def _write_shard(
    shard: Shard, folder: Path, buffers: Buffers, on_bytes: Callable[[int], None]
) -> None:
    with whole_file(folder / shard.name) as file:
        file.write(shard.header)
        with background_writer(file) as writer:
            for stored in shard.stored:
                _write_tensor(stored, writer.write, buffers, on_bytes)


def _write_tensor(
    stored: Stored,
    write: Callable[[torch.Tensor], None],
    buffers: Buffers,
    on_bytes: Callable[[int], None],
) -> None:
    for piece in chunks(stored, buffers):
        write(piece)
        on_bytes(piece.nbytes)


def _room(shards: Sequence[Shard], folder: Path) -> int:
    """The bytes that files need at most beside those they replace, each once it is whole."""
    most = more = 0
    for shard in shards:
        more += shard.nbytes
        most = max(most, more)
        more -= _size(folder / shard.name)
    return most


def _size(path: Path) -> int:
    """What removing a name gives back: of a link the link itself, of nothing 0."""
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0


def check_space(path: Path, needed: int, *, removed: Sequence[Path]) -> None:
    """Refuse to write more bytes than the disk has room for, once some files are removed."""
    free = shutil.disk_usage(path).free + sum(map(_size, removed))
    if needed > free:
        raise CheckpointError(
            f"write_checkpoint: the files fit on the disk. Got {bytes_text(needed)} to write to "
            f"{str(path)!r}, which has {bytes_text(free)} left. Free some; finished files stay."
        )


def check_writable(path: Path) -> None:
    """Refuse a folder without the right to write."""
    if not os.access(path, os.W_OK | os.X_OK):
        raise CheckpointError(
            f"write_checkpoint: a folder one may write to. Got {str(path)!r}. Choose another one."
        )


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"write_checkpoint: cannot write to {str(path)!r}: {error.strerror or error}. Finished "
            "files are kept: the same call resumes once that is mended."
        ) from error


def _ignore(count: int) -> None:
    pass
