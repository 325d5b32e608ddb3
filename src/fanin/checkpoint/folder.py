"""What is in a folder already: finished files of this checkpoint, and files of another."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from fanin.checkpoint.errors import CheckpointError
from fanin.checkpoint.files import leftovers
from fanin.checkpoint.safetensors import read_header
from fanin.checkpoint.saved_plan import PLAN, differences
from fanin.checkpoint.shards import INDEX, Shard, is_shard_name

__all__ = [
    "check_folder",
    "clear_leftovers",
    "dcp_files",
    "foreign",
    "is_finished",
    "is_for_dcp",
    "open_folder",
    "to_remove",
]

_DCP = re.compile(r"\.metadata(\.tmp)?|__\d+_\d+\.distcp")  # as torch's FileSystemWriter names them
_HASHES = ("fanin.contents", "fanin.fingerprint")  # which tell a reader nothing


def open_folder(path: Path) -> None:
    """Make the folder where its parent is.

    Raises:
        CheckpointError: when it is no folder, or cannot be made.
    """
    if path.exists() and not path.is_dir():
        raise CheckpointError(
            f"write_checkpoint: a folder. Got the file {str(path)!r}. Name another one; "
            "fanin init writes one file for a name that ends in .safetensors."
        )
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"write_checkpoint: a folder that exists or can be made. Got {str(path)!r}: "
            f"{error.strerror}. Create the one above it, or choose another."
        ) from error


def is_finished(shard: Shard, folder: Path) -> bool:
    """Whether the shard is there: a file appears whole, so its header and size tell."""
    path = folder / shard.name
    with suppress(OSError):
        if path.stat().st_size == shard.nbytes:
            with path.open("rb") as file:
                return file.read(len(shard.header)) == shard.header
    return False


def check_folder(folder: Path, shards: Sequence[Shard], small: Mapping[str, str]) -> None:
    """Refuse a folder that holds files of another checkpoint, under names that would be read.

    Args:
        folder: where to write.
        shards: of the checkpoint.
        small: the other files of the checkpoint: name and text.

    Raises:
        CheckpointError: naming the first such file, and how it differs.
    """
    for name, reason in foreign(folder, shards, small):
        raise CheckpointError(
            f"write_checkpoint: a folder holds one checkpoint, and is resumed with what it was "
            f"begun with. Got {str(folder / name)!r}: {reason}. Ask for the same again, name "
            "another folder, or replace it with force=True (--force)."
        )


def to_remove(folder: Path, shards: Sequence[Shard], small: Mapping[str, str]) -> list[Path]:
    """Files of another checkpoint whose names this one does not write over."""
    replaced = {*small, *(shard.name for shard in shards)} - {INDEX}
    return [folder / name for name, _ in foreign(folder, shards, small) if name not in replaced]


def dcp_files(folder: Path) -> list[Path]:
    """The files of a folder that `torch.distributed.checkpoint` wrote."""
    return sorted(path for path in folder.iterdir() if _DCP.fullmatch(path.name))


def is_for_dcp(folder: Path) -> bool:
    """Whether the folder has tensors for `torch.distributed.checkpoint`, and no others."""
    has_shards = any(is_shard_name(entry.name) for entry in folder.iterdir())
    return not has_shards and bool(dcp_files(folder))


def clear_leftovers(folder: Path, names: Iterable[str], *, rank: int = 0, count: int = 1) -> None:
    """Remove the temporary files of a run that was killed; of several processes, a share."""
    for name in names:
        for path in leftovers(folder / name, rank=rank, count=count):
            path.unlink(missing_ok=True)


def foreign(
    folder: Path, shards: Sequence[Shard], small: Mapping[str, str]
) -> Iterable[tuple[str, str]]:
    """Files of another checkpoint, with what tells: the plan first, which knows most."""
    ours = {shard.name: shard for shard in shards}
    present = sorted(entry.name for entry in folder.iterdir())
    if PLAN in present:
        found = differences(_text(folder / PLAN), small[PLAN])
        if found is not None:
            yield PLAN, "; ".join(found)
    for name in present:
        if is_shard_name(name):
            reason = _foreign_shard(folder / name, ours.get(name))
            if reason:
                yield name, reason
        elif _DCP.fullmatch(name):
            yield name, "a file of torch.distributed.checkpoint"
        elif name in {*small, INDEX} - {PLAN} and _text(folder / name) != small.get(name):
            yield name, "another content than this checkpoint has"


def _foreign_shard(path: Path, shard: Shard | None) -> str:
    """Why a file is not of this checkpoint; ``""`` for one that is, finished or cut short."""
    if shard is None:
        return "a file that this checkpoint does not have"
    try:
        with path.open("rb") as file:
            if shard.header.startswith(file.read(len(shard.header))):
                return ""
        _, metadata = read_header(path)
    except (OSError, CheckpointError):
        return "no file that fanin wrote for this plan"
    expected = _metadata(shard)
    apart = [
        f"{key} {metadata.get(key)}, now {value}"
        for key, value in expected.items()
        if metadata.get(key) != value and key not in _HASHES
    ]
    return "; ".join(apart) or "other tensors"


def _metadata(shard: Shard) -> dict[str, str]:
    content = json.loads(shard.header[8:])["__metadata__"]
    return {str(key): str(value) for key, value in content.items()}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
