"""Checks of the settings of a method that learns."""

from __future__ import annotations

from fanin.errors import ArgumentError

__all__ = ["check_between", "check_steps"]


def check_steps(asked: str, steps: object) -> None:
    """Refuse what is no whole number from 1."""
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise ArgumentError(f"{asked}: steps is a whole number from 1. Got {steps!r} for steps.")


def check_between(
    asked: str, name: str, value: object, low: float, high: float, *, may_be_lowest: bool = False
) -> None:
    """Refuse what is no number between two, the upper one excluded."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and (low < float(str(value)) < high or (may_be_lowest and value == low)):
        return
    first = "from" if may_be_lowest else "above"
    raise ArgumentError(
        f"{asked}: {name} is a number {first} {low:g} and below {high:g}. Got {value!r} for {name}."
    )
