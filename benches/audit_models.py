"""Healthy models for the benchmark of false alarms: of every family of checks, and small."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import nn

import fanin
from fanin import zoo
from fanin.planning import Plan

__all__ = ["SUBJECTS", "Subject"]

Started: TypeAlias = tuple[nn.Module, Plan | None]


@dataclass(frozen=True)
class Subject:
    """A model that starts well, whatever the seed.

    Args:
        name: for the table.
        start: the model for a seed, which torch's generator has got too, and the plan it was
            initialised by; None for one from its own constructors.
        meant: codes of notes that are true of it with every seed.
    """

    name: str
    start: Callable[[int], Started]
    meant: frozenset[str] = frozenset()


def _convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(16, 32, 5),
        nn.BatchNorm1d(32),
        nn.Conv1d(32, 64, 3, groups=4),
        nn.BatchNorm1d(64),
        nn.ConvTranspose1d(64, 32, 4, stride=2),
        nn.BatchNorm1d(32),
        nn.ConvTranspose1d(32, 48, 4, stride=2, groups=2),
    )


def _feedforward() -> nn.Module:
    blocks = [nn.Sequential(nn.Linear(96, 96), nn.LayerNorm(96), nn.GELU()) for _ in range(4)]
    return nn.Sequential(nn.Embedding(200, 96, padding_idx=0), *blocks, nn.Linear(96, 24))


def _recurrent() -> nn.Module:
    return nn.ModuleList([nn.LSTM(32, 48, proj_size=24), nn.GRU(40, 48), nn.Bilinear(24, 24, 16)])


def _encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
    return nn.TransformerEncoder(layer, 2)


# torch's encoder is made of copies, and draws q, k and v as one matrix: true with every seed.
_ENCODER = frozenset({"FAN105", "FAN206"})

_TORCH: dict[str, tuple[Callable[[], nn.Module], frozenset[str]]] = {
    "linear layers with norms": (_feedforward, frozenset()),
    "convolutions, grouped, transposed": (_convolutions, frozenset()),
    "LSTM, GRU, Bilinear": (_recurrent, frozenset()),
    "TransformerEncoder": (_encoder, _ENCODER),
}

_ANY_NET = ("kaiming", "lecun", "orthogonal", "resnet", "torch_default", "vgg", "xavier")
# A std of 0.01, or one for sines, makes the signal of several linear layers vanish.
_ZOO: dict[str, tuple[Callable[[], nn.Module], tuple[str, ...]]] = {
    "lenet": (zoo.lenet, _ANY_NET),
    "mlp": (
        partial(zoo.mlp, depth=6, width=64, in_features=64, out_features=32),
        tuple(recipe for recipe in _ANY_NET if recipe != "vgg"),
    ),
    "resnet": (partial(zoo.resnet, depth=10, width=8), _ANY_NET),
    "dcgan": (partial(zoo.dcgan, width=8), ("dcgan", "kaiming", "orthogonal", "xavier")),
}

_TEXT = {
    "hidden_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 300,
    "pad_token_id": 0,
}
_TRANSFORMERS: dict[str, tuple[str, dict[str, Any]]] = {
    "GPT2LMHeadModel": (
        "gpt2",
        {"n_layer": 1, "n_embd": 64, "n_head": 4, "n_positions": 64, "vocab_size": 300}
        | {"bos_token_id": 0, "eos_token_id": 0},
    ),
    "LlamaForCausalLM": ("llama", {**_TEXT, "num_key_value_heads": 2}),
    "BertForMaskedLM": ("bert", {**_TEXT, "max_position_embeddings": 64}),
    "T5ForConditionalGeneration": (
        "t5",
        {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 1, "num_heads": 4}
        | {"vocab_size": 300},
    ),
    "ViTForImageClassification": (
        "vit",
        {key: value for key, value in _TEXT.items() if key not in ("vocab_size", "pad_token_id")}
        | {"image_size": 32, "patch_size": 8},
    ),
}


_DTYPES = (torch.float32, torch.bfloat16)


def _subjects() -> Iterator[Subject]:
    for name, (build, meant) in _TORCH.items():
        yield Subject(name, partial(_constructed, build), meant)
    for name, (recipe, fields) in _TRANSFORMERS.items():
        build = partial(_from_config, name, fields)
        yield Subject(name, partial(_constructed, build))
        yield Subject(f"{name}, {recipe}", _Planned(build, (recipe,), _DTYPES))
    for name, (build, recipes) in _ZOO.items():
        dtypes = (*_DTYPES, torch.float16, torch.float64)
        yield Subject(f"{name}, {len(recipes)} recipes", _Planned(build, recipes, dtypes))


def _constructed(build: Callable[[], nn.Module], seed: int) -> Started:
    return build().to(_DTYPES[seed % len(_DTYPES)]), None


class _Planned:
    """A model for each dtype, initialised anew for each seed, by recipes and dtypes in turn."""

    def __init__(
        self,
        build: Callable[[], nn.Module],
        recipes: Sequence[str],
        dtypes: Sequence[torch.dtype],
    ) -> None:
        self._build, self._recipes, self._dtypes = build, recipes, dtypes
        self._models: dict[torch.dtype, nn.Module] = {}

    def __call__(self, seed: int) -> Started:
        recipe = self._recipes[seed % len(self._recipes)]
        dtype = self._dtypes[seed // len(self._recipes) % len(self._dtypes)]
        if dtype not in self._models:
            self._models[dtype] = self._build().to(dtype)
        plan = fanin.plan(self._models[dtype], recipe, seed=seed)
        plan.apply(self._models[dtype])
        return self._models[dtype], plan


def _from_config(name: str, fields: Mapping[str, Any]) -> nn.Module:
    import transformers

    kind: Any = getattr(transformers, name)
    model: nn.Module = kind(kind.config_class(**fields))
    return model


SUBJECTS = tuple(_subjects())
