"""Sizes as people write them."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["bytes_text", "shape_text"]


def bytes_text(count: int) -> str:
    """``244.4 MB``: decimal units, as disks are sold and `ls --si` prints."""
    size, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.1f} {unit}" if unit != "B" else f"{count} B"


def shape_text(shape: Sequence[int]) -> str:
    """``64×3×11×11``; a dash for a scalar."""
    return "×".join(map(str, shape)) or "-"
