"""`Healthy`: models that nothing is wrong with, of their constructors or by a recipe that fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import transformers
from torch import nn

import fanin
from fanin.zoo import MODELS
from torch_modules import MODULES

__all__ = ["TORCH", "TRANSFORMERS", "ZOO", "Healthy"]


@dataclass(frozen=True)
class Healthy:
    """A model without faults.

    Args:
        name: for the test's id.
        build: makes it from a seed, which torch's generator has got too.
        meant: codes of notes that are true of it, each with the reason why it is healthy all the
            same.
    """

    name: str
    build: Callable[[int], nn.Module]
    meant: Mapping[str, str] = field(default_factory=dict)


def _as_built(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    return build()


_PACKED = {
    "FAN206": "torch's own constructor draws q, k and v as one matrix, and people train that"
}

TORCH = tuple(
    Healthy(
        name,
        partial(_as_built, build),
        _PACKED if name.startswith(("MultiheadAttention", "Transformer")) else {},
    )
    for name, build in MODULES.items()
)

# Recipes that are meant for other nets do not fit: a std of 0.02 makes the signal of LeNet vanish,
# and by fan_out the one output of DCGAN's discriminator is eleven times its inputs.
_ANY_NET = ("kaiming", "lecun", "orthogonal", "resnet", "torch_default", "vgg", "xavier")
_FITTING: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "choices": ({}, _ANY_NET),
    "dcgan": (
        {"width": 8},
        ("dcgan", "kaiming", "lecun", "orthogonal", "torch_default", "xavier"),
    ),
    "lenet": ({}, _ANY_NET),
    "linears": ({}, _ANY_NET),
    "mlp": ({"width": 64, "in_features": 64}, ("siren", *_ANY_NET)),
    "resnet": ({"depth": 10, "width": 8}, _ANY_NET),
}


def _by_recipe(model: str, arguments: Mapping[str, Any], recipe: str, seed: int) -> nn.Module:
    built = MODELS[model](**arguments)
    fanin.initialize(built, recipe, seed=seed)
    return built


ZOO = tuple(
    Healthy(f"{model}, {recipe}", partial(_by_recipe, model, arguments, recipe))
    for model, (arguments, recipes) in _FITTING.items()
    for recipe in recipes
)

_TEXT = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 300,
}
_IMAGE = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "image_size": 32,
    "patch_size": 8,
}
_SHORT = {"n_layer": 2, "n_embd": 64, "n_head": 4, "n_positions": 64, "vocab_size": 300}
_BOTH = {
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
    "vocab_size": 300,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}
_ENDS = {"bos_token_id": 0, "eos_token_id": 0}

# Class, and the fields of its configuration.
_CONFIGURED: dict[str, dict[str, Any]] = {
    "GPT2LMHeadModel": {**_SHORT, **_ENDS},
    "GPTJForCausalLM": {**_SHORT, **_ENDS, "rotary_dim": 8},
    "BloomForCausalLM": {"hidden_size": 64, "n_layer": 2, "n_head": 4, "vocab_size": 300},
    "OPTForCausalLM": {
        **_TEXT,
        "ffn_dim": 128,
        "word_embed_proj_dim": 64,
        "max_position_embeddings": 64,
    },
    "GPTNeoXForCausalLM": _TEXT,
    "FalconForCausalLM": _TEXT,
    "LlamaForCausalLM": {**_TEXT, "num_key_value_heads": 2},
    "MistralForCausalLM": {**_TEXT, "num_key_value_heads": 2},
    "MixtralForCausalLM": {**_TEXT, "num_key_value_heads": 2, "num_local_experts": 4},
    "Qwen2ForCausalLM": {**_TEXT, "num_key_value_heads": 2},
    "GemmaForCausalLM": {**_TEXT, "num_key_value_heads": 2, "head_dim": 16},
    "Gemma2ForCausalLM": {**_TEXT, "num_key_value_heads": 2, "head_dim": 16},
    "PhiForCausalLM": _TEXT,
    "MambaForCausalLM": {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "state_size": 8,
        "vocab_size": 300,
    },
    "BertForMaskedLM": _TEXT,
    "RobertaForMaskedLM": _TEXT,
    "DistilBertForMaskedLM": {
        "dim": 64,
        "n_layers": 2,
        "n_heads": 4,
        "hidden_dim": 128,
        "vocab_size": 300,
    },
    "AlbertForMaskedLM": {**_TEXT, "embedding_size": 32},
    "ElectraForPreTraining": {**_TEXT, "embedding_size": 32},
    "DebertaV2ForMaskedLM": _TEXT,
    "T5ForConditionalGeneration": {
        "d_model": 64,
        "d_kv": 16,
        "d_ff": 128,
        "num_layers": 2,
        "num_heads": 4,
        "vocab_size": 300,
    },
    "BartForConditionalGeneration": {**_BOTH, "max_position_embeddings": 64},
    "WhisperForConditionalGeneration": {
        **_BOTH,
        "num_mel_bins": 20,
        "max_source_positions": 50,
        "max_target_positions": 32,
    },
    "ViTForImageClassification": _IMAGE,
    "DeiTForImageClassification": _IMAGE,
    "BeitForImageClassification": _IMAGE,
    "Dinov2ForImageClassification": {k: v for k, v in _IMAGE.items() if k != "intermediate_size"},
    "SwinForImageClassification": {
        "image_size": 32,
        "patch_size": 4,
        "embed_dim": 32,
        "depths": [1, 1],
        "num_heads": [2, 4],
        "window_size": 4,
    },
    "ConvNextForImageClassification": {"hidden_sizes": [16, 32], "depths": [1, 1], "num_stages": 2},
    "ResNetForImageClassification": {
        "embedding_size": 16,
        "hidden_sizes": [32, 64],
        "depths": [1, 1],
    },
    "CLIPModel": {
        "text_config": {**_TEXT, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1},
        "vision_config": _IMAGE,
        "projection_dim": 32,
    },
}


def _configured(name: str, seed: int) -> nn.Module:
    kind: Any = getattr(transformers, name)
    model: nn.Module = kind(kind.config_class(**_CONFIGURED[name]))
    return model


TRANSFORMERS = tuple(Healthy(name, partial(_configured, name)) for name in _CONFIGURED)
