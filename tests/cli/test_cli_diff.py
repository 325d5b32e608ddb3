"""`fanin diff` on plans, recipes and checkpoints, and recipes from files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

from fanin.cli import app

EQUAL, DIFFERENT, USAGE = 0, 1, 2

RECIPE = """
name = "mine"
version = 1
base = "kaiming@1"

[[rules]]
name = "**.bias"
init = "constant(0.5)"
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory with a recipe file and a plan."""
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(RECIPE)
    Path("plan.json").write_text(run("plan zoo:lenet -r kaiming --seed 5 --json").stdout)
    return tmp_path


def run(command: str) -> Result:
    return CliRunner().invoke(app, command.split())


def test_equal_plans() -> None:
    result = run("diff plan.json plan.json")
    assert (result.exit_code, result.stdout) == (EQUAL, "10 parameters start from the same bits.\n")


def test_a_recipe_beside_a_plan_has_its_seed() -> None:
    assert run("diff plan.json kaiming --model zoo:lenet").exit_code == EQUAL
    result = run("diff plan.json kaiming --model zoo:lenet --seed 6")
    assert (result.exit_code, "seed 6" in result.stdout) == (DIFFERENT, True)


def test_two_recipes_on_a_model() -> None:
    result = run("diff kaiming mine.toml --model zoo:mlp --arg depth=1")
    assert result.exit_code == DIFFERENT
    assert result.stdout.splitlines()[2].split() == ["0.bias", "distribution", "0", "0.5"]
    assert len(result.stdout.splitlines()) == 3


def test_plans_as_json() -> None:
    result = run("diff plan.json mine.toml --model zoo:lenet --json")
    content = json.loads(result.stdout)
    assert (result.exit_code, content["equal"], len(content["differences"])) == (1, False, 5)
    assert content["differences"][0] == {
        "parameter": "0.bias",
        "differs in": "distribution",
        "first": "0",
        "second": "0.5",
    }
    same = json.loads(run("diff plan.json plan.json --json").stdout)
    assert same == {"equal": True, "differences": []}


def test_checkpoints_from_one_seed_are_equal() -> None:
    for name in ("a.safetensors", "b.safetensors"):
        run(f"init zoo:lenet -r xavier --seed 1 -o {name}")
    result = run("diff a.safetensors b.safetensors")
    assert result.exit_code == EQUAL
    assert result.stdout == "10 of 10 tensors are equal in every bit.\n"


def save(name: str, **tensors: torch.Tensor) -> None:
    save_file(tensors, f"{name}.safetensors")


def test_every_way_in_which_tensors_differ() -> None:
    save(
        "a",
        **{"h.2": torch.tensor([1.0, 3.0]), "h.10": torch.zeros(2), "only": torch.zeros(())},
        shape=torch.zeros(2, 3),
        dtype=torch.tensor([0.5, 1.0]),
        zero=torch.tensor([0.0]),
    )
    save(
        "b",
        **{"h.2": torch.tensor([1.0, 7.0]), "h.10": torch.zeros(2), "new": torch.zeros(1)},
        shape=torch.zeros(3, 2),
        dtype=torch.tensor([0.5, 1.0], dtype=torch.bfloat16),
        zero=torch.tensor([-0.0]),
    )
    result = run("diff a.safetensors b.safetensors")
    assert result.exit_code == DIFFERENT
    rows = [line.split("  ") for line in result.stdout.splitlines()[2:-2]]
    cells = [[cell.strip() for cell in row if cell] for row in rows]
    assert cells == [
        ["dtype", "dtype: float32, bfloat16", "0.25", "0.25", "0"],
        ["h.2", "values", "1", "3", "4"],
        ["new", "is only in the second", "-", "0", "-"],
        ["only", "is only in the first", "0", "-", "-"],
        ["shape", "shape: 2×3, 3×2", "0", "0", "-"],
        ["zero", "values", "0", "0", "0"],
    ]
    assert result.stdout.splitlines()[-1] == "1 of 7 tensors are equal in every bit."


def test_checkpoints_as_json_are_strict() -> None:
    nan = float("nan")
    save("a", x=torch.tensor([nan, 1.0]), y=torch.tensor([1 + 2j]), z=torch.empty(0))
    save("b", x=torch.tensor([nan, nan]), y=torch.tensor([1 + 5j]), z=torch.empty(0))
    text = run("diff a.safetensors b.safetensors --json").stdout
    content = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert (content["equal"], content["tensors"]) == (False, 3)
    x, y = content["differences"]
    assert (x["name"], x["max_difference"], x["a"]["std"]) == ("x", None, None)
    assert (y["name"], y["max_difference"], y["a"]["shape"]) == ("y", 3.0, [1])
    assert run("diff a.safetensors a.safetensors").exit_code == EQUAL  # NaN has equal bits


def test_tensors_without_elements_differ_in_their_dtype() -> None:
    save("a", x=torch.empty(0))
    save("b", x=torch.empty(0, dtype=torch.float16))
    content = json.loads(run("diff a.safetensors b.safetensors --json").stdout)
    assert content["differences"][0]["max_difference"] == 0


def test_numbers_are_in_order() -> None:
    save("a", **{f"h.{i}": torch.zeros(1) for i in range(12)})
    save("b", **{f"h.{i}": torch.ones(1) for i in range(12)})
    lines = run("diff a.safetensors b.safetensors").stdout.splitlines()[2:14]
    assert [line.split()[0] for line in lines] == [f"h.{i}" for i in range(12)]


def test_a_tied_tensor_counts_under_each_name(here: Path) -> None:
    weight = torch.ones(2)
    save_file({"a": weight}, "tied.safetensors", metadata={"b": "a", "format": "pt"})
    save_file({"a": weight, "b": weight.clone()}, "apart.safetensors")
    result = run("diff tied.safetensors apart.safetensors")
    assert (result.exit_code, result.stdout[:6]) == (EQUAL, "2 of 2")


def test_folders_are_compared_as_one_checkpoint(here: Path) -> None:
    init = "init zoo:lenet -r kaiming --seed 0 --out"
    assert run(f"{init} folder --max-shard-size 100KB").exit_code == 0
    assert run(f"{init} one.safetensors").exit_code == 0
    for side in ("folder", "folder/model.safetensors.index.json"):
        result = run(f"diff {side} one.safetensors")
        assert (result.exit_code, result.stdout[:8]) == (EQUAL, "10 of 10"), result.output
    Path("kaiming").symlink_to("folder")
    assert run("diff kaiming xavier --model zoo:lenet").stdout.startswith("parameter")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("kaiming xavier", "Got 'kaiming' without --model"),
        ("kaiming kaimin -m zoo:lenet", "Did you mean kaiming@1"),
        ("kaiming xavier -m zoo:lenett", "Did you mean lenet"),
        ("kaiming no.toml -m zoo:lenet", "cannot read 'no.toml': No such file"),
        ("kaiming gpt2 -m zoo:lenet", "**.c_proj.weight"),
        ("plan.json no.json", "cannot read 'no.json': No such file"),
        ("plan.json other.json", "'other.json' is no plan"),
        ("plan.json a.safetensors", "two checkpoints, or two of plans and recipes"),
        ("no.safetensors a.safetensors", "cannot read 'no.safetensors': no such file"),
        ("other.safetensors a.safetensors", "cannot read 'other.safetensors'"),
        ("kaiming xavier -m zoo:lenet --seed -1", "[0, 2**64)"),
    ],
)
def test_bad_input_has_a_status_of_its_own(command: str, message: str) -> None:
    save("a", x=torch.zeros(1))
    Path("other.json").write_text("{}")
    Path("other.safetensors").write_text("{}")
    result = run(f"diff {command}")
    assert (result.exit_code, result.stdout) == (USAGE, ""), result.output
    assert message in result.stderr
    assert [line[:6] for line in result.stderr.splitlines()].count("Error:") == 1


def test_a_recipe_from_a_file() -> None:
    result = run("plan zoo:mlp --recipe mine.toml --arg depth=1 --seed 0")
    assert result.exit_code == 0, result.output
    assert "mine@1, seed 0" in result.stdout
    assert "constant(0.5)" in Path("mine.toml").read_text()
    assert result.stdout.splitlines()[3].split()[:4] == ["0.bias", "10", "-", "0.5"]


def test_a_name_wins_over_a_file_of_that_name() -> None:
    Path("xavier").write_text(RECIPE)
    Path("ours").write_text(RECIPE)
    assert "xavier@1, seed" in run("plan zoo:lenet -r xavier").stdout
    assert "mine@1, seed" in run("plan zoo:lenet -r ours").stdout


def test_a_recipe_with_options() -> None:
    result = run("plan zoo:lenet -r orthogonal(nonlinearity=tanh) --seed 0")
    assert "orthogonal@1(nonlinearity=tanh), seed 0" in result.stdout
