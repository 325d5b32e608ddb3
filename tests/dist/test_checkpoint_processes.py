"""Processes that write the shards of one folder at the same time, or load one that was written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from processes import run
from torch import nn
from torch.distributed import checkpoint as dcp
from torch.distributed.fsdp import fully_shard

import fanin
from fanin.checkpoint import write_checkpoint

COUNT = 3

# Runs the commands it is told, so that all processes begin theirs at the same moment.
_WORKER = """
import sys
from fanin.cli import app

print("ready", flush=True)
for command in sys.stdin:
    app(command.split(), standalone_mode=False)
    print("\\nended", flush=True)
"""
_INIT = "init zoo:lenet --recipe kaiming --dtype bfloat16 --max-shard-size 8KB"


class Worker:
    """A process that waits for commands."""

    def __init__(self) -> None:
        inherited = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")}
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", _WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=inherited | {"OMP_NUM_THREADS": "1"},
            text=True,
        )

    def begin(self, folder: Path, rank: int, count: int, options: str = "--seed 5") -> None:
        command = f"{_INIT} {options} --out {folder} --rank {rank} --world-size {count}"
        assert self.process.stdin is not None
        print(command, file=self.process.stdin, flush=True)

    def wait(self, word: str) -> str:
        """All it prints until the word."""
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            if line.strip() == word:
                return "".join(lines)
            lines.append(line)
        raise AssertionError(self.process.communicate()[1])


@pytest.fixture(scope="module")
def workers() -> Iterator[list[Worker]]:
    started = [Worker() for _ in range(COUNT)]
    for worker in started:
        worker.wait("ready")
    yield started
    for worker in started:
        _, errors = worker.process.communicate()
        assert worker.process.returncode == 0, errors


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def write_together(workers: list[Worker], folder: Path, options: str) -> list[str]:
    for rank, worker in enumerate(workers):
        worker.begin(folder, rank, COUNT, options)
    return [worker.wait("ended") for worker in workers]


def write_alone(worker: Worker, folder: Path, options: str) -> dict[str, bytes]:
    worker.begin(folder, 0, 1, options)
    worker.wait("ended")
    return content(folder)


def test_processes_at_the_same_time_make_the_bytes_of_one(
    tmp_path: Path, workers: list[Worker]
) -> None:
    expected = write_alone(workers[0], tmp_path / "one", "--seed 5")
    assert {"model.safetensors.index.json", "fanin_plan.json"} < expected.keys()
    assert len(expected) >= COUNT + 2
    for number in range(10):
        folder = tmp_path / str(number)
        said = write_together(workers, folder, "--seed 5")
        assert content(folder) == expected
        assert any("still to come" not in each for each in said)  # what the last one says


def test_processes_at_the_same_time_replace_another_checkpoint(
    tmp_path: Path, workers: list[Worker]
) -> None:
    expected = write_alone(workers[0], tmp_path / "one", "--seed 5")
    write_alone(workers[0], tmp_path / "other", "--seed 6 --max-shard-size 6KB")
    for number in range(10):
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path / "other", folder)
        write_together(workers, folder, "--seed 5 --force")
        assert content(folder) == expected


def tied() -> nn.Module:
    """Sizes that two processes do not divide evenly, and a tie."""
    model = nn.Sequential(nn.Embedding(11, 5), nn.Linear(5, 7), nn.Linear(7, 5), nn.Linear(5, 11))
    model[3].weight = model[0].weight
    return model


def load_sharded(reader: dcp.StorageReader, *, without: str = "") -> bool:
    """Whether a sharded model that loads has the bits of one that was initialized."""
    expected, model = tied(), tied()
    fanin.initialize(expected, "kaiming", seed=5)
    for layer in (model[1], model[2]):
        fully_shard(layer)
    fully_shard(model)
    state = {name: each for name, each in model.state_dict().items() if name != without}
    dcp.load(state, storage_reader=reader)
    model.load_state_dict(state, strict=not without)
    return all(
        torch.equal(each.full_tensor(), expected.state_dict()[name])
        for name, each in model.state_dict().items()
    )


def load_both(for_dcp: str, safetensors: str) -> list[bool]:
    """Safetensors hold the tied tensor under one of its names."""
    return [
        load_sharded(dcp.FileSystemReader(for_dcp)),
        load_sharded(dcp.HuggingFaceStorageReader(safetensors), without="3.weight"),
    ]


def test_either_format_loads_into_a_sharded_model(tmp_path: Path) -> None:
    with fanin.deferred():
        model = tied()
    for_dcp, shards = tmp_path / "dcp", tmp_path / "shards"
    write_checkpoint(model, for_dcp, recipe="kaiming", seed=5, format="dcp")
    options = {"recipe": "kaiming", "seed": 5, "max_shard_size": 300, "world_size": 3}
    for rank in range(3):
        write_checkpoint(model, shards, rank=rank, **options)
    assert len(list(shards.glob("*.safetensors"))) >= 3
    assert run(2, load_both, str(for_dcp), str(shards)) == [[True, True]] * 2
