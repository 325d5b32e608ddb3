"""`fanin audit` as a person types it."""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from audit_commands import MODELS_HERE, audited, run
from pydantic_sarif.model import StaticAnalysisResultsFormatSarifVersion210JsonSchema as Sarif
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

import fanin
from fanin.cli import app


@pytest.fixture(autouse=True)
def here(directory_with: Callable[[str, str], Path]) -> Path:
    return directory_with("audited", MODELS_HERE)


def line_of(text: str) -> int:
    return textwrap.dedent(MODELS_HERE).lstrip().splitlines().index(text) + 1


def test_a_healthy_model_ends_with_0() -> None:
    result = run("zoo:mlp --recipe kaiming --seed 0")
    assert result.exit_code == 0
    assert result.output == "zoo:mlp, kaiming@1: no findings in 6 parameters\n"


def test_an_error_ends_with_1_and_the_summary_comes_last() -> None:
    result = run("audited:constant")
    assert result.exit_code == 1
    first, *_, last = result.output.splitlines()
    assert first == "0.weight: FAN104 constant-weight (error)"
    assert last == "audited:constant: 1 error in 4 parameters"
    assert "note: weights as the model's constructor makes them" in result.output


def test_the_text_is_that_of_the_audit() -> None:
    result = run("audited:constant --seed 0")
    assert result.output == f"{audited('audited:constant --seed 0', status=1)}\n"


def test_colours_are_for_terminals() -> None:
    plain = CliRunner().invoke(app, ["audit", "audited:constant"])
    coloured = CliRunner().invoke(app, ["audit", "audited:constant"], color=True)
    assert "\x1b[" not in plain.output
    assert "\x1b[31m\x1b[1m0.weight: FAN104" in coloured.output


def test_warnings_fail_when_strict() -> None:
    assert run("audited:Unused --input-shape 8").exit_code == 0
    strict = run("audited:Unused --input-shape 8 --strict")
    assert strict.exit_code == 1
    assert "other.weight and 1 more: FAN405" in strict.output


def test_a_recipe_gives_the_values() -> None:
    assert audited("audited:constant -r kaiming --seed 3").findings == ()
    found = audited("audited:small --init 'constant(0.5)' --seed 3", status=1)
    assert found.findings[0].where == ("0.weight", "2.weight")
    found = audited("audited:small -r kaiming --set '2.weight=constant(0.5)'", status=1)
    assert found.findings[0].where == ("2.weight",)


def test_inputs_go_through_if_they_are_asked_for(here: Path) -> None:
    assert not [code for code in audited("zoo:mlp --seed 0").checks if code.startswith("FAN4")]
    for options in ("--batch 4", "--input-shape 784"):
        found = audited(f"zoo:mlp --seed 0 -r kaiming {options}")
        assert "FAN401" in found.checks
    assert (
        "inputs: 4×784, N(0, 1); the model is in training mode"
        in audited("zoo:mlp --batch 4 --seed 0").notes
    )
    torch.save(torch.randn(3, 784), "x.pt")
    assert (
        "inputs: x.pt, 3×784; the model is in evaluation mode"
        in audited("zoo:mlp --input x.pt --eval").notes
    )
    tiny = "--arg n_layer=1 --arg n_embd=8 --arg n_head=2 --arg vocab_size=11"
    assert (
        "input_ids 2×5, below 11;"
        in audited(f"hf:gpt2 {tiny} -r gpt2 --batch 2 --length 5").notes[0]
    )


TINY = "--arg n_layer=1 --arg n_embd=64 --arg n_head=2 --arg vocab_size=300"


def test_models_of_transformers_get_labels_for_their_loss() -> None:
    loud = "--set 'transformer.wte.weight=normal(std=1)'"
    found = audited(f"hf:gpt2 {TINY} -r gpt2 {loud} --batch 2 --length 8 --select FAN407 --seed 0")
    (finding,) = found.findings
    assert finding.numbers["chance"] == pytest.approx(math.log(300))
    assert "labels 2×8, the token ids;" in found.notes[0]
    assert audited(f"hf:gpt2 {TINY} -r gpt2 --batch 2 --length 8 --select FAN4").findings == ()


