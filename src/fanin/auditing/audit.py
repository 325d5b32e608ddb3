"""`audit`: everything that is wrong with a model's start."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from fanin.auditing.budget import Budget
from fanin.auditing.checks import CHECKS
from fanin.auditing.evidence import Evidence, gather
from fanin.auditing.finding import SEVERITIES, Check, Finding
from fanin.auditing.findings import Audit
from fanin.auditing.selection import chosen_checks
from fanin.auditing.signals import signals_of
from fanin.errors import ArgumentError
from fanin.model import module_type
from fanin.planning import Plan

__all__ = ["audit", "examine"]


def audit(
    model: nn.Module,
    inputs: object = None,
    *,
    plan: Plan | None = None,
    loss: Callable[[Any], Tensor] | None = None,
    select: Sequence[str] | None = None,
    ignore: Sequence[str] = (),
) -> Audit:
    """Find what is wrong with a model's start, however it was initialised.

    Without inputs the weights alone are read. With inputs one forward and one backward pass are
    measured too, as by `fanin.probe`; with a plan every parameter is compared with it. The model is
    left as it was.

    Of a parameter with more than 131,072 entries half as many are looked at, spread evenly, besides
    the extremes of all. Checks that compare a sample with what chance allows (FAN201 to
    FAN206 and FAN208, with a plan FAN501) allow a false alarm in one of a million audits of healthy
    models, all together; the other thresholds are fixed.

    Args:
        model: any module. Parameters that have no memory yet are findings; sharded ones are
            refused.
        inputs: as for `fanin.probe`; None reads weights only.
        plan: what the weights should be.
        loss: as for `fanin.probe`.
        select: codes (``"FAN104"``), beginnings of codes (``"FAN1"``) or names of checks
            (``"constant-weight"``) to run; None runs all.
        ignore: likewise, to leave out; it wins over ``select``.

    Returns:
        An `Audit`; ``print`` shows the findings, errors first.

    Raises:
        UnknownNameError: when no check has such a code or name.
        ArgumentError: for a sharded model, what is no module, or a loss or plan that does not fit.
        PlanError: when parameters are cut up by FSDP1 or ZeRO-3, or overlap in memory.
        ProbeError: when the forward or the backward pass raises; the cause is chained.

    Example:
        >>> from torch import nn
        >>> model = nn.Linear(64, 32)
        >>> _ = nn.init.constant_(model.weight, 0.1)
        >>> [(finding.code, finding.place) for finding in audit(model).findings]
        [('FAN104', 'weight')]
    """
    checks = chosen_checks(CHECKS, select=select, ignore=ignore)
    if not isinstance(model, nn.Module):
        raise ArgumentError(
            f"audit: the model is an nn.Module. Got {type(model).__name__}. For a safetensors file "
            "use fanin.audit_checkpoint."
        )
    if plan is not None and not isinstance(plan, Plan):
        raise ArgumentError(
            f"audit: plan= is a Plan. Got {plan!r}. Make one with fanin.plan(model, recipe)."
        )
    if loss is not None and inputs is None:
        raise ArgumentError(
            "audit: a loss is of the outputs for some inputs. Got loss= without inputs. Pass a "
            "batch as the second argument."
        )
    evidence = gather(model, plan=plan)
    if inputs is not None and evidence.without_memory:
        evidence = replace(evidence, notes=("nothing went in: some parameters have no values yet",))
    elif inputs is not None:
        seen = signals_of(model, evidence.weights, inputs, loss=loss, plan=plan)
        evidence = replace(evidence, signals=seen, notes=seen.report.notes)
    return examine(evidence, checks, title=module_type(model).__name__)


def examine(evidence: Evidence, checks: Sequence[Check], *, title: str) -> Audit:
    """Run checks over the evidence; those run that have what they need.

    Args:
        evidence: of a model or a checkpoint.
        checks: to run.
        title: what was audited.
    """
    given = {"weights"}
    given |= {"inputs"} if evidence.signals is not None else set()
    given |= {"plan"} if evidence.plan is not None else set()
    able = [check for check in checks if check.needs in given]
    budget = Budget.for_checks(sum(check.is_statistical for check in able))
    evidence = replace(evidence, budget=budget)
    found = [Finding.of(check, symptom) for check in able for symptom in check.run(evidence)]
    found.sort(key=lambda finding: (SEVERITIES.index(finding.severity), finding.code))
    return Audit(
        tuple(found),
        checks=tuple(check.code for check in able),
        title=title,
        num_weights=len(evidence.weights),
        notes=evidence.notes,
    )
