"""A result of a calibration as JSON text."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fanin.calibration.calibration import Calibration
    from fanin.calibration.learned import LearnedScales

__all__ = ["json_text"]


def json_text(done: Calibration | LearnedScales) -> str:
    """Its fields, and whether it converged; NaN and infinities, unknown to JSON, as texts."""
    content = asdict(done, dict_factory=_plain) | {"converged": done.converged}
    return json.dumps(content, ensure_ascii=False, allow_nan=False)


def _plain(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in fields
    }
