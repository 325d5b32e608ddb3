"""Where numbers go: which elements a buffer holds, and what its axes mean."""

from fanin.geometry.region import Region as Region
