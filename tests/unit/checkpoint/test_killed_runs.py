"""Runs that are killed at any moment, and resumed to the same bytes."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from small_checkpoints import content, write


def test_temporary_files_say_who_writes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = []
    monkeypatch.setattr(os, "replace", lambda old, new: (names.append(old), os.rename(old, new)))
    write(tmp_path, rank=1, world_size=2)
    first = re.escape(str(tmp_path / ".fanin_plan.json.1."))
    assert re.fullmatch(rf"{first}\w+\.partial", str(names[0]))


HIDDEN = (".partial", ".lock")  # what a killed run leaves until the next one

# Forks a process for each folder it is told, before any thread was started.
_SERVER = """
import os, sys
import fanin, torch
from torch import nn
from fanin.checkpoint import write_checkpoint

def write(folder):
    with fanin.deferred():
        model = nn.Sequential(*(nn.Linear(256, 256) for _ in range(24)))
    write_checkpoint(model, folder, recipe="kaiming", seed=0, max_shard_size="800KB",
                     on_bytes=lambda count: print("piece", flush=True))

for folder in map(str.strip, sys.stdin):
    child = os.fork()
    if not child:
        write(folder)
        os._exit(0)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


class Server:
    """A process that writes checkpoints in children of its own."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def write(self, folder: Path, *, pieces: int | None = None, delay: float = 0.0) -> None:
        """Start a child, and kill it some time after so many pieces."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(folder, file=self.process.stdin, flush=True)
        child, count = 0, 0
        for line in map(str.strip, self.process.stdout):
            if line == "ended":
                return
            child = int(line) if line.isdigit() else child
            count += line == "piece"
            if child and count == pieces:
                time.sleep(delay)
                with suppress(ProcessLookupError):  # it may have ended by now
                    os.kill(child, signal.SIGKILL)
                pieces = None


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    with made.process:
        yield made
        made.process.communicate("")


def test_a_killed_run_is_resumed_to_the_same_bytes(tmp_path: Path, server: Server) -> None:
    """SIGKILL at 20 random moments, several times over one folder; then a run to its end."""
    server.write(tmp_path / "whole")
    expected = content(tmp_path / "whole")
    moments = random.Random(5)
    folders = [tmp_path / f"killed-{number}" for number in range(4)]
    states = set()
    for number in range(20):
        folder = folders[number % len(folders)]
        server.write(folder, pieces=moments.randrange(16), delay=moments.random() / 50)
        found = content(folder) if folder.exists() else {}
        whole = {name: text for name, text in found.items() if not name.endswith(HIDDEN)}
        assert whole.items() <= expected.items()
        states.add(frozenset(found))
    assert len(states) > 2
    for folder in folders:
        server.write(folder)
        assert content(folder) == expected
