"""Every check, in the order of codes."""

from __future__ import annotations

from fanin.auditing.checks.gradients import GRADIENT_CHECKS
from fanin.auditing.checks.outputs import OUTPUT_CHECKS
from fanin.auditing.checks.signals import SIGNAL_CHECKS
from fanin.auditing.checks.values import VALUE_CHECKS
from fanin.auditing.finding import Check

__all__ = ["CHECKS"]

_GROUPS: tuple[tuple[Check, ...], ...] = (
    VALUE_CHECKS,
    SIGNAL_CHECKS,
    GRADIENT_CHECKS,
    OUTPUT_CHECKS,
)

CHECKS: tuple[Check, ...] = tuple(
    sorted((check for group in _GROUPS for check in group), key=lambda check: check.code)
)
