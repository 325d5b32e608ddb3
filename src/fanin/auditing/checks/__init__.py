"""Every check, in the order of codes."""

from __future__ import annotations

from fanin.auditing.checks.values import VALUE_CHECKS
from fanin.auditing.finding import Check

__all__ = ["CHECKS"]

CHECKS: tuple[Check, ...] = tuple(sorted(VALUE_CHECKS, key=lambda check: check.code))
