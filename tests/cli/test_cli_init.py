"""`fanin init` and `fanin plan` as a person types them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from init_commands import FAILURE, MODELS, USAGE, command, made_by, run
from safetensors import safe_open
from safetensors.torch import load_file, load_model
from torch import nn

import fanin
from fanin.zoo import lenet, mlp


@pytest.fixture
def here(directory_with: Callable[[str, str], Path]) -> Path:
    """An empty directory to type commands in, with a file of models called mymodels.py."""
    return directory_with("mymodels", MODELS)


def test_the_file_holds_what_initialize_gives(here: Path) -> None:
    result = run("init zoo:lenet --recipe kaiming --seed 0 --out lenet.safetensors")
    assert result.exit_code == 0, result.output
    model = lenet()
    plan = fanin.initialize(model, "kaiming", seed=0)
    loaded = load_file("lenet.safetensors")
    assert loaded.keys() == model.state_dict().keys()
    assert all(torch.equal(loaded[name], value) for name, value in model.state_dict().items())
    with safe_open("lenet.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata["format"] == "pt"
    assert metadata["fanin.recipe"] == "kaiming@1"
    assert metadata["fanin.seed"] == "0"
    assert metadata["fanin.fingerprint"] == plan.fingerprint()
    assert metadata["fanin.version"] == fanin.__version__
    assert metadata["fanin.stream_version"] == "1"
    assert made_by(here) == {"lenet.safetensors"}


def test_the_table_and_the_summary_are_shown(here: Path) -> None:
    result = run("init zoo:lenet -r kaiming --seed 0 -o lenet.safetensors")
    lines = result.stdout.splitlines()
    assert "observed" in lines[0]
    assert lines[2].split()[:5] == ["0.weight", "6×1×5×5", "25", "→", "150"]
    assert "61,706 values in 10 parameters" in result.stdout
    assert "seed 0, fingerprint" in result.stdout
    assert "Drawn in" in result.stdout
    assert re.search(r"lenet\.safetensors: 24\d\.\d kB", result.stdout)
    assert result.stderr == ""


def test_two_runs_give_equal_files(here: Path) -> None:
    for name in ("a", "b"):
        run(f"init zoo:lenet -r xavier --seed 5 --out {name}.safetensors")
    assert Path("a.safetensors").read_bytes() == Path("b.safetensors").read_bytes()


def test_without_a_seed_a_fresh_one_is_recorded(here: Path) -> None:
    for name in ("a", "b"):
        assert run(f"init zoo:lenet -r xavier --out {name}.safetensors").exit_code == 0
    assert Path("a.safetensors").read_bytes() != Path("b.safetensors").read_bytes()


def test_arguments_reach_the_model(here: Path) -> None:
    arguments = "--arg depth=2 --arg width=5 --arg activation=Tanh --arg in_features=3"
    assert run(f"init zoo:mlp -r xavier --out a.safetensors {arguments}").exit_code == 0
    expected = mlp(depth=2, width=5, in_features=3)
    assert {n: t.shape for n, t in load_file("a.safetensors").items()} == {
        name: tensor.shape for name, tensor in expected.state_dict().items()
    }


def test_overrides_win(here: Path) -> None:
    overrides = "--set *.bias=ones() --set 0.bias=keep()"
    done = run(f"init zoo:lenet -r kaiming --seed 0 --out a.safetensors {overrides}")
    assert done.exit_code == 0
    loaded = load_file("a.safetensors")
    assert (loaded["3.bias"] == 1).all()
    assert loaded["0.bias"].std() > 0
    with safe_open("a.safetensors", "pt") as file:
        assert json.loads(file.metadata()["fanin.set"]) == ["*.bias=ones()", "0.bias=keep()"]


def test_kept_values_follow_the_seed_too(here: Path) -> None:
    for name in ("a", "b"):
        options = f"--seed {2**64 - 1} --set 0.*=keep()"
        run(f"init zoo:lenet -r kaiming {options} --out {name}.safetensors")
    assert Path("a.safetensors").read_bytes() == Path("b.safetensors").read_bytes()


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "float8_e4m3fn"])
def test_the_dtype_is_the_files(here: Path, dtype: str) -> None:
    assert run(f"init zoo:lenet -r xavier --out a.safetensors --dtype {dtype}").exit_code == 0
    loaded = load_file("a.safetensors")
    assert {tensor.dtype for tensor in loaded.values()} == {getattr(torch, dtype)}


def test_a_users_own_model_with_buffers(here: Path) -> None:
    assert run("init mymodels:WithBuffers -r kaiming --out a.safetensors").exit_code == 0
    loaded = load_file("a.safetensors")
    assert loaded["norm.running_var"].tolist() == [1.0, 1.0, 1.0]
    assert loaded["norm.num_batches_tracked"].dtype == torch.int64
    assert loaded["flag"].tolist() == [True]
    assert "table" not in loaded


def test_ties_are_stored_once_and_load(here: Path) -> None:
    assert run("init mymodels:tied -r kaiming --seed 1 --out a.safetensors").exit_code == 0
    assert load_file("a.safetensors").keys() == {"0.weight", "0.bias", "1.bias"}
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    load_model(model, "a.safetensors")
    assert torch.equal(model[1].weight, load_file("a.safetensors")["0.weight"])


@pytest.mark.parametrize("command", ["init --dry-run", "plan"])
def test_a_dry_run_writes_nothing(here: Path, command: str) -> None:
    result = run(f"{command} zoo:lenet --recipe kaiming --seed 0")
    assert result.exit_code == 0
    assert "Nothing was written." in result.stdout
    assert "observed" not in result.stdout
    assert made_by(here) == set()


def test_json_is_all_that_stdout_holds(here: Path) -> None:
    result = json.loads(run("init zoo:lenet -r kaiming --seed 0 --out a.safetensors --json").stdout)
    size = Path("a.safetensors").stat().st_size
    assert result["file"] == {"path": "a.safetensors", "bytes": size}
    assert result["seconds"].keys() == {"drawing", "writing"}
    assert result["steps"][0]["observed_std"] == pytest.approx(0.283, rel=0.2)
    planned = json.loads(run("plan zoo:lenet -r kaiming --seed 0 --json").stdout)
    assert planned["fingerprint"] == result["fingerprint"]
    assert "file" not in planned


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ("zoo:alexnett -r kaiming", USAGE, "Did you mean alexnet"),
        ("alexnet -r kaiming", USAGE, "written zoo:NAME, hf:TYPE or package.module:callable"),
        ("zoo: -r kaiming", USAGE, "written zoo:NAME"),
        ("nowhere.at.all:f -r kaiming", USAGE, "No module named 'nowhere'"),
        ("mymodels:nothing -r kaiming", USAGE, "'nothing'"),
        ("mymodels:model -r kaiming", USAGE, "Name a class or a function"),
        ("mymodels:number -r kaiming", USAGE, "Got int from 'mymodels:number'"),
        ("mymodels:broken -r kaiming", FAILURE, "raised RuntimeError: no such weights"),
        ("zoo:lenet -r kaimin", USAGE, "Did you mean kaiming@1"),
        ("zoo:lenet -r kaiming@9", USAGE, "Did you mean kaiming@1"),
        ("zoo:lenet", USAGE, "--recipe"),
        ("zoo:lenet -r kaiming --set 0.weight", USAGE, "written NAME=INITIALIZER"),
        ("zoo:lenet -r kaiming --set =zeros()", USAGE, "written NAME=INITIALIZER"),
        ("zoo:lenet -r kaiming --set 0.weight=", USAGE, "written NAME=INITIALIZER"),
        ("zoo:lenet -r kaiming --set 0.weight=zeroes()", USAGE, "zeroes"),
        ("zoo:lenet -r kaiming --set 0.weight=zeros(", USAGE, "zeros("),
        ("zoo:lenet -r kaiming --set re:(=zeros()", USAGE, "name pattern"),
        ("zoo:lenet -r kaiming --set 99.weight=zeros()", FAILURE, "Near: 9.weight"),
        ("zoo:lenet -r kaiming --set 0.bias=kaiming_normal()", FAILURE, "for '0.bias'"),
        ("mymodels:uncovered -r kaiming", FAILURE, "scale  (2,) of Module"),
        ("mymodels:uncovered -r kaiming", FAILURE, "Add one, as in --set 'scale=INIT', or leave"),
        ("zoo:lenet -r kaiming --arg classes", USAGE, "written key=value"),
        ("zoo:lenet -r kaiming --arg classes=3", USAGE, "unexpected keyword argument 'classes'"),
        ("zoo:lenet -r kaiming --arg num_classes=1 --arg num_classes=2", USAGE, "twice"),
        ("zoo:lenet -r kaiming --arg num_classes=many", FAILURE, "raised TypeError"),
        ("zoo:lenet -r kaiming --dtype float31", USAGE, "Did you mean float32"),
        ("zoo:lenet -r kaiming --seed -1", USAGE, "[0, 2**64)"),
        ("zoo:lenet -r kaiming --seed x", USAGE, "--seed"),
        ("zoo:lenet -r kaiming --sed 1", USAGE, "--sed"),
        ("zoo:lenet -r kaiming --input-shape 1,x", USAGE, "Got '1,x'"),  # though none is needed
    ],
)
def test_bad_input_is_one_message_and_no_file(
    here: Path, options: str, status: int, message: str
) -> None:
    result = run(f"init {options} --out a.safetensors")
    assert result.exit_code == status, result.output
    assert message in result.stderr
    assert [line[:6] for line in result.stderr.splitlines()].count("Error:") == 1
    assert "Traceback" not in result.output
    assert result.stdout == ""
    assert made_by(here) == set()


def test_the_command_in_a_pipe_is_plain_text(here: Path) -> None:
    line = command("init", "zoo:lenet", "-r", "kaiming", "--seed", "0", "-o", "a.safetensors")
    environment = os.environ | {"COLUMNS": "20", "NO_COLOR": "1"}
    done = subprocess.run(line, capture_output=True, text=True, check=True, env=environment)
    assert "\x1b" not in done.stdout
    assert done.stdout.splitlines()[2].startswith("0.weight   6×1×5×5   25 → 150")
    assert done.stderr == ""


def test_json_is_all_there_is_on_stdout(here: Path) -> None:
    result = run("init mymodels:talkative --recipe kaiming --json --out w.safetensors")
    assert json.loads(result.stdout)["file"]["path"] == "w.safetensors"
    assert "building" in result.stderr


def test_json_of_an_empty_parameter_is_strict(here: Path) -> None:
    result = run("init mymodels:empty --recipe kaiming --json --out w.safetensors")
    steps = json.loads(result.stdout, parse_constant=lambda name: pytest.fail(name))["steps"]
    assert [step["observed_std"] for step in steps] == [None, None]


def test_a_stdout_of_ascii_gets_the_table_too(here: Path) -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "fanin", "plan", "zoo:lenet", "--recipe", "kaiming"]
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"kaiming@1" in done.stdout


def test_a_lazy_model_is_planned_and_not_stored(here: Path) -> None:
    assert "once its shape is known" in run("plan mymodels:lazy -r kaiming").stdout
    result = run("init mymodels:lazy -r kaiming -o w.safetensors")
    assert (result.exit_code, "Got 'weight' of a lazy module" in result.stderr) == (1, True)
    assert made_by(here) == set()


def test_a_constructor_that_reads_its_weights_is_built_with_them(here: Path) -> None:
    assert run("init mymodels:reading -r kaiming --seed 0 -o w.safetensors").exit_code == 0
    model = nn.Linear(2, 2)
    fanin.initialize(model, "kaiming", seed=0)
    assert torch.equal(load_file("w.safetensors")["weight"], model.weight)


def test_what_a_constructor_computed_stays(here: Path) -> None:
    assert run("init mymodels:scaled -r kaiming --arg scale=3.0 -o w.safetensors").exit_code == 0
    assert load_file("w.safetensors")["scale"].tolist() == [3.0, 3.0]
