"""The axes of raw weights in transformers, against the `nn.Linear` that each of them stands for."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn
from transformers.pytorch_utils import Conv1D

from fanin.geometry import Layout
from fanin.model import layout_of, sites

HIDDEN, INNER, EXPERTS = 8, 12, 3


def layouts(module: nn.Module) -> dict[str, Layout | None]:
    return {site.name: layout_of(site) for site in sites(module)}


def test_conv1d_is_a_transposed_linear() -> None:
    class Subclass(Conv1D):
        pass

    for kind in (Conv1D, Subclass):
        found = layouts(kind(INNER, HIDDEN))
        assert found["weight"] == Layout.linear_transposed(HIDDEN, INNER)
        assert found["weight"].fans == Layout.linear(INNER, HIDDEN).fans
        assert found["bias"] == Layout.vector(INNER)


def test_every_matrix_of_gpt2_has_fans() -> None:
    config = transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=20, n_positions=4)
    found = layouts(transformers.GPT2LMHeadModel(config))
    attention = found["transformer.h.0.attn.c_attn.weight"]
    assert attention is not None
    assert attention.fans == Layout.linear(48, 16).fans
    assert None not in found.values()


# Module and class, and the fields of its config besides the sizes.
STACKS = {
    "mixtral.MixtralExperts": {"num_local_experts": EXPERTS},
    "qwen3_moe.Qwen3MoeExperts": {"num_experts": EXPERTS, "moe_intermediate_size": INNER},
    "deepseek_v3.DeepseekV3Experts": {"n_routed_experts": EXPERTS, "moe_intermediate_size": INNER},
    "olmoe.OlmoeExperts": {"num_experts": EXPERTS},
    "llama4.Llama4TextExperts": {"num_local_experts": EXPERTS},
    "gpt_oss.GptOssExperts": {"num_local_experts": EXPERTS},
    "aria.AriaExperts": {"moe_num_experts": EXPERTS},
    "nemotron_h.NemotronHExperts": {"n_routed_experts": EXPERTS, "moe_intermediate_size": INNER},
}


def stack(name: str) -> nn.Module:
    module, kind = name.split(".")
    source = importlib.import_module(f"transformers.models.{module}.modeling_{module}")
    build: Any = getattr(source, kind)
    prefix = kind.removesuffix("Experts")
    config = getattr(source, f"{prefix}Config", None) or getattr(source, f"{prefix}TextConfig")
    with torch.device("meta"):
        experts: nn.Module = build(
            config(hidden_size=HIDDEN, intermediate_size=INNER, **STACKS[name])
        )
    return experts


@pytest.mark.parametrize("name", STACKS)
def test_each_expert_of_a_stack_has_the_fans_of_a_linear(name: str) -> None:
    found = layouts(stack(name))
    up, down = Layout.linear(INNER, HIDDEN), Layout.linear(HIDDEN, INNER)
    joint = found.pop("gate_up_proj", None)
    if joint is not None:
        assert [(part, layout.fans) for part, _, _, layout in joint.split()] == [
            ("gate", up.fans),
            ("up", up.fans),
        ]
    expected = {"up_proj": up, "down_proj": down}
    for own, layout in found.items():
        assert layout is not None, own
        if own in expected:
            assert layout.fans == expected[own].fans
            assert layout.batch_axes == (0,)
        else:
            assert own.endswith("_bias")
            assert not layout.in_axes


def test_gate_and_up_that_alternate_have_no_layout() -> None:
    found = layouts(stack("gpt_oss.GptOssExperts"))
    assert found["gate_up_proj"] is None
    assert found["gate_up_proj_bias"] == Layout.vector(EXPERTS, 2 * INNER)


def test_the_experts_of_jetmoe_are_stacks_of_linears() -> None:
    from transformers.models.jetmoe.modeling_jetmoe import JetMoeParallelExperts

    (layout,) = layouts(JetMoeParallelExperts(EXPERTS, HIDDEN, INNER)).values()
    assert layout is not None
    assert layout.fans == Layout.linear(INNER, HIDDEN).fans


def test_a_router_scores_experts_as_a_linear_does() -> None:
    config = transformers.MixtralConfig(
        hidden_size=HIDDEN,
        intermediate_size=INNER,
        num_local_experts=EXPERTS,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=10,
    )
    with torch.device("meta"):
        found = layouts(transformers.MixtralForCausalLM(config))
    assert found["model.layers.0.mlp.gate.weight"] == Layout.linear(EXPERTS, HIDDEN)
    assert [name for name, layout in found.items() if layout is None] == [
        "model.layers.0.input_layernorm.weight",
        "model.layers.0.post_attention_layernorm.weight",
        "model.norm.weight",
    ]


def test_every_router_of_transformers_multiplies_as_a_linear_does() -> None:
    """The adapter goes by the end of a class's name: so does this, through all the sources."""
    folder = Path(transformers.__file__).parent / "models"
    bodies = [
        body
        for path in sorted(folder.glob("*/modeling_*.py"))
        for body in re.findall(
            r"^class \w+Top[kK]Router\(nn\.Module\).*?(?=^class |^@|\Z)",
            path.read_text(),
            re.M | re.S,
        )
    ]
    own = [body for body in bodies if "self.weight = nn.Parameter(" in body]
    assert len(own) > 20
    for body in own:
        assert re.search(r"linear\([^,]+, self\.weight", body), body
