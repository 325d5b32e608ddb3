"""`format="dcp"`: what `torch.distributed.checkpoint.load` reads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.distributed import checkpoint as dcp
from typer.testing import CliRunner

import fanin
from fanin import initializers
from fanin.checkpoint import (
    Checkpoint,
    CheckpointError,
    prepare_checkpoint,
    verify_checkpoint,
    write_checkpoint,
    writing,
)
from fanin.cli import app
from fanin.errors import ArgumentError
from fanin.zoo import lenet


class Mixed(nn.Module):
    """A padding row, a packed weight, buffers, a tie, a computed value, a scalar, nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8, padding_idx=2)
        self.attention = nn.MultiheadAttention(8, 2)
        self.norm = nn.BatchNorm1d(8)
        self.scale = nn.Parameter(torch.log(torch.arange(1.0, 9.0)))
        self.table = nn.Buffer(torch.arange(5), persistent=False)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight
        self.one = nn.Parameter(torch.ones(()))
        self.empty = nn.Parameter(torch.empty(0, 3))


RULES = {
    "**": initializers.normal(std=0.02),
    "scale": fanin.keep(),
    "attention.out_proj.weight": initializers.orthogonal(),
}


def deferred() -> nn.Module:
    with fanin.deferred():
        return Mixed()


def write(folder: Path, **options: object) -> Checkpoint:
    asked = {"recipe": RULES, "seed": 3, "format": "dcp"} | options
    return write_checkpoint(deferred(), folder, **asked)


def load(state: dict[str, Tensor], folder: Path) -> None:
    with pytest.warns(UserWarning, match="load in a single process"):
        dcp.load(state, storage_reader=dcp.FileSystemReader(folder), no_dist=True)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_it_loads_into_an_initialized_model(tmp_path: Path, dtype: torch.dtype | None) -> None:
    counts: list[int] = []
    written = write(tmp_path / "new", dtype=dtype, on_bytes=counts.append)
    expected, model = deferred(), deferred()
    fanin.initialize(expected, RULES, seed=3, dtype=dtype)
    fanin.initialize(model, {"**": initializers.zeros()}, seed=0, dtype=dtype)
    load(model.state_dict(), tmp_path / "new")
    for name, tensor in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    assert model.head.weight is model.embed.weight
    assert sum(counts) == written.nbytes == written.written
    assert written.is_complete
    assert {path.name for path in (tmp_path / "new").iterdir()} == {
        ".metadata",
        "fanin_plan.json",
        *written.files,
    }


def test_every_name_of_a_tie_is_there(tmp_path: Path) -> None:
    write(tmp_path)
    names = dcp.FileSystemReader(tmp_path).read_metadata().state_dict_metadata
    assert names.keys() == deferred().state_dict().keys()


def test_it_is_not_resumed_and_replaced_on_demand(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "tokenizer.json").write_text("mine")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(CheckpointError, match=r"it is not resumed\. Got .*metadata'"):
        write(tmp_path)
    with pytest.raises(CheckpointError, match="seed 3, now 4"):
        write(tmp_path, seed=4)
    with pytest.raises(CheckpointError, match="a folder holds one checkpoint"):
        write(tmp_path, format="safetensors")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    write(tmp_path, seed=4, force=True)
    expected = deferred()
    fanin.initialize(expected, RULES, seed=4)
    state = {"embed.weight": torch.zeros(11, 8)}
    load(state, tmp_path)
    assert torch.equal(state["embed.weight"], expected.embed.weight)

    write(tmp_path, format="safetensors", force=True)
    assert verify_checkpoint(tmp_path).is_equal
    assert {path.name for path in tmp_path.iterdir()} == {
        "fanin_plan.json",
        "model.safetensors",
        "tokenizer.json",
    }
    with pytest.raises(CheckpointError, match="number of files 1, now 14"):
        write(tmp_path)
    write(tmp_path, force=True)
    assert not (tmp_path / "model.safetensors").exists()


_KILLED = """
import os, signal, sys
from fanin.checkpoint import write_checkpoint
from fanin.zoo import lenet

def killed(count):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

left = int(sys.argv[2])
write_checkpoint(lenet(), sys.argv[1], recipe="kaiming", seed=0, format="dcp", on_bytes=killed)
"""


