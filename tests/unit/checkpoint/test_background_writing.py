"""What is written reaches the disk while the next piece is drawn, and the cache stays small."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from torch import nn

from fanin.checkpoint import CheckpointError, background, write_checkpoint
from fanin.checkpoint import drawing as checkpoint_drawing

NAME = "model.safetensors"


def write(folder: Path) -> bytes:
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))
    write_checkpoint(model, folder, recipe="kaiming", seed=0)
    return (folder / NAME).read_bytes()


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of 64 bytes, of which three make a stretch."""
    monkeypatch.setattr(checkpoint_drawing, "PIECE", 64)
    monkeypatch.setattr(background, "_STRETCH", 192)


def replace(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    """Something of the system, which not every system has."""
    monkeypatch.setattr(os, name, value, raising=False)


@pytest.mark.usefixtures("small_pieces")
def test_every_stretch_is_brought_to_the_disk_and_out_of_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    dropped: list[tuple[int, int, int]] = []
    replace(monkeypatch, "fdatasync", lambda descriptor: synced.append(descriptor))
    replace(monkeypatch, "posix_fadvise", lambda descriptor, *advice: dropped.append(advice))
    replace(monkeypatch, "POSIX_FADV_DONTNEED", 4)
    content = write(tmp_path)
    header = 8 + int.from_bytes(content[:8], "little")
    tensors = len(content) - header
    assert tensors == 2 * (1024 + 64)
    starts = range(header, header + tensors - 191, 192)
    assert dropped == [(start, 192, 4) for start in starts]
    assert len(synced) == len(dropped)


@pytest.mark.usefixtures("small_pieces")
def test_stretches_change_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_stretches = write(tmp_path / "stretches")
    monkeypatch.delattr(os, "fdatasync", raising=False)  # as on macOS and Windows
    assert write(tmp_path / "without") == in_stretches
    monkeypatch.undo()
    assert write(tmp_path / "whole") == in_stretches


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("failing", [0, 5, 10])
def test_what_the_disk_refuses_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """The system tells once of a page that it could not write: at the first or the last stretch."""
    calls: list[int] = []

    def refuse(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == failing + 1:
            raise OSError(5, "Input/output error")

    replace(monkeypatch, "fdatasync", refuse)
    replace(monkeypatch, "posix_fadvise", lambda *advice: None)
    replace(monkeypatch, "POSIX_FADV_DONTNEED", 4)
    with pytest.raises(CheckpointError, match="Input/output error"):
        write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"fanin_plan.json"}
    assert len(calls) in (failing + 1, failing + 2)
    monkeypatch.undo()
    write(tmp_path)
