"""`fanin probe` as a person types it."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner, Result

import fanin
from fanin.cli import app, passing
from fanin.cli.inputs import InputOptions, make_inputs
from fanin.cli.plans import Request, build
from fanin.probing import SignalReport
from fanin.zoo import MODELS

MODELS_HERE = """
    import torch
    from torch import nn

    def small():
        return nn.Sequential(nn.Linear(4, 4), nn.PReLU(), nn.LayerNorm(4), nn.Linear(4, 2))

    def lazy():
        return nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(2))

    def words():
        return nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 4))

    def dropping():
        return nn.Sequential(nn.Linear(4, 4), nn.Dropout())

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x, y):
            return self.linear(x) + y
"""


@pytest.fixture(autouse=True)
def here(directory_with: Callable[[str, str], Path]) -> Path:
    return directory_with("probed", MODELS_HERE)


def run(command: str) -> Result:
    return CliRunner().invoke(app, ["probe", *shlex.split(command)])


def report(command: str) -> SignalReport:
    result = run(f"{command} --json")
    assert result.exit_code == 0, result.output
    return SignalReport.from_json(result.stdout)


LINEAR = "zoo:mlp --depth 100 --width 256 --activation none --seed 0"


def test_a_linear_net_explodes_by_16_a_layer_until_layer_31() -> None:
    result = run(f"{LINEAR} --init 'normal(std=1)'")
    assert result.exit_code == 0
    found = re.search(
        r"explodes: ×([\d.]+) a layer, float32 overflows at layer (\d+)", result.output
    )
    assert found is not None, result.output
    # The mean of 31 layers, each of std 1/√512 about log 16 - 1/512: 5 % is far out.
    assert float(found[1]) == pytest.approx(16, rel=0.05)
    assert found[2] == "31"


def test_std_one_over_the_root_of_the_width_is_healthy() -> None:
    result = run(f"{LINEAR} --init 'normal(std=0.0625)' --strict")
    assert result.exit_code == 0
    assert "\nhealthy" in result.output


def test_strict_turns_the_verdict_into_an_exit_status() -> None:
    assert run(f"{LINEAR} --init 'normal(std=1)' --strict").exit_code == 1
    assert run(f"{LINEAR} --compare 'lecun,normal(std=1)' --strict").exit_code == 1
    assert run(f"{LINEAR} --init 'normal(std=1)'").exit_code == 0


def test_without_a_recipe_the_constructor_has_the_word() -> None:
    found = report("probed:small --input-shape 4 --seed 3")
    torch.manual_seed(3)
    expected = nn.Linear(4, 4).weight.std(correction=0).item()
    assert found.recipe == ""
    assert found.weights[0].std == pytest.approx(expected)
    assert "weights as the model's constructor makes them" in found.notes


def test_a_recipe_is_what_initialize_does() -> None:
    found = report("zoo:lenet -r kaiming --seed 5 --set 0.bias=ones()")
    model = MODELS["lenet"]()
    fanin.initialize(model, fanin.get_recipe("kaiming") + {"0.bias": fanin.parse("ones()")}, seed=5)
    stds = {name: p.detach().std(correction=0).item() for name, p in model.named_parameters()}
    assert {row.name: row.std for row in found.weights} == pytest.approx(stds, abs=1e-6)
    assert found.recipe == "kaiming@1 + 1 rule"
    assert found.seed == 5


def test_init_is_for_weights_and_leaves_norms_and_slopes() -> None:
    found = report("probed:small --input-shape 4 --init 'constant(0.5)' --seed 0")
    held = {row.name: (row.expected_std, row.rms) for row in found.weights}
    assert held == {
        "0.weight": (0, 0.5),
        "0.bias": (0, 0),
        "1.weight": (0, 0.25),
        "2.weight": (0, 1),
        "2.bias": (0, 0),
        "3.weight": (0, 0.5),
        "3.bias": (0, 0),
    }
    assert found.recipe == "constant(0.5)"


def test_init_on_a_recipe_replaces_its_weights_alone() -> None:
    found = report("zoo:mlp --depth 2 -r torch_default --init 'constant(0.5)' --seed 0")
    rms = {row.name: row.rms for row in found.weights}
    assert rms["0.weight"] == rms["2.weight"] == 0.5
    assert rms["0.bias"] > 0
    assert found.recipe == "torch_default + constant(0.5)"


def test_the_same_command_gives_the_same_report() -> None:
    command = "probed:dropping --input-shape 4 --seed 7"
    assert report(command) == report(command)
    assert report(command).rows != report("probed:dropping --input-shape 4 --seed 8").rows


def test_eval_and_no_backward() -> None:
    training, evaluating = (
        report("probed:dropping --input-shape 4"),
        report("probed:dropping --input-shape 4 --eval --no-backward"),
    )
    assert training.rows[1].output.zeros > 0
    assert evaluating.rows[1].output.zeros == 0
    assert training.rows[0].gradient is not None
    assert evaluating.rows[0].gradient is None


def test_stop_at_nonfinite() -> None:
    command = "zoo:mlp --depth 9 --width 8 --init normal(std=1e30) --seed 0"
    rows = report(command).rows
    stopped = report(f"{command} --stop-at-nonfinite").rows
    assert len(stopped) < len(rows)
    assert not stopped[-1].output.is_finite
    assert all(row.output.is_finite for row in stopped[:-1])


def test_every_shows_all_calls_and_the_parameters() -> None:
    short, long = run(LINEAR).output, run(f"{LINEAR} --every").output
    assert "rows more" in short
    assert "--every" in short
    assert "table(every" not in short
    assert "rows more" not in long
    assert re.search(r"^ +50  50 ", long, re.MULTILINE)
    assert re.search(r"^99\.weight +10×256 ", long, re.MULTILINE)


def test_compare_puts_starts_side_by_side() -> None:
    command = "zoo:mlp --depth 20 --width 64 --seed 0 --compare 'kaiming(), normal(std=1)'"
    alone = run(command).stdout
    assert re.search(r"^kaiming@1 +healthy", alone, re.MULTILINE)
    assert re.search(r"^normal\(std=1\) +explodes", alone, re.MULTILINE)
    assert "kaiming@1  normal(std=1)\n" in alone
    beside = run(f"{command} -r orthogonal").stdout
    assert "orthogonal@1  kaiming@1  normal(std=1)\n" in beside
    reports = json.loads(run(f"{command} --json").stdout)
    assert [each["recipe"] for each in reports] == ["kaiming@1", "normal(std=1)"]


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_shape_of_one_input_is_known_for_the_zoo(name: str) -> None:
    model = build(Request(f"zoo:{name}", None, 0), with_values=False).to("meta")
    inputs = make_inputs(model, f"zoo:{name}", InputOptions(batch=2), seed=0)
    assert model(inputs.value.to("meta")).shape[0] == 2


def test_inputs_are_those_of_the_stream() -> None:
    model = MODELS["mlp"](in_features=5)
    drawn = make_inputs(model, "zoo:mlp", InputOptions(batch=3), seed=4).value
    expected = torch.empty(3, 5)
    fill = fanin.parse("normal(std=1)").resolve(fanin.Layout.linear(5, 3))
    fanin.drawing.draw(fill, fanin.Key(4, "input"), fanin.Region.whole((3, 5)), expected)
    assert torch.equal(drawn, expected)


def test_width_makes_the_input_of_an_mlp_as_wide() -> None:
    assert report("zoo:mlp --width 8").weights[0].shape == (8, 8)
    assert report("zoo:mlp --width 8 --in-features 5").weights[0].shape == (8, 5)
    assert report("zoo:mlp --width 8 --arg in_features=5").weights[0].shape == (8, 5)
    assert report("zoo:mlp --depth 2").weights[0].shape == (256, 784)


@pytest.mark.parametrize("start", ["", "-r kaiming", "--init 'normal(std=1)'"])
def test_lazy_modules_learn_their_shapes_from_the_input(start: str) -> None:
    found = report(f"probed:lazy --input-shape 3,9,9 {start}")
    assert [row.shape for row in found.weights] == [(4, 3, 3, 3), (4,), (2, 196), (2,)]


def test_models_of_transformers_get_what_they_take() -> None:
    small = "--arg n_layer=1 --arg n_embd=8 --arg n_head=2 --arg vocab_size=11 --batch 2"
    text = report(f"hf:gpt2 {small} -r gpt2 --length 5")
    assert text.rows[0].output.shape == (2, 5, 8)
    assert "inputs: input_ids 2×5, below 11; the model is in training mode" in text.notes
    layers = "--arg num_hidden_layers=1 --arg hidden_size=8 --arg num_attention_heads=2"
    images = report(f"hf:vit {layers} --arg intermediate_size=8 --arg image_size=32 --batch 2")
    assert images.rows[0].output.shape == (2, 8, 2, 2)
    tiny = "--arg d_model=8 --arg d_kv=4 --arg d_ff=8 --arg num_layers=1 --arg num_heads=2"
    both = report(f"hf:t5 {tiny} --arg vocab_size=11 --batch 2")
    assert "input_ids 2×32, below 11; decoder_input_ids 2×32, below 11;" in both.notes[0]


def test_files_are_the_whole_batch() -> None:
    np.save("x.npy", np.zeros((3, 4)))  # float64, cast to the dtype of the model
    assert report("probed:dropping --input x.npy").rows[0].output.shape == (3, 4)
    assert report("probed:dropping --input x.npy --dtype float16").rows[0].output.dtype == "float16"
    arguments = {"y": torch.ones(4), "x": torch.ones(2, 4)}
    torch.save(arguments, "named.pt")
    torch.save([torch.ones(2, 4), torch.ones(4)], "positional.pt")
    save_file(arguments, "named.safetensors")
    for name in ("named.pt", "positional.pt", "named.safetensors"):
        assert report(f"probed:Two --input {name}").rows[0].output.shape == (2, 4), name
    save_file({"tokens": torch.tensor([[1, 2, 9]])}, "tokens.safetensors")
    assert report("probed:words --input tokens.safetensors").rows[0].output.shape == (1, 3, 4)


def test_an_image_is_brought_to_the_shape_of_the_model() -> None:
    image = pytest.importorskip("PIL.Image")
    image.fromarray(np.full((5, 7, 3), 255, dtype=np.uint8)).save("white.png")
    found = report("zoo:lenet --input white.png --eval")
    assert (
        "inputs: white.png, 1×1×28×28, from 0 to 1; the model is in evaluation mode" in found.notes
    )
    found = report(
        "zoo:resnet --arg depth=10 --arg width=4 --input white.png --input-shape 3,32,40"
    )
    assert found.rows[0].output.shape == (1, 4, 16, 20)


def test_reports_are_written_to_files(here: Path) -> None:
    result = run("zoo:mlp --seed 0 --html a.html --png a.png --json a.json")
    assert result.exit_code == 0, result.output
    assert Path("a.html").read_text(encoding="utf-8").lstrip().lower().startswith("<!doctype html>")
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")
    assert SignalReport.from_json(Path("a.json").read_text(encoding="utf-8")).seed == 0
    assert [line.partition(":")[0] for line in result.stdout.splitlines()[-3:]] == [
        "a.html",
        "a.png",
        "a.json",
    ]
    both = "zoo:mlp --seed 0 --compare xavier,kaiming --html a.html --png a.png --json a.json"
    assert run(both).exit_code == 0
    assert "xavier@1" in Path("a.html").read_text(encoding="utf-8")
    assert len(json.loads(Path("a.json").read_text(encoding="utf-8"))) == 2
    assert {path.name for path in here.iterdir() if path.name.startswith((".", "a"))} == {
        "a.html",
        "a.png",
        "a.json",
    }


@pytest.mark.parametrize(
    "command",
    ["--json zoo:mlp --seed 0", "zoo:mlp --json --seed 0", "zoo:mlp --seed 0 --json"],
)
def test_json_without_a_file_is_all_that_stdout_holds(command: str) -> None:
    assert SignalReport.from_json(run(command).stdout).title == "zoo:mlp"


def test_nothing_is_written_when_the_pass_fails(here: Path) -> None:
    assert run("zoo:mlp --input-shape 3 --html a.html").exit_code == 2
    assert not Path("a.html").exists()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("zoo:mpl", "Did you mean mlp"),
        ("zoo:mlp -r kaimin", "Did you mean kaiming@1"),
        ("zoo:mlp --init 'normale(std=1)'", "Did you mean normal"),
        ("zoo:mlp --init 'normal(std=1'", "closing parenthesis"),
        ("zoo:mlp --set 0.wieght=zeros()", "Near: 0.weight"),
        ("zoo:mlp --depth 0", "at least 1"),
        ("zoo:mlp --activation swoosh", "name of a class in torch.nn"),
        ("zoo:mlp --depth 3 --arg depth=4", "'depth' twice"),
        ("zoo:lenet --depth 3", "unexpected keyword argument 'depth'"),
        ("zoo:mlp --seed -1", "[0, 2**64)"),
        ("zoo:mlp --dtype float31", "Did you mean float32"),
        ("zoo:mlp --batch 0", "--batch: at least 1. Got 0."),
        ("zoo:mlp --batch 99999999999", "fits into memory. Got 99999999999×784."),
        ("zoo:mlp --length 3", "--length: for models of transformers"),
        ("zoo:mlp --input-shape 3,x", "--input-shape: sizes with commas"),
        ("zoo:mlp --input-shape 0", "--input-shape: sizes with commas"),
        ("zoo:mlp --input-shape 3", "The inputs were 16×3, N(0, 1)."),
        ("probed:words --input-shape 3", "in '0' (Embedding)"),
        ("probed:small", "--input-shape: the shape of one input"),
        ("hf:gpt2 --input-shape 3", "Say --length."),
        ("hf:vit --length 3", "Say --input-shape."),
        ("hf:wav2vec2", "Got none for input_values"),
        ("zoo:mlp --compare kaiming", "at least two"),
        ("zoo:mlp --compare kaiming,", "--compare: recipes or initializers"),
        ("zoo:mlp --compare kaiming,kaimin", "Did you mean kaiming@1"),
        ("zoo:mlp --html nowhere/a.html", "--html: a file in a directory that exists"),
        ("zoo:mlp --png .", "--png: a file. Got the directory"),
        ("zoo:mlp --input absent.npy", "--input: a file that exists"),
        ("zoo:mlp --input probed.py", "--input: a file of a known kind"),
        ("zoo:mlp --input bad.npy", "it is no array of numbers"),
        ("zoo:mlp --input bad.pt", "nothing but tensors"),
        ("zoo:mlp --input bad.safetensors", "it is no safetensors file"),
        ("zoo:mlp --input module.pt", "nothing but tensors"),
        ("zoo:mlp --input number.pt", "Got dict in 'number.pt'"),
        ("zoo:mlp --input object.npy", "it is no array of numbers"),
        ("zoo:lenet --input bad.png", "it is no image that Pillow knows"),
        ("zoo:mlp --input bad.png", "an image has 1 or 3 channels"),
        ("zoo:mlp --input good.npy --batch 3", "--batch: for an input that is drawn"),
        ("zoo:mlp --input good.npy --input-shape 3", "--input-shape: for an image"),
    ],
)
def test_bad_input_is_one_message_and_status_2(command: str, message: str) -> None:
    for name in ("bad.npy", "bad.pt", "bad.safetensors", "bad.png"):
        Path(name).write_bytes(b"not that")
    torch.save(nn.Linear(2, 2), "module.pt")
    torch.save({"number": 1}, "number.pt")
    np.save("object.npy", np.array([{}], dtype=object))
    np.save("good.npy", np.zeros(3))
    result = run(command)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: ")
    assert message in result.stderr


@pytest.mark.parametrize(("option", "package"), [("html", "jinja2"), ("png", "matplotlib")])
def test_a_missing_library_is_named_before_the_pass(
    option: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fanin.cli.reports.find_spec", lambda name: None)
    result = run(f"zoo:mlp --{option} a.{option}")
    assert result.exit_code == 2
    assert f"--{option}: needs the package {package}" in result.stderr


def test_a_bar_is_shown_on_a_terminal_and_leaves_no_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(Console):
        def __init__(self, **options: object) -> None:
            super().__init__(file=sys.stderr, force_terminal=True)

    monkeypatch.setattr(passing, "Console", Terminal)
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    with passing.pass_progress(model, after=0.0):
        assert model[0]._forward_hooks
        model(torch.zeros(1, 2))
    assert not model[0]._forward_hooks
