"""Numbers as people read them."""

from __future__ import annotations

__all__ = ["NOTHING", "number_text", "times_text"]

NOTHING = "-"  # where there is no number


def number_text(value: float | None) -> str:
    """Three digits: ``0.0625``, ``1.9e+37``; a dash for None."""
    return NOTHING if value is None else f"{value:.3g}"


def times_text(factor: float) -> str:
    """``×16``, ``×0.41``, ``×0.997``: as many digits as a fit is good for."""
    if factor >= 1e4:
        return f"×{factor:.2g}"
    if factor >= 10:
        return f"×{factor:.0f}"
    digits = 3 if 0.9 < factor < 1.1 else 2
    return f"×{factor:#.{digits}g}"
