"""Runs that are resumed, folders that hold something else, disks that refuse."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_checkpoints import content, model, write

from fanin.checkpoint import (
    CheckpointError,
    prepare_checkpoint,
    writing,
)
from fanin.checkpoint.saved_plan import PLAN
from fanin.checkpoint.shards import INDEX
from fanin.errors import ArgumentError


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, bytes]:
    """What a run without an interruption writes: nine files, three shards unlike the others."""
    write(tmp_path / "whole")
    return content(tmp_path / "whole")


def test_a_finished_checkpoint_is_left_alone(tmp_path: Path, whole: dict[str, bytes]) -> None:
    folder = tmp_path / "whole"
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    again = write(folder)
    assert (again.written, again.is_complete) == (0, True)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def lost(folder: Path) -> None:
    (folder / "model-00002-of-00007.safetensors").unlink()


def truncated(folder: Path) -> None:
    path = folder / "model-00002-of-00007.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def empty(folder: Path) -> None:
    (folder / "model-00002-of-00007.safetensors").write_bytes(b"")


def half_header(folder: Path) -> None:
    path = folder / "model-00002-of-00007.safetensors"
    path.write_bytes(path.read_bytes()[:60])


def half_written(folder: Path) -> None:
    path = folder / "model-00002-of-00007.safetensors"
    path.rename(folder / ".model-00002-of-00007.safetensors.a1b2.partial")
    (folder / ".fanin_plan.json.a1b2.partial").touch()


def without_index(folder: Path) -> None:
    (folder / "model.safetensors.index.json").unlink()


def without_plan(folder: Path) -> None:
    (folder / "fanin_plan.json").unlink()


@pytest.mark.parametrize(
    "damage", [lost, truncated, empty, half_header, half_written, without_index, without_plan]
)
def test_what_is_missing_is_written_again(
    tmp_path: Path, whole: dict[str, bytes], damage: Callable[[Path], None]
) -> None:
    folder = tmp_path / "whole"
    damage(folder)
    again = write(folder)
    assert content(folder) == whole
    assert again.written in (0, 1088)  # at most the one layer


def test_what_a_killed_process_left_is_removed_by_the_processes_that_resume(
    tmp_path: Path, whole: dict[str, bytes]
) -> None:
    folder = tmp_path / "whole"
    (folder / ".model-00002-of-00007.safetensors.a1b2.partial").touch()
    for writer in range(3):  # three processes were killed, two resume
        (folder / f".fanin_plan.json.{writer}.a1b2.partial").touch()
        (folder / f".model.safetensors.index.json.{writer}.a1b2.partial").touch()
    write(folder, rank=1, world_size=2)
    left = {f".{name}.{w}.a1b2.partial" for name in (PLAN, INDEX) for w in (0, 2)}
    assert content(folder).keys() == whole.keys() | left
    write(folder, rank=0, world_size=2)
    assert content(folder) == whole


def test_files_of_a_like_name_are_left_alone(tmp_path: Path, whole: dict[str, bytes]) -> None:
    folder = tmp_path / "whole"
    for name in (".fanin_plan.json.x.y.partial", "fanin_plan.json.a1.partial", ".x.a1.partial"):
        (folder / name).touch()
    before = content(folder)
    write(folder)
    assert content(folder) == before


def other_shard(folder: Path) -> None:
    shutil.rmtree(folder)
    write(folder, seed=1)
    (folder / "fanin_plan.json").unlink()


def single_file(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"somebody else's")


def foreign_index(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text("{}")


@pytest.mark.parametrize(
    ("prepare", "options", "message"),
    [
        (lambda folder: None, {"seed": 1}, "seed 0, now 1"),
        (lambda folder: None, {"recipe": "xavier"}, "recipe kaiming@1, now xavier@1"),
        (lambda folder: None, {"dtype": torch.bfloat16}, "dtypes float32, now bfloat16"),
        (lambda folder: None, {"max_shard_size": "1GB"}, "number of files 7, now 1"),
        (other_shard, {}, "fanin.seed 1, now 0"),
        (single_file, {}, "a file that this checkpoint does not have"),
        (foreign_index, {}, "another content than this checkpoint has"),
    ],
)
def test_another_checkpoint_is_refused_and_replaced_on_demand(
    tmp_path: Path,
    whole: dict[str, bytes],
    prepare: Callable[[Path], None],
    options: dict[str, object],
    message: str,
) -> None:
    folder = tmp_path / "whole"
    prepare(folder)
    (folder / "tokenizer.json").write_text("mine")
    before = content(folder)
    with pytest.raises(CheckpointError, match=message):
        write(folder, **options)
    assert content(folder) == before
    write(folder, force=True, **options)
    write(tmp_path / "expected", **options)
    expected = content(tmp_path / "expected")
    assert content(folder) == expected | {"tokenizer.json": b"mine"}


def test_without_a_seed_the_saved_one_is_taken(tmp_path: Path) -> None:
    first = write(tmp_path / "a", seed=None)
    lost(tmp_path / "a")
    again = write(tmp_path / "a", seed=None)
    assert (again.plan.seed, again.written) == (first.plan.seed, 1088)
    assert write(tmp_path / "a", seed=None, force=True).plan.seed != first.plan.seed


def test_another_checkpoint_may_come_after_the_first_check(tmp_path: Path) -> None:
    late, early = (
        prepare_checkpoint(model(), tmp_path, recipe="kaiming", seed=seed) for seed in (0, 1)
    )
    early.run()
    before = content(tmp_path)
    with pytest.raises(CheckpointError, match="seed 1, now 0"):
        late.run()
    assert content(tmp_path) == before


def test_an_equal_checkpoint_may_come_after_the_first_check(tmp_path: Path) -> None:
    late, early = (
        prepare_checkpoint(model(), tmp_path, recipe="kaiming", seed=0) for _ in range(2)
    )
    assert early.run().written > 0
    assert late.run().written == 0


def test_force_keeps_what_is_finished(tmp_path: Path, whole: dict[str, bytes]) -> None:
    assert write(tmp_path / "whole", force=True).written == 0


def test_folders_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"a folder\. Got the file"):
        write(tmp_path / "file")
    with pytest.raises(CheckpointError, match="No such file or directory"):
        write(tmp_path / "missing" / "folder")


def test_a_folder_that_is_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The superuser may write anywhere, so the system's answer is given in its place.
    monkeypatch.setattr(writing.os, "access", lambda path, mode: False)
    with pytest.raises(CheckpointError, match="a folder one may write to"):
        write(tmp_path)
    assert content(tmp_path) == {}


def test_a_disk_that_is_too_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=3000)
    monkeypatch.setattr(writing.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(CheckpointError, match=r"to write to .* which has 3\.0 kB left"):
        write(tmp_path)
    assert content(tmp_path) == {}


def test_a_file_is_replaced_once_the_new_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So there is room for one shard beside the old ones, and for a single file there is not."""
    folder, single = tmp_path / "shards", tmp_path / "single"
    write(folder)
    write(single, max_shard_size="5GB")
    before = content(single)
    usage = shutil.disk_usage(tmp_path)._replace(free=2000)
    monkeypatch.setattr(writing.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(CheckpointError, match=r"8\.2 kB to write to .* which has 2\.0 kB left"):
        write(single, seed=1, max_shard_size="5GB", force=True)
    assert content(single) == before
    assert write(folder, seed=1, force=True).is_complete
    assert write(single, seed=1, force=True).is_complete  # in shards: the single file goes first


def test_a_link_that_leads_nowhere_is_replaced(tmp_path: Path) -> None:
    for name in ("model-00001-of-00007.safetensors", "model-00001-of-00002.safetensors"):
        (tmp_path / name).symlink_to(tmp_path / "missing")
    assert write(tmp_path, force=True).is_complete
    assert not any(path.is_symlink() for path in tmp_path.iterdir())


def test_a_disk_that_fills_up(
    tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []

    def fsync(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) > 6:
            raise OSError(28, "No space left on device")

    folder = tmp_path / "full"
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(CheckpointError, match=r"No space left on device\. Finished files are kept"):
        write(folder)
    kept = content(folder)
    assert 1 < len(kept) < len(whole)
    assert kept.items() <= whole.items()
    monkeypatch.undo()
    write(folder)
    assert content(folder) == whole


def test_a_write_that_fails_halfway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(piece: torch.Tensor) -> memoryview:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("fanin.checkpoint.background.as_bytes", refuse)
    with pytest.raises(CheckpointError, match="Input/output error"):
        write(tmp_path)
    assert content(tmp_path).keys() == {"fanin_plan.json"}


def test_an_interrupt_keeps_what_is_finished(tmp_path: Path, whole: dict[str, bytes]) -> None:
    pieces = []

    def interrupt(count: int) -> None:
        pieces.append(count)
        if len(pieces) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "a", on_bytes=interrupt)
    assert content(tmp_path / "a").items() <= whole.items()
    assert len(content(tmp_path / "a")) == 3


def test_another_run_in_the_same_folder_is_noticed(tmp_path: Path) -> None:
    def meddle(count: int) -> None:
        (tmp_path / "model-00001-of-00007.safetensors").unlink(missing_ok=True)

    with pytest.raises(CheckpointError, match="one run at a time"):
        write(tmp_path, on_bytes=meddle)


def test_one_run_at_a_time_writes_a_share(tmp_path: Path, whole: dict[str, bytes]) -> None:
    folder = tmp_path / "shared"
    messages: list[str] = []

    def meanwhile(count: int) -> None:
        if not messages:
            with pytest.raises(CheckpointError, match="another process writes this folder") as info:
                write(folder, rank=0, world_size=2)
            messages.append(str(info.value))
            assert not write(folder, rank=1, world_size=2).is_complete

    assert write(folder, rank=0, world_size=2, on_bytes=meanwhile).is_complete
    assert len(messages) == 1
    assert content(folder) == whole


@pytest.mark.parametrize("count", [2, 3, 9])
def test_processes_share_the_files(tmp_path: Path, whole: dict[str, bytes], count: int) -> None:
    folder = tmp_path / "shared"
    for rank in reversed(range(count)):
        written = write(folder, rank=rank, world_size=count)
        assert written.is_complete == (rank == 0)
        assert ("model.safetensors.index.json" in content(folder)) == (rank == 0)
    assert content(folder) == whole


@pytest.mark.parametrize("size", [800, 1200])
def test_processes_replace_another_checkpoint(
    tmp_path: Path, whole: dict[str, bytes], size: int
) -> None:
    folder = tmp_path / "shared"
    write(folder, seed=1, max_shard_size=size)  # of other names, and of the same
    for rank in range(3):
        write(folder, rank=rank, world_size=3, force=True)
    assert content(folder) == whole


def test_torchrun_says_which_process_this_is(
    tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        write(tmp_path / "shared")
    assert content(tmp_path / "shared") == whole
    monkeypatch.setenv("RANK", "two")
    with pytest.raises(ArgumentError, match="the variables RANK and WORLD_SIZE"):
        write(tmp_path / "shared")
