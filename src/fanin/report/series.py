"""A series is data: named points, for whoever draws them."""

from __future__ import annotations

from dataclasses import dataclass

from fanin.errors import ArgumentError

__all__ = ["Series"]


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one quantity.

    Args:
        name: of the quantity (``"output rms"``).
        x: ascending positions.
        y: one value for each; NaN and infinities are allowed.
        labels: one text for each; none where positions say enough.

    Raises:
        ArgumentError: when a point lacks a coordinate or a label.

    Example:
        >>> Series("rms", (0, 1), (1.0, 16.0), ("first", "second")).points
        ((0, 1.0), (1, 16.0))
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for what, values in (("y", self.y), ("labels", self.labels or self.x)):
            if len(values) != len(self.x):
                raise ArgumentError(
                    f"Series: there is one entry for each x. Got {len(values)} {what} and "
                    f"{len(self.x)} x for {self.name!r}."
                )

    @property
    def points(self) -> tuple[tuple[float, float], ...]:
        """Pairs of position and value."""
        return tuple(zip(self.x, self.y, strict=True))
