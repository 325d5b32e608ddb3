"""`fanin inspect` and models that `hf:` names."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

import fanin
from fanin.cli import app
from fanin.cli.models import build_model
from fanin.cli.plans import Request, make_plan

SIZES = {"n_layer": 4, "n_embd": 8, "n_head": 2, "n_positions": 6, "vocab_size": 10}
TINY = {"model_type": "gpt2", **SIZES, "bos_token_id": 0, "eos_token_id": 0}
USAGE = 2


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory with a configuration of a small GPT-2, without a network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    Path("tiny").mkdir()
    Path("tiny", "config.json").write_text(json.dumps(TINY))
    return tmp_path


def run(command: str) -> Result:
    return CliRunner().invoke(app, command.split())


def test_the_tree_and_the_totals() -> None:
    result = run("inspect zoo:lenet")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[4].split() == [
        "│",
        "├─",
        "weight",
        "6×1×5×5",
        "float32",
        "150",
    ]
    assert "61,706 parameters in 10 tensors; 246.8 kB." in result.stdout


def test_names_choose_and_siblings_collapse() -> None:
    collapsed = run("inspect hf:tiny")
    assert "0 … 3 (4 ×)" in collapsed.stdout
    assert "= transformer.wte.weight" in collapsed.stdout
    every = run("inspect hf:tiny --all")
    assert every.stdout.count("GPT2Block") == 4
    chosen = run("inspect hf:tiny transformer.h.2.ln_1 lm_head.*")
    assert [line.split()[-2] for line in chosen.stdout.splitlines() if "float32" in line] == [
        "float32",
        "float32",
        "=",
    ]


def test_json_has_everything() -> None:
    content = json.loads(run("inspect hf:tiny --json").stdout)
    model = build_model("hf:tiny", {}, with_values=True)
    assert {tensor["name"] for tensor in content["tensors"]} == {
        name for name, _ in model.named_parameters(remove_duplicate=False)
    } | {name for name, _ in model.named_buffers()}


def test_a_name_that_fits_nothing() -> None:
    result = run("inspect zoo:lenet 7.wieght")
    assert (result.exit_code, result.stdout) == (USAGE, "")
    assert "Near: 7.weight" in result.stderr


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("hf:tiny", "GPT2LMHeadModel"),
        ("hf:tiny/config.json", "GPT2LMHeadModel"),
        ("hf:tiny --arg architecture=GPT2Model", "GPT2Model"),
        ("hf:bert --arg num_hidden_layers=1", "BertForMaskedLM"),
        ("hf:bert --arg num_hidden_layers=1 --arg is_decoder=true", "BertLMHeadModel"),
        ("hf:t5 --arg num_layers=1", "T5ForConditionalGeneration"),
        ("hf:vit --arg num_hidden_layers=1", "ViTForImageClassification"),
        ("hf:dpr --arg num_hidden_layers=1", "DPRQuestionEncoder"),
    ],
)
def test_the_class_of_a_configuration(model: str, name: str) -> None:
    result = run(f"inspect {model} --json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["modules"][0]["type"] == name


def test_the_class_that_a_configuration_names(here: Path) -> None:
    content = {**TINY, "architectures": ["GPT2ForSequenceClassification"]}
    Path("named.json").write_text(json.dumps(content))
    modules = json.loads(run("inspect hf:named.json --json").stdout)["modules"]
    assert modules[0]["type"] == "GPT2ForSequenceClassification"


def test_fields_are_set_by_either_name() -> None:
    for field in ("n_layer", "num_hidden_layers"):
        model = build_model("hf:tiny", {field: 2, "vocab_size": 7})
        assert len(model.transformer.h) == 2
        assert model.lm_head.weight.shape == (7, 8)


def test_a_large_model_is_planned_without_memory() -> None:
    model, plan = make_plan(Request("hf:llama", "llama", 0))
    assert sum(step.numel for step in plan.steps) == 6_738_415_616
    real = [t for t in (*model.parameters(), *model.buffers()) if not t.is_meta]
    assert sum(tensor.nbytes for tensor in real) < 2**21


def test_the_file_holds_what_initialize_gives() -> None:
    assert run("init hf:tiny -r gpt2 --seed 3 -o w.safetensors").exit_code == 0
    model = build_model("hf:tiny", {}, with_values=True)
    fanin.initialize(model, "gpt2", seed=3)
    from safetensors.torch import load_file

    loaded = load_file("w.safetensors")
    state = model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in loaded.items())
    assert state.keys() - loaded.keys() == {"lm_head.weight"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("hf:gtp2", "Did you mean gpt2"),
        ("hf:someone/gpt2-large", "nothing is downloaded"),
        ("hf:", "written zoo:NAME, hf:TYPE"),
        ("hf:missing/config.json", "cannot read 'missing/config.json': No such file"),
        ("hf:broken.json", "cannot read 'broken.json'"),
        ("hf:list.json", "Got None in 'list.json'"),
        ("hf:unknown.json", "Got 'gpt22' in 'unknown.json'. Did you mean gpt2"),
        ("hf:tiny --arg n_layers=2", "Did you mean n_layer or num_hidden_layers?"),
        ("hf:tiny --arg zzz=2", "Known: "),
        ("hf:tiny --arg model_type=bert", "Got 'model_type'"),
        ("hf:tiny --arg n_layer=two", "'n_layer'"),
        ("hf:tiny --arg architecture=GPT2Modle", "Did you mean GPT2Model"),
        ("hf:tiny --arg architecture=BertModel", "Known: GPT2ForQuestionAnswering"),
        ("hf:tiny --arg architecture=3", "Got 3"),
    ],
)
def test_bad_input_is_one_message(options: str, message: str) -> None:
    Path("broken.json").write_text("{")
    Path("list.json").write_text("[]")
    Path("unknown.json").write_text('{"model_type": "gpt22"}')
    result = run(f"inspect {options}")
    assert (result.exit_code, result.stdout) == (USAGE, ""), result.output
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_without_the_library_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    result = run("inspect hf:gpt2")
    assert result.exit_code == USAGE
    assert "pip install transformers" in result.stderr
