"""`deferred` on models that others wrote: what is built, what is kept, and that all of it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers as hf
from torch import nn

import fanin
from fanin.model import entries
from fanin.model.construction import deferred, is_computed, materialize

TEXT = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "vocab_size": 50}
IMAGE = {"image_size": 32, "patch_size": 8}
VISION = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4, **IMAGE}

MODELS: dict[str, Callable[[], nn.Module]] = {
    "GPT-2": lambda: hf.GPT2LMHeadModel(hf.GPT2Config(n_layer=2, n_embd=32, n_head=4)),
    "Llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**TEXT, intermediate_size=48)),
    "Llama, tied": lambda: hf.LlamaForCausalLM(
        hf.LlamaConfig(**TEXT, intermediate_size=48, tie_word_embeddings=True)
    ),
    "T5": lambda: hf.T5ForConditionalGeneration(
        hf.T5Config(d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, vocab_size=50)
    ),
    "BERT": lambda: hf.BertForMaskedLM(hf.BertConfig(**TEXT, intermediate_size=48)),
    "ViT": lambda: hf.ViTForImageClassification(hf.ViTConfig(**VISION, intermediate_size=48)),
    "Swin": lambda: hf.SwinModel(
        hf.SwinConfig(image_size=32, patch_size=4, embed_dim=16, depths=[1, 1], num_heads=[2, 2])
    ),
    "ConvNeXt": lambda: hf.ConvNextModel(
        hf.ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], image_size=32)
    ),
    "CLIP": lambda: hf.CLIPModel(
        hf.CLIPConfig(
            text_config={**TEXT, "intermediate_size": 48},
            vision_config={**VISION, "intermediate_size": 48},
        )
    ),
    "Mamba": lambda: hf.MambaForCausalLM(
        hf.MambaConfig(hidden_size=32, num_hidden_layers=2, vocab_size=50, state_size=4)
    ),
}


def built(name: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return MODELS[name]()


def built_deferred(name: str) -> nn.Module:
    with deferred():
        return built(name)


@pytest.mark.parametrize("name", MODELS)
def test_buffers_are_those_of_an_ordinary_build(name: str) -> None:
    expected = dict(built(name).named_buffers())
    buffers = dict(built_deferred(name).named_buffers())
    assert buffers.keys() == expected.keys()
    for buffer, value in expected.items():
        assert torch.equal(buffers[buffer], value), buffer


def test_the_frequencies_of_a_llama_are_right() -> None:
    model = built_deferred("Llama")
    materialize(model)
    frequencies = dict(model.named_buffers())["model.rotary_emb.inv_freq"]
    assert torch.allclose(frequencies, 10000.0 ** -(torch.arange(0, 8, 2) / 8))


@pytest.mark.parametrize("name", MODELS)
def test_ties_and_names_are_those_of_an_ordinary_build(name: str) -> None:
    def names(model: nn.Module) -> list[tuple[str, ...]]:
        return [entry.names for entry in entries(model)]

    model = built_deferred(name)
    assert names(model) == names(built(name))
    materialize(model)
    assert names(model) == names(built(name))


@pytest.mark.parametrize("name", MODELS)
def test_parameters_are_deferred_or_hold_what_the_constructor_computed(name: str) -> None:
    first, second = (dict(built(name, seed).named_parameters()) for seed in (0, 1))
    certain = {key for key, value in first.items() if torch.equal(value, second[key])}
    for key, parameter in built_deferred(name).named_parameters():
        assert parameter.is_meta != is_computed(parameter), key
        if not parameter.is_meta and key in certain:
            assert torch.equal(parameter, first[key]), key


@pytest.mark.parametrize("name", MODELS)
def test_most_of_a_model_is_deferred(name: str) -> None:
    sizes = [(p.numel(), p.is_meta) for p in built_deferred(name).parameters()]
    assert sum(n for n, is_meta in sizes if is_meta) > 0.9 * sum(n for n, _ in sizes)


def test_values_from_constructors_are_kept() -> None:
    model = built_deferred("Mamba")
    for key, parameter in model.named_parameters():
        if key.endswith("A_log"):
            assert torch.allclose(parameter.exp()[0], torch.arange(1.0, 5.0)), key
    scale = built_deferred("CLIP").get_parameter("logit_scale")
    assert scale.item() == pytest.approx(2.6592)


def load_after_materialize(checkpoint: dict[str, torch.Tensor]) -> tuple[nn.Module, object]:
    model = built_deferred("Llama, tied")
    materialize(model)
    return model, model.load_state_dict(checkpoint, strict=False)


def load_inside(checkpoint: dict[str, torch.Tensor]) -> tuple[nn.Module, object]:
    with deferred():
        model = built("Llama, tied")
        with pytest.warns(UserWarning, match="which is a no-op"):  # as torch believes
            loaded = model.load_state_dict(checkpoint, strict=False)
    return model, loaded


def load_and_tie_again(checkpoint: dict[str, torch.Tensor]) -> tuple[nn.Module, object]:
    model: Any = built_deferred("Llama, tied")
    loaded = model.load_state_dict(checkpoint, strict=False, assign=True)
    model.tie_weights()
    return model, loaded


@pytest.mark.parametrize("load", [load_after_materialize, load_inside, load_and_tie_again])
def test_ties_outlast_a_partial_load(
    load: Callable[[dict[str, torch.Tensor]], tuple[nn.Module, object]],
) -> None:
    whole = fanin.plan(built("Llama, tied"), "llama", seed=0)
    first = built("Llama, tied", seed=1).state_dict()
    checkpoint = {
        name: value
        for name, value in first.items()
        if name == "model.embed_tokens.weight" or ".layers.0." in name
    }
    model, loaded = load(checkpoint)
    plan = fanin.initialize(model, "llama", seed=0, only=loaded)
    assert [step.names for step in plan.steps] == [step.names for step in whole.steps]
    head = model.get_parameter("lm_head.weight")
    assert head is model.get_parameter("model.embed_tokens.weight")
    expected = built("Llama, tied")
    fanin.initialize(expected, "llama", seed=0)
    expected.load_state_dict(checkpoint, strict=False)
    for name, parameter in expected.named_parameters():
        assert torch.equal(model.get_parameter(name), parameter), name


def test_a_materialised_model_runs() -> None:
    model = built_deferred("Llama")
    materialize(model)
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.01)
    logits = model(torch.arange(6)[None]).logits
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
