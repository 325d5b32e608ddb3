"""FAN207, FAN501 and FAN502: a model against its plan.

Planted deviations are in tests/contract/faults_plan.py.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

import fanin
from fanin import initializers as I
from fanin.auditing import Audit, audit
from fanin.planning import Plan


def model(dtype: torch.dtype = torch.float32) -> nn.ModuleDict:
    return nn.ModuleDict(
        {
            "linear": nn.Linear(40, 40, dtype=dtype),
            "conv": nn.Conv2d(8, 16, 3, dtype=dtype),
            "groups": nn.Conv2d(8, 32, 3, groups=4, dtype=dtype),
            "up": nn.ConvTranspose2d(8, 4, 3, dtype=dtype),
            "table": nn.Embedding(10, 32, padding_idx=2, dtype=dtype),
            "attention": nn.MultiheadAttention(32, 4, dtype=dtype),
            "lstm": nn.LSTM(16, 16, dtype=dtype),
            "norm": nn.LayerNorm(8, dtype=dtype),
        }
    )


def rules(weights: fanin.Initializer) -> dict[str, fanin.Initializer]:
    return {"**": I.zeros(), "re:.*weight.*": weights, "norm.*": I.ones()}


INITIALIZERS = [
    I.normal(std=0.02),
    I.normal(mean=1.0, std=0.01),
    I.uniform(low=-0.1, high=0.3),
    I.trunc_normal(std=0.02),
    I.kaiming_normal(),
    I.xavier_uniform(),
    I.orthogonal(gain=1.3),
    I.variance_scaling(1.0, distribution="truncated_normal"),
    I.mapped(I.normal(std=1.0), torch.tanh),
    I.constant(0.3),
    I.uniform(low=0.1, high=0.1),
]


def against(held: nn.Module, plan: Plan) -> Audit:
    return audit(held, plan=plan, select=["FAN5", "FAN207"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("weights", INITIALIZERS, ids=str)
def test_what_was_planned_is_there_by_any_seed(
    weights: fanin.Initializer, dtype: torch.dtype
) -> None:
    held = model(dtype)
    plan = fanin.initialize(held, rules(weights), seed=0)
    assert against(held, plan).findings == ()
    assert against(held, fanin.plan(held, rules(weights), seed=1)).findings == ()


@pytest.mark.parametrize("kind", ["eye", "sparse", "delta_orthogonal", "dirac"])
def test_structures_are_compared(kind: str) -> None:
    is_conv = kind in ("delta_orthogonal", "dirac")
    held = nn.Conv2d(16, 32, 3, bias=False) if is_conv else nn.Linear(40, 50, bias=False)
    made = getattr(I, kind)(0.5) if kind == "sparse" else getattr(I, kind)()
    plan = fanin.initialize(held, {"weight": made}, seed=0)
    assert against(held, plan).findings == ()
    with torch.no_grad():
        held.weight[0, 0] += 1
    assert against(held, plan).codes == ("FAN501",)


@pytest.mark.parametrize("weights", INITIALIZERS, ids=str)
def test_what_torch_drew_is_not_what_was_planned(weights: fanin.Initializer) -> None:
    torch.manual_seed(0)
    held = nn.Linear(128, 128)
    plan = fanin.plan(held, {"weight": weights, "bias": I.zeros()}, seed=0)
    off = [name for finding in against(held, plan).findings for name in finding.where]
    assert off == ["weight", "bias"]


def test_a_few_percent_are_seen_in_the_std() -> None:
    held = nn.Linear(256, 256, bias=False)
    plan = fanin.initialize(held, {"weight": I.normal(std=0.02)}, seed=0)
    with torch.no_grad():
        held.weight.mul_(1.03)
    (finding,) = against(held, plan).findings
    assert finding.observed.startswith("mean")
    assert finding.numbers["std"] == pytest.approx(0.0206, rel=0.02)
    assert finding.numbers["expected_std"] == pytest.approx(0.02)


def test_one_finding_for_one_cause() -> None:
    torch.manual_seed(0)
    held = nn.Sequential(*[nn.Linear(64, 64, bias=False) for _ in range(6)])
    plan = fanin.plan(held, "kaiming", seed=0)
    (finding,) = against(held, plan).findings
    assert finding.place == "0.weight and 5 more"


def test_what_is_kept_or_skipped_is_not_judged() -> None:
    torch.manual_seed(0)
    held = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))
    plan = fanin.plan(held, "kaiming", seed=0, skip=["0.*"])
    finding, bias = against(held, plan).findings
    assert (finding.where, bias.where) == (("1.weight",), ("1.bias",))
    kept = fanin.plan(held, {"**": fanin.keep()}, seed=0)
    assert against(held, kept).findings == ()


def test_a_users_function_is_not_judged() -> None:
    def ramp(weight: torch.Tensor) -> torch.Tensor:
        return torch.linspace(0, 1, weight.numel()).reshape(weight.shape)

    held = nn.Linear(64, 64, bias=False)
    plan = fanin.plan(held, {"weight": I.from_function(ramp)}, seed=0)
    assert against(held, plan).findings == ()


def test_a_part_of_a_model_has_its_name_in_the_whole() -> None:
    whole = nn.ModuleDict({"head": nn.Linear(64, 64)})
    plan = fanin.initialize(whole["head"], "kaiming", seed=0, prefix="head")
    assert against(whole["head"], plan).findings == ()
    nn.init.zeros_(whole["head"].weight)
    assert against(whole["head"], plan).findings[0].where == ("weight",)


def test_values_that_are_not_finite_are_found_elsewhere() -> None:
    held = nn.Linear(64, 64)
    plan = fanin.initialize(held, "kaiming", seed=0)
    held.weight.data.fill_(torch.nan)
    assert against(held, plan).findings == ()


def test_a_truncation_that_was_planned_has_its_bounds() -> None:
    torch.manual_seed(0)
    held = nn.Linear(256, 256, bias=False)
    nn.init.normal_(held.weight, std=0.02)
    (finding,) = against(
        held, fanin.plan(held, {"weight": I.trunc_normal(std=0.02)}, seed=0)
    ).findings
    assert (finding.code, finding.severity) == ("FAN207", "warning")
    assert finding.numbers["high"] > 0.06


def test_names_and_shapes() -> None:
    planned = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))
    plan = fanin.plan(planned, "kaiming", seed=0)
    other = nn.Sequential(nn.Linear(9, 8), nn.Identity(), nn.Linear(8, 2))
    findings = audit(other, plan=plan, select=["FAN502"]).findings
    assert [finding.where for finding in findings] == [
        ("2.weight", "2.bias"),
        ("1.weight", "1.bias"),
        ("0.weight",),
    ]
    assert findings[2].observed == "shape (8, 9)"
    assert audit(planned, plan=plan, select=["FAN502"]).findings == ()


def test_tied_and_deferred_parameters_are_known() -> None:
    tied = nn.Sequential(nn.Embedding(30, 8), nn.Linear(8, 30, bias=False))
    tied[1].weight = tied[0].weight
    assert against(tied, fanin.initialize(tied, "kaiming", seed=0)).findings == ()
    with torch.device("meta"):
        empty = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    assert against(empty, fanin.plan(empty, "kaiming", seed=0)).findings == ()