def test_only_labels_that_are_known_are_given() -> None:
    """ELECTRA's are whether a token was replaced; the ids would be a loss of their own."""
    tiny = "--arg hidden_size=16 --arg num_hidden_layers=1 --arg num_attention_heads=2"
    electra = {"model_type": "electra", "architectures": ["ElectraForPreTraining"]}
    Path("config.json").write_text(json.dumps(electra))
    for model, text in (("config.json", ""), ("vit", "; labels 2, classes")):
        size = "--arg image_size=16 --arg patch_size=8" if model == "vit" else "--length 5"
        found = audited(f"hf:{model} {tiny} {size} --batch 2 --select FAN407", status=0)
        assert ("labels" in found.notes[0]) == bool(text)
        assert text in found.notes[0]


def test_nothing_goes_into_a_model_without_values() -> None:
    notes = audited("audited:meta --input-shape 4 --batch 2", status=1).notes
    assert not [note for note in notes if note.startswith("inputs:")]
    assert "nothing went in: some parameters have no values yet" in notes


def test_lazy_modules_are_findings_until_an_input_tells_their_shapes() -> None:
    assert "FAN108" in audited("audited:lazy", status=1).codes
    assert audited("audited:lazy --input-shape 5 -r kaiming --seed 0").findings == ()


def test_checks_are_chosen_with_commas_and_again() -> None:
    some = audited("audited:constant --select FAN101,fan104 --select zero-weight", status=1)
    assert some.checks == ("FAN101", "FAN103", "FAN104")
    assert audited("audited:constant --ignore FAN1,FAN2 --ignore constant-weight").findings == ()


def test_a_configuration_is_read(here: Path) -> None:
    (here / "pyproject.toml").write_text('[tool.fanin.audit]\nignore = ["FAN104"]\nstrict = true')
    assert run("audited:constant").exit_code == 0
    assert run("audited:constant --isolated").exit_code == 1
    assert run("audited:Unused --input-shape 8").exit_code == 1
    (here / "other.toml").write_text('[tool.fanin.audit]\nselect = ["FAN101"]')
    assert audited("audited:constant --config other.toml").checks == ("FAN101",)
    # Another selection replaces that of the file, as in other linters.
    assert audited("audited:constant --config other.toml --select FAN103").checks == ("FAN103",)


def test_what_a_project_allows_passes(here: Path) -> None:
    (here / "pyproject.toml").write_text(
        '[[tool.fanin.audit.allow]]\ncodes = ["FAN104"]\nnames = ["0.weight"]\nreason = "so"\n'
        '[[tool.fanin.audit.allow]]\ncodes = ["FAN103"]\nreason = "so"\n'
    )
    found = audited("audited:constant")
    assert found.ignored == 1
    assert "allowed and not found: FAN103 for **" in found.notes


def test_sarif_points_at_the_callable(here: Path) -> None:
    result = run("audited:constant --format sarif")
    assert result.exit_code == 1
    Sarif.model_validate_json(result.stdout)
    (found,) = json.loads(result.stdout)["runs"][0]["results"]
    place = found["locations"][0]["physicalLocation"]
    assert place == {
        "artifactLocation": {"uri": "audited.py"},
        "region": {"startLine": line_of("def constant():")},
    }


def test_github_points_at_the_class() -> None:
    result = run("audited:Unused --input-shape 8 --format github")
    line = line_of("class Unused(nn.Module):")
    start = f"::warning file=audited.py,line={line},title=FAN405 no-gradient::other.weight and 1"
    assert result.output.startswith(start)
    assert result.output.endswith("\naudited:Unused: 1 warning in 4 parameters\n")


def test_models_without_source_here_point_nowhere(here: Path) -> None:
    result = run("zoo:mlp --init 'constant(0.1)' --format github")
    assert result.output.startswith("::error title=FAN104 constant-weight::0.weight and 2 more")
    config = {"model_type": "gpt2", "n_layer": 1, "n_embd": 8, "n_head": 2, "vocab_size": 11}
    (here / "config.json").write_text(json.dumps(config))
    for name in ("config.json", "."):
        result = run(f"hf:{name} --init 'constant(0.1)' --format github --select FAN104")
        assert result.output.startswith("::error file=config.json,line=1,title=FAN104"), name


