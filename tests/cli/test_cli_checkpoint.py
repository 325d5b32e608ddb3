"""`fanin init --out FOLDER` and `fanin verify` as a person types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

import fanin
from fanin.cli import app, transfer
from fanin.zoo import lenet

MODELS = """
from torch import nn

def reading():
    model = nn.Linear(2, 2)
    model.largest = model.weight.max().item()
    return model
"""


@pytest.fixture
def here(directory_with: Callable[[str, str], Path]) -> Path:
    """An empty directory to type commands in, with a file of models called mine.py."""
    return directory_with("mine", MODELS)


def run(command: str) -> Result:
    return CliRunner().invoke(app, command.split())


INIT = "init zoo:lenet --recipe kaiming --seed 0"


def loaded(folder: str) -> dict[str, torch.Tensor]:
    files = Path(folder).glob("*.safetensors")
    return {name: each for file in files for name, each in load_file(file).items()}


def test_a_folder_holds_what_initialize_gives(here: Path) -> None:
    result = run(f"{INIT} --dtype bfloat16 --max-shard-size 50KB --out folder")
    assert result.exit_code == 0, result.output
    model = lenet()
    plan = fanin.initialize(model, "kaiming", seed=0, dtype=torch.bfloat16)
    state = model.state_dict()
    found = loaded("folder")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], each) for name, each in state.items())
    assert f"fingerprint {plan.fingerprint()}" in result.stdout
    assert "folder: 123.4 kB in 3 files" in result.stdout
    assert result.stderr == ""
    assert {path.name for path in Path("folder").iterdir()} == {
        "fanin_plan.json",
        "model.safetensors.index.json",
        *(f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)),
    }
    with safe_open("folder/model-00002-of-00003.safetensors", "pt") as file:
        assert file.metadata()["fanin.model"] == "zoo:lenet"


def test_json_says_what_was_written(here: Path) -> None:
    result = json.loads(run(f"{INIT} --out folder --json").stdout)
    checkpoint = result["checkpoint"]
    assert checkpoint.pop("seconds") > 0
    assert checkpoint == {
        "path": "folder",
        "names": ["model.safetensors"],
        "bytes": 246824,
        "written": 246824,
        "complete": True,
    }
    assert result["seed"] == 0
    again = json.loads(run(f"{INIT} --out folder --json").stdout)["checkpoint"]
    assert (again["written"], again["complete"]) == (0, True)


def test_values_that_are_kept_are_the_constructors(here: Path) -> None:
    command = "init mine:reading -r kaiming --seed 0 --set weight=keep()"
    run(f"{command} --out folder")
    run(f"{command} --out file.safetensors")
    assert torch.equal(loaded("folder")["weight"], load_file("file.safetensors")["weight"])
    run(f"{INIT} --set 0.*=keep() --out a")
    run(f"{INIT} --set 0.*=keep() --out b.safetensors")
    assert torch.equal(loaded("a")["0.weight"], load_file("b.safetensors")["0.weight"])
    assert run("verify a").exit_code == 0


def test_processes_share_a_folder(here: Path) -> None:
    options = "--max-shard-size 50KB"
    run(f"{INIT} {options} --out whole")
    first = run(f"{INIT} {options} --out shared --rank 1 --world-size 2")
    assert "still to come" in first.stdout
    assert not Path("shared/model.safetensors.index.json").exists()
    environment = os.environ | {"RANK": "0", "WORLD_SIZE": "2"}
    line = f"{INIT} {options} --out shared".split()
    command = [sys.executable, "-m", "fanin", *line]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert (done.stderr, "still to come" in done.stdout) == ("", False)
    for path in Path("whole").iterdir():
        assert (Path("shared") / path.name).read_bytes() == path.read_bytes()


USAGE, FAILURE = 2, 1


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ("--seed 0 --out full", FAILURE, "seed 1, now 0"),
        ("--seed 1 --dtype float16 --out full", FAILURE, "dtypes float32, now float16"),
        ("--out plain", FAILURE, "Got the file 'plain'"),
        ("--out missing/folder", FAILURE, "No such file or directory"),
        ("--out a --max-shard-size 5XB", USAGE, "As in --max-shard-size 5GB"),
        ("--out a --rank 1", USAGE, "Give both"),
        ("--out a --rank 2 --world-size 2 --seed 0", USAGE, "Got 2 of 2"),
        ("--out a --rank 0 --world-size 2", USAGE, "Pass the same --seed to each"),
        ("--out a.safetensors --max-shard-size 5GB", USAGE, "are for a folder"),
        ("--out a.pt", USAGE, "Name it 'a.safetensors', or a folder"),
    ],
)
def test_bad_input_is_one_message_and_changes_nothing(
    here: Path, options: str, status: int, message: str
) -> None:
    Path("plain").touch()
    run("init zoo:lenet -r kaiming --seed 1 --out full")
    before = {path: path.stat().st_mtime_ns for path in here.rglob("*")}
    result = run(f"init zoo:lenet -r kaiming {options}")
    assert (result.exit_code, result.stdout) == (status, "")
    assert message in result.stderr
    assert result.stderr.count("Error:") == 1
    assert {path: path.stat().st_mtime_ns for path in here.rglob("*")} == before


def test_the_same_command_without_a_seed_resumes(here: Path) -> None:
    command = "init zoo:lenet -r kaiming --out folder --json"
    first, again, other = (json.loads(run(command + end).stdout) for end in ("", "", " --force"))
    assert again["checkpoint"]["written"] == 0
    assert first["seed"] == again["seed"] != other["seed"]


def test_force_replaces_a_checkpoint(here: Path) -> None:
    run(f"{INIT} --max-shard-size 50KB --out folder")
    assert run(f"{INIT} --dtype float16 --out folder --force").exit_code == 0
    assert {path.name for path in Path("folder").iterdir()} == {
        "fanin_plan.json",
        "model.safetensors",
    }


def test_verify_compares_all_or_a_sample(here: Path) -> None:
    run(f"{INIT} --out folder")
    result = run("verify folder")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "61,706 of 61,706 values (100%) in 10 tensors are as planned.\n"
    assert run("verify folder --sample 0.01").exit_code == 0
    assert json.loads(run("verify folder --json").stdout) == {
        "equal": True,
        "num_tensors": 10,
        "num_compared": 61706,
        "num_elements": 61706,
        "difference": None,
    }


def test_verify_names_the_first_difference(here: Path) -> None:
    run(f"{INIT} --out folder")
    path = Path("folder/model.safetensors")
    content = bytearray(path.read_bytes())
    content[-4:] = b"\0\0\x80\x3f"  # the last value of the last tensor: 1.0
    path.write_bytes(content)
    result = run("verify folder")
    assert result.exit_code == 1
    assert result.stdout == "First difference: 11.bias at [9]: expected 0.0, found 1.0.\n"
    found = json.loads(run("verify folder --json").stdout)
    assert found["difference"] == {
        "name": "11.bias",
        "index": [9],
        "expected": "0.0",
        "found": "1.0",
    }


@pytest.mark.parametrize(
    "options",
    [
        "missing",
        "empty",
        "full/model.safetensors",
        "full --sample 2",
        "full --sample x",
        "full --sample nan",
        "full --sample inf",
    ],
)
def test_verify_of_what_is_no_checkpoint(here: Path, options: str) -> None:
    Path("empty").mkdir()
    run(f"{INIT} --out full")
    result = run(f"verify {options}")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Error" in result.stderr


def test_a_log_has_lines_with_rate_and_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    times = iter([0.0, 10.0, 40.0, 50.0])
    monkeypatch.setattr(transfer.time, "monotonic", lambda: next(times))
    with transfer.transfer_progress("writing", total=10**9) as advance:
        for _ in range(3):
            advance(10**8)
    assert capsys.readouterr().err == "writing: 200.0 MB of 1.0 GB, 5.0 MB/s, 160 s left\n"
