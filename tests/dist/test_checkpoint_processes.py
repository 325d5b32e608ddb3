"""Processes that write the shards of one folder at the same time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COUNT = 3

# Runs the command for each folder it is told, so that all processes begin at the same moment.
_WORKER = """
import sys
from fanin.cli import app

print("ready", flush=True)
for folder in map(str.strip, sys.stdin):
    try:
        app([*sys.argv[1:], "--out", folder], standalone_mode=False)
    except SystemExit as ended:
        print("failed", ended.code, file=sys.stderr)
    print("\\nended", flush=True)
"""
_INIT = "init zoo:lenet --recipe kaiming --seed 5 --dtype bfloat16 --max-shard-size 8KB"


class Worker:
    """A process that waits to be told where to write."""

    def __init__(self, options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", _WORKER, *_INIT.split(), *options.split()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            text=True,
        )
        self.wait("ready")

    def begin(self, folder: Path) -> None:
        assert self.process.stdin is not None
        print(folder, file=self.process.stdin, flush=True)

    def wait(self, word: str) -> str:
        """All it prints until the word."""
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            if line.strip() == word:
                return "".join(lines)
            lines.append(line)
        raise AssertionError(self.process.communicate()[1])

    def end(self) -> None:
        _, errors = self.process.communicate("")
        assert not errors


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_processes_at_the_same_time_make_the_bytes_of_one(tmp_path: Path) -> None:
    """Every folder is begun by all at once: some make it, some find it begun."""
    one = Worker("--rank 0 --world-size 1")
    one.begin(tmp_path / "one")
    one.wait("ended")
    one.end()
    expected = content(tmp_path / "one")
    assert len(expected) >= COUNT + 3  # shards, the index, the plan

    workers = [Worker(f"--rank {rank} --world-size {COUNT}") for rank in range(COUNT)]
    for number in range(20):
        folder = tmp_path / f"shared-{number}"
        for worker in workers:
            worker.begin(folder)
        said = [worker.wait("ended") for worker in workers]
        assert content(folder) == expected
        assert any("still to come" not in each for each in said)  # the one that wrote the index
    for worker in workers:
        worker.end()


def test_processes_at_the_same_time_replace_another_checkpoint(tmp_path: Path) -> None:
    other = Worker("--seed 6 --rank 0 --world-size 1")
    for name in ("expected", *map(str, range(5))):
        other.begin(tmp_path / name)
        other.wait("ended")
    other.end()
    workers = [Worker(f"--rank {rank} --world-size {COUNT} --force") for rank in range(COUNT)]
    for number in range(5):
        for worker in workers:
            worker.begin(tmp_path / str(number))
        for worker in workers:
            worker.wait("ended")
    for worker in workers:
        worker.end()


@pytest.fixture(autouse=True)
def without_torchruns_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
