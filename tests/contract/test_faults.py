"""Every planted fault is found, with its code and at its place."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from faults_table import Fault

from fanin.auditing import CHECKS, audit

# A table in each file of this folder whose name says so.
FAULTS: tuple[Fault, ...] = tuple(
    fault
    for path in sorted(Path(__file__).parent.glob("faults_*.py"))
    for name, table in vars(importlib.import_module(path.stem)).items()
    if name.endswith("_FAULTS")
    for fault in table
)


def test_there_are_enough() -> None:
    assert len({(fault.code, fault.name) for fault in FAULTS}) == len(FAULTS) >= 40


def test_every_check_has_a_fault() -> None:
    assert {check.code for check in CHECKS} == {fault.code for fault in FAULTS}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.code} {fault.name}")
def test_it_is_found(fault: Fault) -> None:
    model = fault.build()
    inputs = fault.inputs() if fault.inputs is not None else None
    plan = fault.plan(model) if fault.plan is not None else None
    found = audit(model, inputs, loss=fault.loss, plan=plan)
    places = [finding.where[:1] for finding in found.findings if finding.code == fault.code]
    assert places, f"{fault.code} is not among\n{found}"
    assert fault.where is None or (fault.where,) in places, str(found)
