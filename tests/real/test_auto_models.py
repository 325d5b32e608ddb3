"""`auto` on models that others wrote: predicted std beside measured ones, median over five seeds.

Seeds are fixed; for others, medians of attention nets of this size stray by 5 %, of ResNet's by 10.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5Model,
    ViTConfig,
    ViTModel,
)

import fanin
from fanin import zoo


def ids(length: int = 24) -> torch.Tensor:
    return torch.randint(0, 300, (4, length), generator=torch.Generator().manual_seed(0))


def pictures(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


SMALL = {"hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}
CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any], float]] = {
    "resnet": (lambda: zoo.resnet(depth=18), lambda: pictures(4, 3, 64, 64), 0.2),
    "gpt2": (
        lambda: GPT2LMHeadModel(
            GPT2Config(
                vocab_size=300,
                n_embd=96,
                n_layer=3,
                n_head=4,
                bos_token_id=0,
                eos_token_id=0,
            )
        ),
        lambda: {"input_ids": ids()},
        0.3,
    ),
    "llama": (
        lambda: LlamaForCausalLM(
            LlamaConfig(vocab_size=300, intermediate_size=192, num_key_value_heads=2, **SMALL)
        ),
        lambda: {"input_ids": ids()},
        0.3,
    ),
    "bert": (
        lambda: BertModel(BertConfig(vocab_size=300, intermediate_size=384, **SMALL)),
        lambda: {"input_ids": ids()},
        0.3,
    ),
    "vit": (
        lambda: ViTModel(ViTConfig(image_size=48, patch_size=8, intermediate_size=384, **SMALL)),
        lambda: pictures(4, 3, 48, 48),
        0.3,
    ),
    "t5": (
        lambda: T5Model(
            T5Config(vocab_size=300, d_model=96, d_kv=24, d_ff=384, num_layers=2, num_heads=4)
        ),
        lambda: {"input_ids": ids(), "decoder_input_ids": ids(12)},
        0.3,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_every_layer_is_as_predicted(name: str) -> None:
    build, inputs, within = CASES[name]
    model, x = build().eval() if name != "resnet" else build(), inputs()
    plan = fanin.plan(model, "auto", seed=0, example_inputs=x)
    prediction = fanin.predict(model, plan, x)
    found: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
    for seed in range(5):
        fanin.initialize(model, "auto", seed=seed, example_inputs=x)
        for row in fanin.probe(model, x, backward=False).rows:
            found[row.name, row.call].append(row.output.std)
    checked = 0
    for place, stds in found.items():
        expected = prediction.module(*place) if "/" not in place[0] else None
        if expected is not None and expected.median:
            checked += 1
            ratio = statistics.median(stds) / expected.median
            assert abs(math.log(ratio)) < math.log1p(within), (place, ratio)
    assert checked > 20


def test_scores_of_t5_are_as_soft_as_those_of_others() -> None:
    """T5 divides by nothing: its queries are small instead, its keys are not."""
    build, inputs, _ = CASES["t5"]
    model = build()
    plan = fanin.plan(model, "auto", seed=0, example_inputs=inputs())
    stds = {step.name: step.moments[1] for step in plan.steps if step.moments}
    attention = "encoder.block.0.layer.0.SelfAttention"
    ratio = stds[f"{attention}.k.weight"] / stds[f"{attention}.q.weight"]
    assert ratio == pytest.approx(math.sqrt(24), rel=0.05)


def test_the_first_loss_is_that_of_a_guess() -> None:
    build, inputs, _ = CASES["gpt2"]
    model, x = build().eval(), inputs()
    fanin.initialize(model, "auto", seed=0, example_inputs=x)
    with torch.no_grad():
        loss = model(**x, labels=x["input_ids"]).loss
    # ln V + head_std² / 2, and what 96 labels of 300 logits of std 0.25 stray by.
    assert float(loss) == pytest.approx(math.log(300) + 0.25**2 / 2, abs=0.15)
