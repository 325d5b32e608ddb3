"""FAN207 to FAN211: truncated, clamped, subnormal and orthogonal weights, and near-misses."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from filled_models import filled, found
from torch import Tensor, nn


class Truncating(nn.Module):
    def __init__(self, bound: float = 2.0, *, also: bool = False) -> None:
        super().__init__()
        self.layer = nn.Linear(128, 128)
        nn.init.trunc_normal_(self.layer.weight, std=0.02, a=-bound, b=bound)


class TruncatingAndNot(Truncating):
    def __init__(self) -> None:
        super().__init__()
        nn.init.normal_(self.layer.weight, std=0.02)


def test_a_truncation_that_was_meant_is_read_off_the_code() -> None:
    torch.manual_seed(0)
    (finding,) = found(Truncating(), "FAN207")
    assert finding.severity == "note"
    assert "±2 is ±" in finding.observed
    assert found(Truncating(0.04), "FAN207") == ()
    assert found(TruncatingAndNot(), "FAN207") == ()  # who knows which
    assert found(filled(nn.Linear(128, 128), nn.init.normal_), "FAN207") == ()


@pytest.mark.parametrize(("std", "is_told"), [(1 / 16, True), (1 / 16 / 0.8796, False)])
def test_the_std_of_a_cut_normal(std: float, is_told: bool) -> None:
    def fill(weight: Tensor) -> None:
        nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)

    findings = found(filled(nn.Linear(256, 256), fill), "FAN208")
    assert len(findings) == is_told
    for finding in findings:
        assert finding.numbers["factor"] == pytest.approx(0.88, abs=0.01)


def test_bert_is_cut_at_two_round_std() -> None:
    """TensorFlow's `truncated_normal(0.02)`, realised at 0.0176: published, and nobody's scheme."""
    model = filled(
        nn.Linear(2500, 64), lambda w: nn.init.trunc_normal_(w, std=0.02, a=-0.04, b=0.04)
    )
    assert found(filled(nn.Linear(300, 64), nn.init.xavier_normal_), "FAN208") == ()
    assert [finding.where for finding in found(model, "FAN208")] in ([], [("weight",)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    "fill",
    [
        lambda w: nn.init.uniform_(w, -0.1, 0.1),
        lambda w: nn.init.trunc_normal_(w, std=0.05, a=-0.1, b=0.1),
        lambda w: nn.init.sparse_(w.float(), 0.9) if w.dtype == torch.float32 else None,
        lambda w: w.data.copy_(torch.randint(0, 2, w.shape) * 2 - 1),
        lambda w: nn.init.eye_(w.data),
        lambda w: w.data.copy_(torch.arange(1, 17).log().expand(256, 16).reshape(w.shape)),
    ],
    ids=["uniform", "truncated", "sparse", "signs", "eye", "counted"],
)
def test_ends_that_are_met_as_often_as_others(
    fill: Callable[[Tensor], object], dtype: torch.dtype
) -> None:
    assert found(filled(nn.Linear(64, 64, dtype=dtype), fill), "FAN209") == ()


@pytest.mark.parametrize("bound", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_a_clamp_leaves_its_share(bound: float, dtype: torch.dtype) -> None:
    model = filled(
        nn.Linear(256, 256, dtype=dtype), lambda w: nn.init.normal_(w).data.clamp_(-bound, bound)
    )
    (finding,) = found(model, "FAN209")
    share = math.erfc(bound / math.sqrt(2))
    assert finding.numbers["share"] == pytest.approx(share, abs=6 * math.sqrt(share) / 256)


@pytest.mark.parametrize(
    ("dtype", "std", "is_told"),
    [
        (torch.float16, 0.02, False),
        (torch.float16, 1e-3, False),
        (torch.float16, 3e-5, True),
        (torch.bfloat16, 1e-10, False),
        (torch.float8_e5m2, 0.02, False),
        (torch.float8_e4m3fn, 0.02, True),
        (torch.float32, 1e-10, False),
    ],
    ids=str,
)
def test_subnormal_weights(dtype: torch.dtype, std: float, is_told: bool) -> None:
    model = filled(nn.Linear(128, 128, bias=False), lambda w: nn.init.normal_(w, std=std))
    assert len(found(model.to(dtype), "FAN210")) == is_told


@pytest.mark.parametrize(("std", "is_told"), [(0.002, True), (0.05, False)])
def test_numbers_around_one(std: float, is_told: bool) -> None:
    torch.manual_seed(0)
    model = nn.LayerNorm(512)
    nn.init.normal_(model.weight, 1.0, std)
    assert len(found(model.bfloat16(), "FAN210")) == is_told


@pytest.mark.parametrize("shape", [(64, 64), (128, 32), (32, 128), (16, 4, 3, 3)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_orthogonal_weights_are(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    out, inputs, *kernel = shape
    model = nn.Conv2d(inputs, out, kernel, bias=False) if kernel else nn.Linear(inputs, out)
    nn.init.orthogonal_(model.weight, gain=1.4)
    assert found(model.to(dtype), "FAN211") == ()


@pytest.mark.parametrize("noise", [1e-3, 1e-2, 3e-2])
def test_noise_on_an_orthogonal_weight(noise: float) -> None:
    """Noise of std s on 128 columns of entries 1/√128 makes cosines √2·s·√128 of random ones."""
    torch.manual_seed(0)
    model = nn.Linear(128, 128)
    nn.init.orthogonal_(model.weight)
    with torch.no_grad():
        model.weight.add_(torch.randn(128, 128), alpha=noise)
    findings = found(model, "FAN211")
    expected = noise * math.sqrt(2 * 128)
    assert len(findings) == (expected < 0.25)
    for finding in findings:
        assert finding.numbers["cosine"] == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("rows", [16, 64, 512])
def test_random_weights_are_not_nearly_orthogonal(rows: int) -> None:
    assert found(filled(nn.Linear(1024, rows), nn.init.xavier_normal_), "FAN211") == ()
