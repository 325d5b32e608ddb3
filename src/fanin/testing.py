"""For a project's own tests: a model must have a healthy start."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from fanin.auditing import Audit, Configuration, audit
from fanin.auditing.configuration import find_configuration
from fanin.planning import Plan

__all__ = ["Configuration", "assert_healthy"]


def assert_healthy(
    model: nn.Module,
    inputs: object = None,
    *,
    plan: Plan | None = None,
    loss: Callable[[Any], Tensor] | None = None,
    select: Sequence[str] | None = None,
    ignore: Sequence[str] = (),
    strict: bool | None = None,
    configuration: Configuration | None = None,
) -> Audit:
    """Audit a model, and fail the test with the findings where there are errors.

    Args:
        model: as for `fanin.audit`.
        inputs: as for `fanin.audit`.
        plan: as for `fanin.audit`.
        loss: as for `fanin.audit`.
        select: instead of the configuration's.
        ignore: besides the configuration's.
        strict: whether warnings fail too, instead of the configuration's.
        configuration: None reads ``[tool.fanin.audit]`` of the nearest pyproject.toml, from the
            current folder upwards; ``Configuration()`` reads none.

    Returns:
        The audit that passed.

    Raises:
        AssertionError: with the findings as text.
        ArgumentError: for a table that makes no sense, and whatever `fanin.audit` refuses.

    Example:
        >>> assert_healthy(nn.Linear(64, 32)).codes
        ()
    """
    __tracebackhide__ = True  # pytest shows the line of the test
    settings = configuration if configuration is not None else find_configuration()
    if strict is not None:
        settings = replace(settings, strict=strict)
    found = settings.applied(
        audit(
            model,
            inputs,
            plan=plan,
            loss=loss,
            select=select if select is not None else settings.select,
            ignore=(*settings.ignore, *ignore),
        )
    )
    if settings.fails(found):
        raise AssertionError(f"the model has no healthy start\n\n{found}")
    return found
