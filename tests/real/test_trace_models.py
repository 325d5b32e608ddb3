"""Traces of models that others wrote, built without memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

import fanin
from fanin.flow import Trace, trace
from fanin.model import entries
from fanin.zoo import alexnet, lenet, mlp, resnet

IDS = torch.zeros(1, 16, dtype=torch.long)
MASK = torch.ones_like(IDS)
PADDED = MASK.clone()
PADDED[:, :5] = 0
IMAGE = torch.empty(1, 3, 224, 224)


def hugging_face(kind: str, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        model_type = getattr(transformers, kind)
        model: nn.Module = model_type(model_type.config_class(**options))
        return model

    return build


class UNet(nn.Module):
    """Two scales, a skip by concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.inner = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.up, self.out = nn.ConvTranspose2d(16, 8, 2, stride=2), nn.Conv2d(16, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = torch.relu(self.down(x))
        coarse = torch.relu(self.inner(nn.functional.max_pool2d(fine, 2)))
        out: Tensor = self.out(torch.cat([self.up(coarse), fine], dim=1))
        return out


class TwoInputs(nn.Module):
    """Weights for einsum, a gate, two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.Parameter(torch.empty(4, 8, 2))
        self.gate, self.out = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor, *, context: Tensor) -> Tensor:
        h = torch.einsum("bi,hik->bhk", x, self.heads).flatten(1)
        out: Tensor = self.out(h * torch.sigmoid(self.gate(context)))
        return out


SMALL = {"num_hidden_layers": 2}
CASES: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    "mlp": (lambda: mlp(depth=6, width=16, in_features=16), torch.empty(2, 16)),
    "lenet": (lenet, torch.empty(2, 1, 28, 28)),
    "alexnet": (alexnet, IMAGE),
    "resnet": (resnet, torch.empty(2, 3, 224, 224)),
    "unet": (UNet, torch.empty(1, 3, 16, 16)),
    "two inputs": (TwoInputs, {"x": torch.empty(2, 8), "context": torch.empty(2, 5)}),
    "transformer": (
        lambda: nn.Transformer(16, 2, 2, 2, 32, batch_first=True),
        (torch.empty(1, 5, 16), torch.empty(1, 6, 16)),
    ),
    "lstm": (lambda: nn.LSTM(4, 8, num_layers=2), torch.empty(5, 2, 4)),
    "gpt2": (hugging_face("GPT2LMHeadModel", n_layer=2), {"input_ids": IDS}),
    "llama": (hugging_face("LlamaForCausalLM", **SMALL), {"input_ids": IDS}),
    "bert": (
        hugging_face("BertForMaskedLM", **SMALL),
        {"input_ids": IDS, "attention_mask": PADDED},
    ),
    "vit": (hugging_face("ViTForImageClassification", **SMALL), {"pixel_values": IMAGE}),
    "t5": (
        hugging_face("T5ForConditionalGeneration", num_layers=2),
        {"input_ids": IDS, "attention_mask": MASK, "decoder_input_ids": IDS},
    ),
    "mixtral": (
        hugging_face("MixtralForCausalLM", hidden_size=64, intermediate_size=32, **SMALL),
        {"input_ids": IDS},
    ),
    "swin": (hugging_face("SwinModel", depths=[1, 1, 1, 1]), {"pixel_values": IMAGE}),
}


@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_every_parameter_that_runs_has_users_and_what_follows(name: str, is_training: bool) -> None:
    build, inputs = CASES[name]
    with fanin.deferred():
        model = build().train(is_training)
    found = trace(model, inputs)
    assert found.notes == ()
    assert found.outputs
    known = {entry.name for entry in entries(model)}
    assert set(found.parameters) <= known
    left = {entry.name for entry in entries(model) if not found.users(entry.name)}
    buffers = {entry.name for entry in entries(model) if entry.owner.is_buffer}
    assert left - buffers - {"vit.embeddings.mask_token", "embeddings.mask_token"} == set()
    assert all(found.followed_by(each) for each in known - left)


def by_pattern(found: Trace, *names: str) -> list[tuple[str, ...]]:
    return [found.followed_by(name) for name in names]


def test_a_llama() -> None:
    build, inputs = CASES["llama"]
    with fanin.deferred():
        model = build()
    found = trace(model, inputs)
    layer = "model.layers.0"
    attention = [f"{layer}.self_attn.{each}_proj.weight" for each in "qkv"]
    assert by_pattern(found, *attention) == [("scaled_dot_product_attention",)] * 3
    mlp = [f"{layer}.mlp.{each}_proj.weight" for each in ("gate", "up", "down")]
    assert by_pattern(found, *mlp) == [("silu",), ("mul",), ("add",)]
    assert found.followed_by("model.embed_tokens.weight") == ("rms_norm", "add")
    assert found.followed_by("lm_head.weight") == ("output",)
    assert [(r.depth, r.last) for r in found.residuals()] == [
        (1, f"{layer}.self_attn.o_proj.weight"),
        (2, f"{layer}.mlp.down_proj.weight"),
        (3, "model.layers.1.self_attn.o_proj.weight"),
        (4, "model.layers.1.mlp.down_proj.weight"),
    ]


def test_a_gpt2_with_its_own_linear_layer_and_tied_head() -> None:
    build, inputs = CASES["gpt2"]
    found = trace(build(), inputs)
    assert found.followed_by("transformer.h.0.mlp.c_fc.weight") == ("gelu",)
    assert [o.name for o in found.users("transformer.wte.weight")] == ["embedding", "linear"]
    assert [r.depth for r in found.residuals()] == [1, 2, 3, 4]


def test_an_encoder_and_a_decoder_have_streams_of_their_own() -> None:
    build, inputs = CASES["t5"]
    with fanin.deferred():
        model = build()
    found = trace(model, inputs)
    assert [r.depth for r in found.residuals()] == [1, 2, 3, 4, 1, 2, 3, 4, 5, 6]


def test_a_skip_by_concatenation_is_seen_through() -> None:
    found = trace(UNet(), CASES["unet"][1])
    assert found.followed_by("up.weight") == ("conv2d",)
    assert found.followed_by("down.weight") == ("relu",)


def test_a_gate() -> None:
    found = trace(TwoInputs(), CASES["two inputs"][1])
    assert found.followed_by("gate.weight") == ("sigmoid",)
    assert found.followed_by("heads") == ("mul",)
    assert [operation.name for operation in found.users("heads")] == ["einsum"]


def test_a_model_that_has_run_is_traced_like_one_that_has_not() -> None:
    """Its decoder gets the states that hooks collect, which transformers sets at the first run."""
    sizes: dict[str, Any] = {"hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1]}
    config = transformers.SegformerConfig(**sizes, decoder_hidden_size=16)
    model, x = transformers.SegformerForSemanticSegmentation(config), torch.randn(2, 3, 64, 64)
    before = trace(model, x)
    model(x)
    after = trace(model, x)
    assert [each.name for each in after.operations] == [each.name for each in before.operations]
    assert after.notes == before.notes
