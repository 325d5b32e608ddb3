"""Nothing is found in models that nothing is wrong with."""

from __future__ import annotations

import pytest
import torch
from healthy_table import TORCH, TRANSFORMERS, ZOO, Healthy

from fanin.auditing import CHECKS, audit

SEEDS = range(5)
CHANCE = {check.code for check in CHECKS if check.is_statistical}


def test_there_are_enough() -> None:
    assert len({each.name for each in (*TORCH, *ZOO, *TRANSFORMERS)}) >= 40


@pytest.mark.parametrize("healthy", [*TORCH, *ZOO], ids=lambda each: each.name)
def test_small_models_have_no_findings(healthy: Healthy) -> None:
    for seed in SEEDS:
        _check(healthy, seed)


@pytest.mark.parametrize("healthy", TRANSFORMERS, ids=lambda each: each.name)
def test_models_of_transformers_have_no_findings(healthy: Healthy) -> None:
    _check(healthy, 0)


def _check(healthy: Healthy, seed: int) -> None:
    """Neither an error nor a warning, and of checks that chance could fool nothing that is not so.

    By chance: once in a million audits.
    """
    torch.manual_seed(seed)
    found = audit(healthy.build(seed))
    assert found.is_clean, f"seed {seed}\n{found}"
    assert CHANCE & set(found.codes) <= set(healthy.meant), f"seed {seed}\n{found}"
