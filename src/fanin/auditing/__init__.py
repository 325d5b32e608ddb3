"""Findings about a model's start, each with a code."""

from __future__ import annotations

from fanin.auditing.audit import audit
from fanin.auditing.checkpoints import audit_checkpoint
from fanin.auditing.checks import CHECKS
from fanin.auditing.configuration import Configuration
from fanin.auditing.explain import explain
from fanin.auditing.finding import Check, Finding
from fanin.auditing.findings import Audit

__all__ = [
    "CHECKS",
    "Audit",
    "Check",
    "Configuration",
    "Finding",
    "audit",
    "audit_checkpoint",
    "explain",
]
