"""Every check, in the order of codes."""

from __future__ import annotations

from fanin.auditing.checks.against_plan import PLAN_CHECKS
from fanin.auditing.checks.biases import BIAS_CHECKS
from fanin.auditing.checks.checkerboard import CHECKERBOARD_CHECKS
from fanin.auditing.checks.clamped import CLAMPED_CHECKS
from fanin.auditing.checks.clones import CLONE_CHECKS
from fanin.auditing.checks.depth import DEPTH_CHECKS
from fanin.auditing.checks.embeddings import EMBEDDING_CHECKS
from fanin.auditing.checks.gradients import GRADIENT_CHECKS
from fanin.auditing.checks.layouts import LAYOUT_CHECKS
from fanin.auditing.checks.leftovers import LEFTOVER_CHECKS
from fanin.auditing.checks.low_rank import LOW_RANK_CHECKS
from fanin.auditing.checks.norms import NORM_CHECKS
from fanin.auditing.checks.orthogonal import ORTHOGONAL_CHECKS
from fanin.auditing.checks.outputs import OUTPUT_CHECKS
from fanin.auditing.checks.parametrizations import PARAMETRIZATION_CHECKS
from fanin.auditing.checks.precision import PRECISION_CHECKS
from fanin.auditing.checks.rank import RANK_CHECKS
from fanin.auditing.checks.recurrent import RECURRENT_CHECKS
from fanin.auditing.checks.residuals import RESIDUAL_CHECKS
from fanin.auditing.checks.scale import SCALE_CHECKS
from fanin.auditing.checks.signals import SIGNAL_CHECKS
from fanin.auditing.checks.truncation import TRUNCATION_CHECKS
from fanin.auditing.checks.units import UNIT_CHECKS
from fanin.auditing.checks.values import VALUE_CHECKS
from fanin.auditing.finding import Check

__all__ = ["CHECKS"]

_GROUPS: tuple[tuple[Check, ...], ...] = (
    VALUE_CHECKS,
    CLONE_CHECKS,
    UNIT_CHECKS,
    RANK_CHECKS,
    LEFTOVER_CHECKS,
    PARAMETRIZATION_CHECKS,
    EMBEDDING_CHECKS,
    RECURRENT_CHECKS,
    BIAS_CHECKS,
    LOW_RANK_CHECKS,
    CHECKERBOARD_CHECKS,
    NORM_CHECKS,
    SCALE_CHECKS,
    DEPTH_CHECKS,
    LAYOUT_CHECKS,
    TRUNCATION_CHECKS,
    CLAMPED_CHECKS,
    PRECISION_CHECKS,
    ORTHOGONAL_CHECKS,
    RESIDUAL_CHECKS,
    SIGNAL_CHECKS,
    GRADIENT_CHECKS,
    OUTPUT_CHECKS,
    PLAN_CHECKS,
)

CHECKS: tuple[Check, ...] = tuple(
    sorted((check for group in _GROUPS for check in group), key=lambda check: check.code)
)
