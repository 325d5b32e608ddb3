"""`fanin calibrate` as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

import fanin
from fanin import zoo
from fanin.calibration import MetaInit
from fanin.cli import app

MLP = ("zoo:mlp", "--arg", "depth=3", "--arg", "width=32", "--arg", "in_features=32")


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["calibrate", *words])


def test_it_shows_every_layer_and_writes_the_file(tmp_path: Path) -> None:
    out = tmp_path / "mlp.safetensors"
    result = run(*MLP, "--seed", "3", "--batch", "64", "--out", str(out))
    assert result.exit_code == 0, result.output
    assert "lsuv, seed 3: 3 of 3 layers within 5.0% of 1." in result.stdout
    assert str(out) in result.stdout
    model = zoo.mlp(depth=3, width=32, in_features=32)
    model.load_state_dict(load_file(out))
    x = torch.randn(512, 32, generator=torch.Generator().manual_seed(0))
    # 512 other inputs, 32 units: their std is within some 1/√512 of that of the batch's 64.
    assert float(model[0](x).detach().std()) == pytest.approx(1, abs=0.2)
    with safe_open(out, "pt") as file:
        written = json.loads(file.metadata()["fanin.calibration"])
    assert written["method"] == "lsuv"
    assert written["inputs"] == "64×32, N(0, 1)"


def test_the_same_command_gives_the_same_file(tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.safetensors" for name in "ab"]
    for file in files:
        assert run(*MLP, "--seed", "3", "--out", str(file)).exit_code == 0
    assert files[0].read_bytes() == files[1].read_bytes()


def test_it_does_what_the_library_does(tmp_path: Path) -> None:
    batch = np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32)
    np.save(tmp_path / "batch.npy", batch)
    result = run(*MLP, "--seed", "5", "--input", str(tmp_path / "batch.npy"), "--json")
    content = json.loads(result.stdout)
    model = zoo.mlp(depth=3, width=32, in_features=32)
    done = fanin.calibrate(model, torch.from_numpy(batch), seed=5)
    assert [row["factor"] for row in content["rows"]] == [row.factor for row in done.rows]
    assert (content["converged"], content["file"]) == (True, None)


def test_a_recipes_weights_are_scaled_as_they_are() -> None:
    words = ("--recipe", "kaiming", "--seed", "1", "--batch", "64", "--json")
    content = json.loads(run(*MLP, *words).stdout)
    assert content["seed"] is None
    model = zoo.mlp(depth=3, width=32, in_features=32)
    fanin.initialize(model, "kaiming", seed=1)
    assert content["rows"][0]["before"] == pytest.approx(1.41, abs=0.2)


def test_other_methods_and_a_choice_of_layers() -> None:
    words = ("--method", "weight_norm", "--skip", "4", "--target", "0.5", "--batch", "64")
    result = run(*MLP, *words)
    assert result.exit_code == 0, result.output
    assert "in skip=" in result.stdout
    assert "weight_norm: 2 of 2 layers within 5.0% of 0.5, unit by unit." in result.stdout
    assert (
        run(
            "hf:gpt2",
            "--arg",
            "n_layer=1",
            "--arg",
            "n_embd=16",
            "--arg",
            "n_head=2",
            "--arg",
            "vocab_size=50",
            "--arg",
            "bos_token_id=0",
            "--arg",
            "eos_token_id=0",
            "--length",
            "8",
        ).exit_code
        == 0
    )


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["zoo:mpl"], 2, "Did you mean mlp"),
        ([*MLP, "--method", "lsvu"], 2, "Did you mean lsuv"),
        ([*MLP, "--out", "mlp"], 2, "NAME.safetensors"),
        ([*MLP, "--out", "missing/mlp.safetensors"], 1, "a directory that exists"),
        ([*MLP, "--only", "head"], 2, "which fits none"),
        ([*MLP, "--input-shape", "31"], 1, "the forward pass runs through"),
        (["zoo:mlp", "--batch", "0"], 2, "at least 1"),
        ([*MLP, "--method", "gradinit"], 2, "--method gradinit: needs a loss"),
        ([*MLP, "--method", "metainit", "--target", "2"], 2, "Got target=, of lsuv"),
        ([*MLP, "--method", "metainit", "--steps", "0"], 2, "a whole number from 1"),
        ([*MLP, "--method", "metainit", "--optimizer", "sgd"], 2, "for --method gradinit"),
        ([*MLP, "--steps", "9"], 2, "Say --max-iterations"),
        ([*MLP, "--recipe", "xavier", "--set", "0.weight=zeros()"], 1, "the same number"),
    ],
)
def test_bad_input_is_one_message(
    words: list[str], status: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*words)
    assert (result.exit_code, result.stdout) == (status, "")
    assert message in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_layer_outside_the_tolerance_is_exit_status_1() -> None:
    words = ("--recipe", "xavier", "--set", "0.bias=normal(std=9)", "--max-iterations", "1")
    result = run(*MLP, *words, "--seed", "0")
    assert result.exit_code == 1
    assert "not within the tolerance" in result.stdout


GPT2 = (
    *("hf:gpt2", "--arg", "n_layer=1", "--arg", "n_embd=16", "--arg", "n_head=2"),
    *("--arg", "vocab_size=50", "--arg", "bos_token_id=0", "--arg", "eos_token_id=0"),
    *("--length", "8", "--seed", "0"),
)


def test_metainit_does_what_the_library_does(tmp_path: Path) -> None:
    batch = np.random.default_rng(0).standard_normal((16, 32)).astype(np.float32)
    np.save(tmp_path / "batch.npy", batch)
    words = ("--method", "metainit", "--steps", "5", "--recipe", "xavier", "--seed", "5")
    result = run(*MLP, *words, "--input", str(tmp_path / "batch.npy"), "--json")
    content = json.loads(result.stdout)
    model = zoo.mlp(depth=3, width=32, in_features=32)
    fanin.initialize(model, "xavier", seed=5)
    done = fanin.calibrate(model, torch.from_numpy(batch), MetaInit(steps=5))
    assert [row["factor"] for row in content["rows"]] == [row.factor for row in done.rows]
    assert content["after"] == done.after


def test_gradinit_writes_a_model_that_returns_its_loss(tmp_path: Path) -> None:
    out = tmp_path / "gpt2.safetensors"
    words = ("--method", "gradinit", "--optimizer", "adam", "--steps", "3", "--out", str(out))
    result = run(*GPT2, *words)
    assert result.exit_code == 0, result.output
    assert "gradinit, the model's own loss: loss after one step" in result.stdout
    assert "labels 16×8, the token ids" in result.stdout
    with safe_open(out, "pt") as file:
        written = json.loads(file.metadata()["fanin.calibration"])
    assert (written["method"], written["steps"]) == ("gradinit", 3)


def test_a_gradient_above_its_bound_is_exit_status_1() -> None:
    words = ("--method", "gradinit", "--steps", "1", "--set", "**.wte.weight=normal(std=9)")
    result = run(*GPT2, "--recipe", "gpt2", *words)
    assert result.exit_code == 1, result.output
    assert "above the bound of 1." in result.stdout


def test_classes_are_drawn_for_a_classifier() -> None:
    sizes = ("hidden_size=8", "intermediate_size=8", "num_hidden_layers=1", "num_attention_heads=1")
    more = (
        "image_size=8",
        "patch_size=4",
        "architecture=ViTForImageClassification",
    )
    arguments = [word for size in (*sizes, *more) for word in ("--arg", size)]
    result = run(
        "hf:vit", *arguments, "--method", "gradinit", "--steps", "1", "--seed", "0", "--json"
    )
    content = json.loads(result.stdout)
    assert "labels 16, classes" in content["notes"][0]
    assert content["loss"] == "the model's own loss"
