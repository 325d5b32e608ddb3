"""Probes of models that others wrote: their rows, their notes, and that they cost them nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import nn

import fanin
from fanin import zoo
from fanin.probing import SignalReport, probe

IDS = torch.arange(20).reshape(2, 10)
SMALL = {"vocab_size": 50, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}


def gpt2() -> Any:
    config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=16, **SMALL)
    return transformers.GPT2LMHeadModel(config)


def llama() -> Any:
    config = transformers.LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        **SMALL,
    )
    return transformers.LlamaForCausalLM(config)


def layers(report: SignalReport) -> list[str]:
    return [row.name for row in report.rows if row.is_layer]


def check(report: SignalReport) -> None:
    assert [row.index for row in report.rows] == list(range(len(report.rows)))
    assert all(row.output.is_finite for row in report.rows)
    assert all(row.gradient is not None for row in report.rows if row.is_layer)
    assert all(weight.gradient_rms is not None for weight in report.weights)
    depths = [row.depth for row in report.rows]
    assert depths == sorted(depths)
    assert depths[-1] == len(layers(report))


def test_gpt2() -> None:
    model = gpt2()
    plan = fanin.plan(model, "gpt2", seed=0)
    plan.apply(model)
    report = probe(model, {"input_ids": IDS, "labels": IDS}, plan=plan)
    check(report)
    blocks = [
        f"transformer.h.{n}.{part}"
        for n in range(2)
        for part in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    ]
    assert layers(report) == ["transformer.wte", "transformer.wpe", *blocks, "lm_head"]
    kinds = [row.kind for row in report.rows]
    assert kinds.count("GPT2Block") == 2
    assert kinds.count("NewGELUActivation") == 2
    assert kinds[-1] == "Linear"
    assert report.loss == pytest.approx(3.9, abs=0.2)  # ln 50
    assert report.notes == ()
    tied = [
        weight.name for weight in report.weights if "wte" in weight.name or "lm_h" in weight.name
    ]
    assert tied == ["transformer.wte.weight"]
    assert report.weights[0].expected_std == pytest.approx(0.02)
    assert report.weights[0].std == pytest.approx(0.02, rel=0.1)


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")
def test_llama_in_eval_mode_and_with_checkpoints() -> None:
    model = llama().eval()
    report = probe(model, IDS)
    check(report)
    assert not model.training
    assert len(layers(report)) == 1 + 2 * 7 + 1
    assert [row.kind for row in report.rows].count("LlamaDecoderLayer") == 2
    model.train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    again = probe(model, {"input_ids": IDS, "use_cache": False})
    assert [row.name for row in again.rows] == [row.name for row in report.rows]
    for row, other in zip(report.rows, again.rows, strict=True):
        assert row.output.rms == pytest.approx(other.output.rms)
        if row.gradient is not None and other.gradient is not None:
            assert row.gradient.rms == pytest.approx(other.gradient.rms, rel=1e-4)


def test_all_that_a_transformer_can_return() -> None:
    inputs = {"input_ids": IDS, "output_hidden_states": True, "output_attentions": True}
    check(probe(llama().eval(), inputs))
    check(probe(gpt2(), (IDS,)))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_modules(kind: type[nn.RNNBase]) -> None:
    model = kind(8, 6, num_layers=2, bidirectional=True)
    report = probe(model, torch.randn(5, 3, 8))
    check(report)
    assert report.rows[0].output.shape == (5, 3, 12)
    assert len(report.weights) == 16
    packed = nn.utils.rnn.pack_sequence([torch.randn(4, 8), torch.randn(2, 8)])
    assert probe(model, [packed]).rows[0].output.shape == (6, 12)


def test_a_cell_called_at_each_step() -> None:
    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRUCell(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            state = x[0]
            for step in x:
                state = self.cell(step, state)
            return state

    report = probe(Steps(), torch.randn(7, 2, 4))
    assert [(row.name, row.call) for row in report.rows] == [("cell", n) for n in range(7)]


def test_alexnet() -> None:
    model = zoo.alexnet(num_classes=10)
    plan = fanin.plan(model, "kaiming", seed=0)
    plan.apply(model)
    report = probe(model, torch.randn(2, 3, 64, 64), plan=plan)
    check(report)
    assert [row.kind for row in report.rows].count("ReLU") == 7
    assert len(report.rows) == 13 + 1 + 7
    assert all(0.2 < row.output.zeros < 0.8 for row in report.rows if row.kind == "ReLU")
    for weight in report.weights:
        assert weight.expected_std is not None
        assert weight.std == pytest.approx(weight.expected_std, rel=0.05, abs=1e-12)


def test_branches_that_did_not_run() -> None:
    report = probe(zoo.choices(), {"images": torch.randn(1, 10, 8, 8), "choice": "conv"})
    assert report.notes[-1] == "never called: 'choices.pool', 'activations.leaky'"


@pytest.mark.parametrize("make", [gpt2, lambda: zoo.mlp(in_features=16, width=16)])
def test_autocast(make: Any) -> None:
    model = make()
    inputs = IDS if hasattr(model, "config") else torch.randn(4, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        report = probe(model, inputs)
        assert torch.is_autocast_enabled("cpu")
        again = probe(model, inputs, backward=False)
        model(inputs)  # casts of a pass without gradients are not reused
    check(report)
    assert {row.output.dtype for row in report.rows if row.kind == "Linear"} == {"bfloat16"}
    assert len(again.rows) == len(report.rows)


def test_a_model_in_bfloat16() -> None:
    report = probe(llama().bfloat16(), IDS)
    check(report)
    assert report.rows[0].output.dtype == "bfloat16"


def test_a_residual_network() -> None:
    report = probe(zoo.resnet(depth=10, width=8), torch.randn(2, 3, 32, 32))
    check(report)
    assert not any("never called" in note for note in report.notes)
