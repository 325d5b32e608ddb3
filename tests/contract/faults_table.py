"""`Fault`: a small real module with one mistake, and the code an audit must give it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from fanin.planning import Plan

__all__ = ["Fault"]


@dataclass(frozen=True)
class Fault:
    """A planted fault.

    Args:
        code: that the audit must find.
        name: of the case, for the test's id.
        build: makes the module, by a seed of its own.
        where: the first name of the finding; None: any.
        inputs: makes the batch; None audits weights only.
        loss: of the outputs.
        plan: of the module, where the fault is a deviation from it.
    """

    code: str
    name: str
    build: Callable[[], nn.Module]
    where: str | None = None
    inputs: Callable[[], object] | None = None
    loss: Callable[[Any], Tensor] | None = None
    plan: Callable[[nn.Module], Plan] | None = None