@pytest.mark.parametrize("tensors", [1, 7])
def test_after_a_kill_nothing_loads_and_the_same_call_begins_anew(
    tmp_path: Path, tensors: int
) -> None:
    command = [sys.executable, "-c", _KILLED, str(tmp_path), str(tensors)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    (tmp_path / ".fanin_plan.json.a1b2.partial").touch()
    left = {path.name for path in tmp_path.iterdir()}
    assert ".metadata" not in left
    assert len([name for name in left if name.endswith(".distcp")]) == tensors  # the last is open
    with pytest.raises(CheckpointError, match=r"Got no \.metadata"):
        verify_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="seed 0, now 1"):
        write_checkpoint(lenet(), tmp_path, recipe="kaiming", seed=1, format="dcp")
    assert {path.name for path in tmp_path.iterdir()} == left
    written = write_checkpoint(lenet(), tmp_path, recipe="kaiming", seed=0, format="dcp")
    assert verify_checkpoint(tmp_path).is_equal
    assert {path.name for path in tmp_path.iterdir()} == {
        ".metadata",
        "fanin_plan.json",
        *written.files,
    }


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_after_an_error_it_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fails(count: int) -> None:
        if len(list(tmp_path.glob("*.distcp"))) == 3:
            raise error

    kind = CheckpointError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(kind, match=r"No space left on device\. .* not resumed|^$"):
        write(tmp_path, on_bytes=fails)
    assert {path.name for path in tmp_path.iterdir()} == {"fanin_plan.json"}
    assert write(tmp_path).is_complete


_LIMITED = """
import resource, sys
from torch import nn
from fanin.checkpoint import CheckpointError, write_checkpoint

model = nn.Linear(512, 512)
resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6))
try:
    write_checkpoint(model, sys.argv[1], recipe="kaiming", seed=0, format="dcp")
except CheckpointError as error:
    print(error)
"""


def test_what_the_system_says_is_said(tmp_path: Path) -> None:
    """A write that fails within `torch.save`, which reports something else."""
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "File too large. format='dcp' is not resumed" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"fanin_plan.json"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0, "world_size": 2}, "one process writes format='dcp'. Got 2 processes"),
        ({"max_shard_size": 300}, "a file for each tensor. Got max_shard_size=300"),
        ({"format": "pickle"}, "a format is 'safetensors' or 'dcp'. Got 'pickle'"),
    ],
)
def test_options_that_make_no_sense(
    tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        write(tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_a_disk_that_is_too_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = writing.shutil.disk_usage(tmp_path)._replace(free=300)
    monkeypatch.setattr(writing.shutil, "disk_usage", lambda path: full)
    with pytest.raises(CheckpointError, match="has 300 B left"):
        write(tmp_path)
    assert not list(tmp_path.iterdir())


def test_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def run(options: str) -> object:
        command = f"init zoo:lenet --recipe kaiming --seed 0 --format dcp {options}"
        return CliRunner().invoke(app, command.split())

    assert run("--out start").exit_code == 0
    expected = lenet()
    fanin.initialize(expected, "kaiming", seed=0)
    state = {name: torch.zeros_like(each) for name, each in expected.state_dict().items()}
    load(state, tmp_path / "start")
    assert all(torch.equal(each, state[name]) for name, each in expected.state_dict().items())
    assert "it is not resumed" in run("--out start").stderr
    assert run("--out start --force").exit_code == 0
    assert "are for a folder" in run("--out start.safetensors").stderr


_MEASURED = """
import sys
import torch, fanin
from torch import nn
from torch.distributed import checkpoint
from fanin.checkpoint import verify_checkpoint, write_checkpoint

def resident(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field)) * 1024

torch.set_default_dtype(torch.bfloat16)
with fanin.deferred():
    model = nn.Sequential(*(nn.Linear(4096, 4096, bias=False) for _ in range(10)))
plan = fanin.plan(model, "kaiming", seed=0)
before = resident("VmRSS")
written = write_checkpoint(model, sys.argv[1], recipe=plan, format="dcp")
assert verify_checkpoint(sys.argv[1]).is_equal
print(written.nbytes, resident("VmHWM") - before)
"""


def test_memory_is_that_of_two_tensors(tmp_path: Path) -> None:
    """335 MB are written; a tensor of 34 MB is drawn while the writer still holds the last one.

    To verify, torch reads a tensor and copies it to where it was asked for.
    """
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    written, growth = map(int, done.stdout.split())
    assert written > 330e6
    assert growth < 120e6


def test_another_checkpoint_may_come_after_the_first_check(tmp_path: Path) -> None:
    late = prepare_checkpoint(deferred(), tmp_path, recipe=RULES, seed=4, format="dcp")
    write(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(CheckpointError, match="seed 3, now 4"):
        late.run()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
