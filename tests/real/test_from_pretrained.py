"""Checkpoints of transformers' models, read by transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch import nn

import fanin
from fanin.checkpoint import verify_checkpoint, write_checkpoint

TEXT = {
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "vocab_size": 50,
    "intermediate_size": 48,
}

MODELS: dict[str, tuple[Callable[[], nn.Module], Any, Any]] = {
    "Llama": (
        lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**TEXT)),
        "llama",
        hf.AutoModelForCausalLM,
    ),
    "Llama, tied": (
        lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**TEXT, tie_word_embeddings=True)),
        "llama",
        hf.AutoModelForCausalLM,
    ),
    "GPT-2": (
        lambda: hf.GPT2LMHeadModel(hf.GPT2Config(n_layer=2, n_embd=32, n_head=4, vocab_size=50)),
        "gpt2",
        hf.AutoModelForCausalLM,
    ),
    "BERT": (
        lambda: hf.BertForMaskedLM(hf.BertConfig(**TEXT)),
        "bert",
        hf.AutoModelForMaskedLM,
    ),
    "T5": (
        lambda: hf.T5ForConditionalGeneration(
            hf.T5Config(d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, vocab_size=50)
        ),
        "t5",
        hf.AutoModelForSeq2SeqLM,
    ),
    "Mixtral": (
        lambda: hf.MixtralForCausalLM(hf.MixtralConfig(**TEXT, num_local_experts=3)),
        {"**": fanin.initializers.normal(std=0.02)},
        hf.AutoModelForCausalLM,
    ),
}


def deferred(build: Callable[[], nn.Module]) -> nn.Module:
    with fanin.deferred():
        return build()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size", ["5GB", "20KB"])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_from_pretrained_gives_what_initialize_gives(
    tmp_path: Path, name: str, size: str, dtype: torch.dtype | None
) -> None:
    build, recipe, kind = MODELS[name]
    write_checkpoint(
        deferred(build), tmp_path, recipe=recipe, seed=5, dtype=dtype, max_shard_size=size
    )
    loaded, report = kind.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    expected = deferred(build)
    fanin.initialize(expected, recipe, seed=5, dtype=dtype)
    state = expected.state_dict()
    assert loaded.dtype == (dtype or torch.float32)
    assert type(loaded) is type(expected)
    assert loaded.state_dict().keys() == state.keys()
    for key, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, state[key]), key
    assert verify_checkpoint(tmp_path).is_equal


def test_the_names_are_those_of_save_pretrained(tmp_path: Path) -> None:
    for name in ("Llama, tied", "GPT-2", "BERT", "T5"):
        build, recipe, _ = MODELS[name]
        one, other = tmp_path / name / "fanin", tmp_path / name / "transformers"
        one.parent.mkdir()
        write_checkpoint(deferred(build), one, recipe=recipe, seed=5, max_shard_size="20KB")
        build().save_pretrained(other, max_shard_size="20KB")
        maps = [
            json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"].keys()
            for folder in (one, other)
        ]
        assert maps[0] == maps[1], name
        configs = [
            {path.name: json.loads(path.read_text()) for path in folder.glob("*config.json")}
            for folder in (one, other)
        ]
        assert configs[0] == configs[1], name


def test_the_generation_config_is_written_too(tmp_path: Path) -> None:
    model = deferred(MODELS["GPT-2"][0])
    model.generation_config.max_new_tokens = 7
    write_checkpoint(model, tmp_path, recipe="gpt2", seed=5)
    loaded = hf.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.generation_config.max_new_tokens == 7


def test_a_tie_keeps_the_name_that_is_looked_for(tmp_path: Path) -> None:
    """Also where the plan's owner is the other end of the tie."""
    model = deferred(MODELS["GPT-2"][0])
    plan = fanin.plan(
        model,
        fanin.Recipe(
            "turned",
            1,
            (fanin.rule("**", fanin.initializers.normal(std=0.02)),),
            ties={"transformer.wte.weight": "lm_head.weight"},
        ),
        seed=0,
    )
    assert "lm_head.weight" in [step.name for step in plan.steps]
    write_checkpoint(model, tmp_path, recipe=plan)
    loaded, report = hf.GPT2LMHeadModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    fanin.initialize(model, {"**": fanin.initializers.normal(std=0.02)}, seed=0)
    plan.apply(model)
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight)
    assert verify_checkpoint(tmp_path).is_equal