@pytest.mark.parametrize("kind", ["text", "json", "sarif", "github"])
def test_a_file_holds_what_would_be_printed(kind: str) -> None:
    command = f"audited:constant --seed 0 --format {kind}"
    printed = run(command)
    result = run(f"{command} --out found.txt")
    assert result.exit_code == printed.exit_code == 1
    assert Path("found.txt").read_text(encoding="utf-8") == printed.stdout
    assert result.stdout == "audited:constant: 1 error in 4 parameters\nfound.txt\n"
    assert run(f"zoo:mlp -r kaiming --seed 0 --format {kind} --out found.txt").exit_code == 0


def save(model: nn.Module, name: str, **changes: Any) -> None:
    state = {key: each.detach().clone() for key, each in model.state_dict().items()} | changes
    kept = {key: each for key, each in state.items() if each is not None}
    if name.endswith(".safetensors"):
        save_file(kept, name)
    else:
        torch.save(kept, name)


def linear_model() -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    fanin.initialize(model, "kaiming", seed=5)
    return model


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_a_checkpoint_is_loaded(name: str) -> None:
    bad = {"2.weight": torch.full((4, 16), 0.25)}
    save(linear_model(), name, **bad)
    found = audited(f"audited:constant --checkpoint {name}", status=1)
    assert [(each.code, each.where) for each in found.findings] == [("FAN104", ("2.weight",))]
    assert found.notes[0] == f"checkpoint: 4 tensors of {name}, float32"


def test_what_a_checkpoint_lacks_and_has_besides_is_told() -> None:
    extra = {"3.weight": torch.rand(4), "0.bias": None}
    save(linear_model(), "w.safetensors", **extra)
    notes = audited("audited:small --checkpoint w.safetensors").notes
    assert "checkpoint: 3 tensors of w.safetensors, float32" in notes
    assert "not in the checkpoint: '0.bias'" in notes
    assert "not in the model: '3.weight'" in notes


def test_tied_tensors_are_there_under_either_name() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    fanin.initialize(model, "kaiming", seed=0)
    save(model, "w.safetensors", **{"2.weight": None})
    notes = audited("audited:tied --checkpoint w.safetensors --seed 0").notes
    assert notes == ("checkpoint: 3 tensors of w.safetensors, float32",)


def test_nested_states_are_found() -> None:
    torch.save({"state_dict": linear_model().state_dict(), "epoch": 3}, "w.ckpt")
    found = audited("audited:constant --checkpoint w.ckpt")
    assert found.findings == ()


def test_what_fanin_wrote_is_as_planned() -> None:
    command = ["init", "audited:small", "-r", "kaiming", "--seed", "5", "--out", "w.safetensors"]
    assert CliRunner().invoke(app, command).exit_code == 0
    found = audited("audited:small -r kaiming --seed 6 --checkpoint w.safetensors")
    assert found.findings == ()
    assert found.title == "audited:small, kaiming@1"


def test_a_checkpoint_that_is_not_as_planned() -> None:
    model = nn.Sequential(nn.Linear(8, 160), nn.ReLU(), nn.Linear(160, 40))
    fanin.initialize(model, "kaiming", seed=5)
    with torch.no_grad():
        model[2].weight.mul_(1.5)
    save(model, "w.safetensors")
    Path("wide.py").write_text(
        "from torch import nn\n\n\ndef wide():\n"
        "    return nn.Sequential(nn.Linear(8, 160), nn.ReLU(), nn.Linear(160, 40))\n"
    )
    found = audited("wide:wide -r kaiming --checkpoint w.safetensors --select FAN501")
    assert found.findings[0].where == ("2.weight",)


