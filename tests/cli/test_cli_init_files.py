"""The file that `fanin init` writes: ones that cannot be, links, interrupts, buffers."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from init_commands import FAILURE, MODELS, USAGE, command, made_by, run
from safetensors.torch import load_file

from fanin.cli import files, initialize


@pytest.fixture
def here(directory_with: Callable[[str, str], Path]) -> Path:
    """An empty directory to type commands in, with a file of models called mymodels.py."""
    return directory_with("mymodels", MODELS)


def test_the_file_has_the_usual_permissions(here: Path) -> None:
    run("init zoo:lenet -r xavier --out a.safetensors")
    Path("plain").touch()
    assert Path("a.safetensors").stat().st_mode == Path("plain").stat().st_mode


def test_a_file_is_needed(here: Path) -> None:
    result = run("init zoo:lenet -r kaiming")
    assert (result.exit_code, "--dry-run" in result.stderr) == (USAGE, True)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("missing/a.safetensors", "Create 'missing' first"),
        ("folder.safetensors", "Got the directory"),
        ("old.safetensors", "Say --force"),
        ("pipe.safetensors", "a regular file"),
        ("old.safetensors/a.safetensors", "directory that exists"),
    ],
)
def test_a_file_that_cannot_be_is_refused(here: Path, out: str, message: str) -> None:
    Path("old.safetensors").write_text("precious")
    Path("folder.safetensors").mkdir()
    os.mkfifo("pipe.safetensors")
    before = made_by(here)
    result = run(f"init zoo:lenet -r kaiming --out {out}")
    assert result.exit_code == FAILURE
    assert message in result.stderr
    assert made_by(here) == before
    assert Path("old.safetensors").read_text() == "precious"


def test_force_overwrites(here: Path) -> None:
    Path("old.safetensors").write_text("worthless")
    assert run("init zoo:lenet -r kaiming --out old.safetensors --force").exit_code == 0
    assert len(load_file("old.safetensors")) == 10


def test_a_link_is_written_through(here: Path) -> None:
    Path("old.safetensors").write_text("worthless")
    Path("link.safetensors").symlink_to("old.safetensors")
    assert run("init zoo:lenet -r kaiming --out link.safetensors --force").exit_code == 0
    assert Path("link.safetensors").is_symlink()
    assert len(load_file("old.safetensors")) == 10


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_file_appears_whole_or_not_at_all(
    here: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    Path("old.safetensors").write_text("precious")

    def fail(file, *args, **options) -> None:
        file.write(b"half of it")
        raise error

    monkeypatch.setattr(initialize, "write_safetensors", fail)
    result = run("init zoo:lenet -r kaiming --out old.safetensors --force")
    assert result.exit_code != 0
    assert "Traceback" not in result.output
    assert made_by(here) == {"old.safetensors"}
    assert Path("old.safetensors").read_text() == "precious"


def test_a_failed_sync_leaves_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(files.os, "fsync", fail)
    result = run("init zoo:lenet -r kaiming --out a.safetensors")
    assert (result.exit_code, made_by(here)) == (FAILURE, set())
    assert "cannot write 'a.safetensors': Input/output error" in result.stderr


def test_an_interrupt_leaves_no_file(here: Path) -> None:
    """A real SIGINT while a large model is built, drawn or written."""
    options = ("--arg", "width=6000", "--out", "a.safetensors")
    line = command("init", "zoo:mlp", "-r", "kaiming", *options)
    process = subprocess.Popen(line, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if any(name.startswith(".a.") for name in made_by(here)):
            process.send_signal(signal.SIGINT)
            break
    _, errors = process.communicate(timeout=60)
    assert made_by(here) <= {"a.safetensors"}
    assert process.returncode != 0 or "a.safetensors" in made_by(here)
    if made_by(here):  # the interrupt came too late: the file is whole
        assert len(load_file("a.safetensors")) == 6
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("kind", "what"), [("meta", "none for\n  table"), ("sparse", "the layout")]
)
def test_a_buffer_that_the_format_cannot_hold(here: Path, kind: str, what: str) -> None:
    result = run(
        f"init mymodels:with_buffer --arg kind={kind} --recipe kaiming --out w.safetensors"
    )
    assert result.exit_code == 1
    assert f"Got {what}" in result.stderr
    assert "table" in result.stderr
    assert made_by(here) == set()


def test_a_conjugated_buffer_is_stored_by_value(here: Path) -> None:
    command = "init mymodels:with_buffer --arg kind=conjugated --recipe kaiming"
    result = run(f"{command} --out w.safetensors")
    assert result.exit_code == 0
    assert load_file("w.safetensors")["table"].tolist() == [1 - 2j]


def test_a_name_that_no_file_can_have(here: Path) -> None:
    (here / "loop.safetensors").symlink_to("loop.safetensors")
    for path in ("x" * 300 + ".safetensors", "loop.safetensors"):
        result = run(f"init zoo:lenet --recipe kaiming --out {path}")
        assert result.exit_code == 1, path
        assert "cannot write" in result.stderr, path
    assert made_by(here) == {"loop.safetensors"}
