"""`fanin plan --trace`, and rules by what follows, as a person types them."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from fanin.cli import app

BEFORE_RELU = """
    base = "kaiming"
    [[rules]]
    parameter = "weight"
    followed_by = "relu"
    init = "constant(0.5)"
"""


def run(command: str) -> Result:
    return CliRunner().invoke(app, command.split())


def test_the_table_has_what_follows() -> None:
    shown = run("plan zoo:lenet -r kaiming --seed 0 --trace").stdout
    assert "followed by" in shown.splitlines()[0]
    assert "output std" in shown.splitlines()[0]
    assert [line.split()[-4] for line in shown.splitlines()[2:4]] == ["relu", "relu"]
    assert "output" in shown


def test_as_json() -> None:
    shown = json.loads(run("plan zoo:mlp -r kaiming --seed 0 --trace --json").stdout)
    assert shown["steps"][0]["followed_by"] == ["relu"]
    assert shown["steps"][-1]["followed_by"] == ["output"]
    assert shown["steps"][0]["output_std"] > 1
    assert shown["steps"][1]["output_std"] is None


def test_inputs_give_lazy_modules_their_shapes() -> None:
    model = "torch.nn:LazyLinear --arg out_features=3"
    shown = run(f"plan {model} -r kaiming --seed 0 --trace --input-shape 4").stdout
    assert "3×4" in shown
    assert "output" in shown


def test_without_a_shape() -> None:
    result = run("plan torch.nn:Linear --arg in_features=3 --arg out_features=3 -r kaiming --trace")
    assert result.exit_code == 2
    assert "--input-shape" in result.stderr


def test_a_rule_in_a_file(tmp_path: Path) -> None:
    recipe, out = tmp_path / "mine.toml", tmp_path / "model.safetensors"
    recipe.write_text(BEFORE_RELU)
    result = run(f"init zoo:lenet -r {recipe} --seed 0 --out {out}")
    assert result.exit_code == 0, result.stderr
    written = load_file(out)
    assert bool((written["9.weight"] == 0.5).all())
    assert not bool((written["11.weight"] == 0.5).any())
