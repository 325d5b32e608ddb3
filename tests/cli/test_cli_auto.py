"""`--recipe auto` as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from fanin.cli import app


def run(command: str) -> Result:
    return CliRunner().invoke(app, command.split())


LENET = "zoo:lenet -r auto --seed 0 --input-shape 1,28,28"


def test_one_file_and_a_folder_hold_the_same(tmp_path: Path) -> None:
    one, folder = tmp_path / "one.safetensors", tmp_path / "folder"
    for target in (one, folder):
        made = run(f"init {LENET} --out {target}")
        assert made.exit_code == 0, made.output
    shards = [load_file(path) for path in folder.glob("*.safetensors")]
    stored = {name: tensor for shard in shards for name, tensor in shard.items()}
    assert stored.keys() == load_file(one).keys()
    assert all(stored[name].equal(tensor) for name, tensor in load_file(one).items())
    assert run(f"verify {folder}").exit_code == 0


def test_a_plan_is_shown_and_nothing_written() -> None:
    shown = run(f"init {LENET} --dry-run")
    assert "layer, √(1 / (" in shown.stdout
    assert "Nothing was written." in shown.stdout


@pytest.mark.parametrize(
    "model", ["zoo:mlp", "hf:gpt2 --arg n_layer=1 --arg n_embd=32 --arg n_head=2"]
)
def test_known_models_need_no_shape(model: str) -> None:
    shown = run(f"plan {model} -r auto(family=uniform) --seed 0 --json")
    assert shown.exit_code == 0, shown.output
    plan = json.loads(shown.stdout)
    assert plan["recipe"] == "auto@1(family=uniform)"
    assert any(step["rule"].startswith("layer, ") for step in plan["steps"])


def test_a_probe_has_predictions() -> None:
    shown = run(f"probe {LENET} --json")
    assert shown.exit_code == 0, shown.output
    rows = json.loads(shown.stdout)["rows"]
    assert all(row["expected"]["low"] < row["expected"]["median"] for row in rows)
