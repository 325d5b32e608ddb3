"""What people do on purpose and looks like a fault: no finding, or one that says what is true.

What chance could fool has the audit's own budget: a false alarm in a million of audits.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.ao.quantization import observer

import fanin
from fanin import initializers as I
from fanin.auditing import CHECKS, Finding, audit
from fanin.gains import gain, nonlinearities

NAMES = [name for name, given in nonlinearities().items() if None not in given.values()]


def found(model: nn.Module, *codes: str) -> tuple[Finding, ...]:
    return audit(model, select=codes or None).findings


def draws(name: str) -> list[I.Initializer]:
    """Every initializer that a nonlinearity or its gain goes into."""
    size = gain(name)
    return [
        *(make(nonlinearity=name, mode=mode) for make in KAIMING for mode in ("fan_in", "fan_out")),
        I.xavier_normal(gain=size),
        I.xavier_uniform(gain=size),
        I.orthogonal(gain=size),
        *(
            I.variance_scaling(size**2, mode=mode, distribution="truncated_normal")
            for mode in ("fan_in", "fan_out", "fan_avg")
        ),
    ]


KAIMING = (I.kaiming_normal, I.kaiming_uniform)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("inputs", "outputs"), [(128, 128), (96, 160)])
def test_the_gain_of_any_nonlinearity_is_healthy(name: str, inputs: int, outputs: int) -> None:
    for seed, initializer in enumerate(draws(name)):
        model = nn.Linear(inputs, outputs)
        fanin.initialize(model, {"weight": initializer, "bias": I.zeros()}, seed=seed)
        assert audit(model).is_clean, f"{initializer}\n{audit(model)}"


@pytest.mark.parametrize("seed", range(5))
def test_tanhs_gain_is_near_relus_over_the_cut(seed: int) -> None:
    """1.5925, and √2 / 0.8796 is 1.608."""
    model = nn.Linear(512, 512)
    rules = {"weight": I.kaiming_normal(nonlinearity="tanh"), "bias": I.zeros()}
    fanin.initialize(model, rules, seed=seed)
    assert found(model) == ()


@pytest.mark.parametrize("factor", [1.0 / 0.87962566, 2**0.5 / 0.87962566])
def test_a_std_alone_shows_no_lost_cut(factor: float) -> None:
    torch.manual_seed(0)
    model = nn.Linear(512, 512)
    nn.init.normal_(model.weight, std=factor / math.sqrt(512))
    assert found(model) == ()


class Holder(nn.Module):
    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.register_buffer("held", value)


INF = math.inf
DISTANCE = torch.arange(16.0)[None] - torch.arange(16.0)[:, None]
ALIBI = DISTANCE * 2.0 ** -torch.arange(1.0, 9.0)[:, None, None]
FLOATS = (torch.float32, torch.bfloat16, torch.float16)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(
    "mark", [-INF, -1e4, -1e9, -1e30, *(torch.finfo(each).min for each in FLOATS)]
)
def test_masks_may_be_merged_with_biases(mark: float, dtype: torch.dtype) -> None:
    bounded = max(mark, torch.finfo(dtype).min) if math.isfinite(mark) else mark
    biases = ALIBI.to(dtype).masked_fill(DISTANCE > 0, bounded)
    assert found(Holder(biases), "FAN109") == ()


@pytest.mark.parametrize(
    "value",
    [
        torch.tensor(INF),
        torch.tensor(-INF),
        torch.full((4,), INF),
        torch.tensor([0.0, 0.5, 0.5]).log(),
        torch.tensor([0.0, -INF, 3.0]),
        torch.randn(64).to(torch.float8_e4m3fn),
    ],
)
def test_infinities_that_are_meant(value: Tensor) -> None:
    assert found(Holder(value), "FAN109") == ()


@pytest.mark.parametrize(
    "kind",
    [
        observer.MinMaxObserver,
        observer.PerChannelMinMaxObserver,
        observer.MovingAverageMinMaxObserver,
        observer.HistogramObserver,
    ],
)
def test_observers_start_with_infinite_ranges(kind: Callable[[], nn.Module]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = kind()
    assert found(model, "FAN109") == ()


def test_what_is_still_garbage() -> None:
    (note,) = found(Holder(torch.tensor([1.0, INF])), "FAN109")
    assert note.severity == "note"
    for value in (
        torch.tensor(math.nan),
        torch.tensor([1.0, math.nan, -INF]),
        torch.tensor([2.0, 1e30, -INF]),
        torch.tensor([2.0, 1e30, -1e30]),
    ):
        (error,) = found(Holder(value), "FAN109")
        assert error.severity == "error"
    model = nn.BatchNorm1d(4)
    for name in ("running_mean", "running_var"):
        getattr(model, name).fill_(INF)
        assert [each.severity for each in found(model, "FAN109")] == ["error"]
        model.reset_running_stats()


def hooked(depth: int) -> nn.Module:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layers = [nn.utils.spectral_norm(nn.Linear(32, 32)) for _ in range(depth)]
    return nn.Sequential(*(each for layer in layers for each in (layer, nn.ReLU())))


@pytest.mark.parametrize("depth", [1, 6])
def test_a_fresh_spectral_norm_is_a_note_that_is_true(depth: int) -> None:
    (finding,) = found(hooked(depth))
    assert (finding.code, finding.severity) == ("FAN110", "note")
    assert "singular vectors are not its own yet" in finding.observed
    assert "until forwards in train mode" in finding.why


def test_one_orthogonal_matrix_is_named_as_that() -> None:
    torch.manual_seed(0)
    model = nn.LSTM(128, 128)
    for name, weight in model.named_parameters():
        if name.startswith("weight"):
            nn.init.orthogonal_(weight)
    (finding,) = found(model, "FAN206")
    assert finding.where == ("weight_ih_l0", "weight_hh_l0")
    assert finding.observed.startswith("one orthogonal matrix of (512, 128), std 0.0442")
    assert finding.numbers["factor"] == pytest.approx(0.5)
    exec(finding.fix, {"fanin": fanin, "model": model})
    assert found(model, "FAN206") == ()


class Packed(nn.Module):
    """One weight for queries, keys and values, under some name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        if name == "in_proj_weight" or name.startswith("w_"):
            self.register_parameter(name, nn.Parameter(torch.empty(384, 128)))
        else:
            self.add_module(name, nn.Linear(128, 384, bias=False))


@pytest.mark.parametrize("name", ["kqv", "attn_qkv", "Wqkv", "in_proj_weight", "w_qkv", "other"])
def test_packed_weights_go_by_many_names(name: str) -> None:
    torch.manual_seed(0)
    model = Packed(name)
    (weight,) = model.parameters()
    nn.init.xavier_uniform_(weight)
    findings = found(model, "FAN206")
    assert len(findings) == (name != "other")
    for finding in findings:
        assert finding.numbers["factor"] == pytest.approx(0.5**0.5)
        exec(finding.fix, {"fanin": fanin, "model": model})
        assert found(model, "FAN206") == ()


def test_the_docs_say_which_checks_share_the_budget() -> None:
    sharing = {check.code for check in CHECKS if check.is_statistical}
    assert sharing == {*(f"FAN20{k}" for k in range(1, 7)), "FAN208", "FAN501"}
