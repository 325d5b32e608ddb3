"""`audit` itself: what it reads, which checks run, what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import fanin
from fanin.auditing import CHECKS, Audit, audit
from fanin.auditing.allowance import Allowance
from fanin.auditing.numbers import SAMPLE, numbers_of
from fanin.errors import ArgumentError, ProbeError, UnknownNameError


def constant() -> nn.Linear:
    layer = nn.Linear(16, 8)
    nn.init.constant_(layer.weight, 0.5)
    return layer


def test_codes_and_names_are_given_once() -> None:
    assert len({check.code for check in CHECKS}) == len(CHECKS)
    assert len({check.name for check in CHECKS}) == len(CHECKS)


@pytest.mark.parametrize("select", [["FAN104"], ["fan1"], ["constant-weight"], ["FAN"]])
def test_checks_are_selected(select: list[str]) -> None:
    assert audit(constant(), select=select).codes == ("FAN104",)


def test_what_is_ignored_is_not_run_even_if_selected() -> None:
    found = audit(constant(), select=["FAN1"], ignore=["constant-weight"])
    assert "FAN104" not in (*found.codes, *found.checks)


@pytest.mark.parametrize("option", ["select", "ignore"])
def test_an_unknown_code_names_the_nearest(option: str) -> None:
    with pytest.raises(UnknownNameError, match=r"Got 'constant-wieght'. Did you mean constant-we"):
        audit(constant(), **{option: ["constant-wieght"]})
    with pytest.raises(ArgumentError, match=rf"{option}= is a list .* Write \['FAN104'\]"):
        audit(constant(), **{option: "FAN104"})


def test_an_unknown_code_is_answered_in_a_line() -> None:
    with pytest.raises(UnknownNameError, match="Got 'FAN999'") as caught:
        audit(constant(), select=["FAN999"])
    assert len(str(caught.value)) < 200
    assert str(caught.value).endswith("`fanin list checks` shows all.")


def test_globs_of_allowances_close_their_brackets() -> None:
    with pytest.raises(ArgumentError, match=r"closes its brackets\. Got 'a\[\.weight'"):
        Allowance(("FAN104",), ("a[.weight",), "so")
    assert Allowance(("FAN104",), ("a.[0-3].weight", "re:a[.]b"), "so").reason == "so"


def test_a_batch_does_not_go_into_a_model_without_values() -> None:
    found = audit(nn.Linear(4, 4, device="meta"), torch.randn(2, 4))
    assert found.notes == ("nothing went in: some parameters have no values yet",)


def test_json_is_read_back() -> None:
    found = audit(constant(), torch.randn(4, 16))
    assert Audit.from_json(found.to_json()) == found
    with pytest.raises(ArgumentError, match="text that to_json wrote"):
        Audit.from_json("[]")


def test_text_has_place_numbers_reason_and_remedy() -> None:
    text = str(audit(constant(), select=["FAN104"]))
    assert text == (
        "weight: FAN104 constant-weight (error)\n"
        "    observed  all 128 entries are 0.5\n"
        "    expected  random entries\n"
        "    why       Units that start equal get equal gradients and stay equal: the layer has "
        "one unit.\n"
        "    fix       fanin.init.kaiming_normal_(model.weight)\n"
        "\n"
        "Linear: 1 error in 2 parameters"
    )


def test_errors_say_what_to_do() -> None:
    with pytest.raises(ArgumentError, match=r"an nn\.Module\. Got dict"):
        audit({})
    with pytest.raises(ArgumentError, match="Got loss= without inputs"):
        audit(constant(), loss=torch.sum)
    with pytest.raises(ArgumentError, match=r"audit: plan= is a Plan\. Got 'kaiming'"):
        audit(constant(), plan="kaiming")
    with pytest.raises(ArgumentError, match=r"select= is a list of codes or names\. Got \[1\]"):
        audit(constant(), select=[1])
    with pytest.raises(ProbeError, match="the forward pass runs through"):
        audit(constant(), torch.randn(4, 3))


def test_an_audit_by_a_plan_knows_it() -> None:
    model = nn.Linear(16, 8)
    plan = fanin.initialize(model, "kaiming", seed=0)
    assert "FAN401" not in audit(model, plan=plan).checks
    assert audit(model, plan=plan).findings == ()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_large_tensors_are_sampled_and_their_extremes_are_not_missed(dtype: torch.dtype) -> None:
    tensor = torch.randn(3 * SAMPLE, generator=torch.Generator().manual_seed(0)).to(dtype)
    tensor[12345], tensor[54321] = 40.0, float("nan")
    numbers = numbers_of(tensor)
    assert (numbers.count, numbers.high, numbers.not_finite) == (3 * SAMPLE, 40.0, 1)
    assert numbers.seen in (SAMPLE, SAMPLE - 1)
    # 6 standard errors of a mean and of a std; 40 may be in the sample.
    assert abs(numbers.mean) < 6 / SAMPLE**0.5 + 40 / SAMPLE
    assert abs(numbers.std - 1) < 6 / (2 * SAMPLE) ** 0.5 + 800 / SAMPLE


def test_a_sample_shares_no_pattern_with_rows() -> None:
    """A table whose rows are constants: every row is seen about as often as any other."""
    rows = torch.arange(512, dtype=torch.float32).repeat_interleave(512)
    counts = torch.bincount(numbers_of(rows).sample.long(), minlength=512)
    assert counts.min() >= SAMPLE // 512 - 3
    assert counts.max() <= SAMPLE // 512 + 3


@pytest.mark.parametrize("count", [SAMPLE + 1, 2 * SAMPLE, 2 * SAMPLE + 1, 3 * SAMPLE - 1, 10**6])
def test_no_entry_is_looked_at_twice(count: int) -> None:
    """Standard errors count the entries of a sample as so many draws."""
    sample = numbers_of(torch.arange(count, dtype=torch.float64)).sample
    assert sample.unique().numel() == sample.numel() == (count if count <= 2 * SAMPLE else SAMPLE)