def test_a_checkpoint_alone_needs_no_model(here: Path) -> None:
    save(linear_model(), "w.safetensors", **{"0.weight": torch.full((16, 8), 0.5)})
    found = audited("w.safetensors", status=1)
    assert (found.title, found.codes) == ("w.safetensors", ("FAN104",))
    result = run(f"{here} --format github")
    assert result.exit_code == 1
    assert result.output.startswith("::error title=FAN104")
    result = run("w.safetensors --format github")
    assert result.output.startswith("::error file=w.safetensors,line=1,title=FAN104")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("zoo:mpl", "Did you mean mlp"),
        ("zoo:mlp -r kaimin", "Did you mean kaiming@1"),
        ("zoo:mlp --format xml", "--format: one of a few. Got 'xml'"),
        ("zoo:mlp --select FAN9", "Got 'FAN9'"),
        ("zoo:mlp --select ''", "--select: codes with commas. Got ''"),
        ("zoo:mlp --ignore FAN1,", "--ignore: codes with commas. Got 'FAN1,'"),
        ("zoo:mlp --ignore constant-wieght", "Did you mean constant-weight"),
        ("zoo:mlp --seed -1", "[0, 2**64)"),
        ("zoo:mlp --input-shape 3", "the forward pass runs through"),
        ("audited:small --batch 3", "--input-shape: the shape of one input"),
        ("zoo:mlp --config nothing.toml", "nothing.toml: a TOML file that can be read"),
        ("zoo:mlp --config audited.py --isolated", "--isolated: no configuration is read"),
        ("zoo:mlp --out nowhere/a.txt", "a file in a directory that exists"),
        ("zoo:mlp --checkpoint nothing.pt", "cannot read 'nothing.pt': No such file"),
        ("zoo:mlp --checkpoint audited.pt", "No such file"),
        ("zoo:mlp --checkpoint nothing", "a .safetensors file that exists"),
        ("''", "model: written zoo:NAME"),
        (".", "Got no .safetensors in that folder, '.'"),
        ("zoo:mlp --select FAN999", "--select takes codes"),
        ("zoo:mlp --ignore constant-wieght", "--ignore takes codes"),
        ("nothing.safetensors", "a .safetensors file that exists"),
        ("nothing.safetensors --batch 3", "a checkpoint is read as it is"),
        ("nothing.safetensors -r kaiming", "say --checkpoint nothing.safetensors"),
    ],
)
def test_bad_input_ends_with_2_and_one_message(command: str, message: str) -> None:
    result = run(command)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert message in result.stderr


def test_checkpoints_that_do_not_fit_are_refused() -> None:
    save(linear_model(), "w.safetensors", **{"0.weight": torch.rand(16, 9)})
    result = run("audited:small --checkpoint w.safetensors")
    assert result.exit_code == 2
    assert "Got 16×9 where the model has 16×8, for '0.weight' in 'w.safetensors'" in result.stderr
    save_file({"0.weight": torch.rand(3), "0.bias": torch.rand(3)}, "w.safetensors")
    assert "for '0.weight'; 1 more in" in run("audited:small --checkpoint w.safetensors").stderr
    save_file({"module.0.weight": torch.rand(16, 8)}, "prefix.safetensors")
    result = run("audited:small --checkpoint prefix.safetensors")
    assert result.exit_code == 2
    assert "names that the model has. Got 'module.0.weight'" in result.stderr
    torch.save({"state_dict": {"0.weight": 3}}, "w.pt")
    assert "Got '0.weight' besides" in run("audited:small --checkpoint w.pt").stderr
    torch.save([torch.rand(3)], "w.pt")
    assert "Got list" in run("audited:small --checkpoint w.pt").stderr
    for junk in (b"none", b"junk\n", b"", b"\x80\x02."):
        Path("w.pt").write_bytes(junk)
        result = run("audited:small --checkpoint w.pt")
        assert result.exit_code == 2, junk
        assert "no file that torch.save wrote" in result.stderr
    assert "say --checkpoint w.pt" in run("w.pt").stderr


def test_the_same_command_gives_the_same_audit() -> None:
    command = "audited:dropping --input-shape 8 --seed 7"
    assert audited(command) == audited(command)
    drawn = audited("audited:dropping").notes[-1]
    assert re.fullmatch(r"again by --seed \d+", drawn)
    assert drawn != audited("audited:dropping").notes[-1]
