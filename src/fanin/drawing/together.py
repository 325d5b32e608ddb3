"""Many small tensors on a GPU, drawn in few launches."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.autograd.graph import increment_version

from fanin import stream
from fanin.drawing.capturing import is_capturing
from fanin.drawing.elementwise import law_of
from fanin.drawing.targets import check_writable, is_reachable
from fanin.errors import FaninError
from fanin.fills import Fill, Normal, TruncNormal, Uniform
from fanin.stream import Key
from fanin.stream.laws import Law

__all__ = ["draw_together"]

# Elements below which a launch of its own takes the host longer than the device takes to draw.
_SMALL = 1 << 16


def draw_together(draws: Sequence[tuple[Fill, Key, Tensor]]) -> list[bool]:
    """Draw those of these whole tensors that share launches; say for each whether it was drawn.

    They are small, contiguous and on a device of the cuda engine, and get numbers drawn one by one.
    What is left is for `draw`, and so is whatever cannot be drawn: it is refused there.
    """
    laws = [_law(fill, tensor) for fill, _, tensor in draws]
    pairs = [
        (law, key.value, tensor)
        for law, (_, key, tensor) in zip(laws, draws, strict=True)
        if law is not None
    ]
    # A captured graph would copy the table of a group anew at each replay.
    if len(pairs) < 2 or is_capturing(pairs[0][2].device):
        return [False] * len(draws)
    stream.fill_together(pairs)
    for *_, tensor in pairs:
        increment_version(tensor)
    return [law is not None for law in laws]


def _law(fill: Fill, tensor: Tensor) -> Law | None:
    """What draws the tensor, if it is one of those."""
    if (
        not isinstance(fill, Uniform | Normal | TruncNormal)
        or not tensor.is_floating_point()
        or not 0 < tensor.numel() <= _SMALL
        or not is_reachable(tensor)
        or not tensor.is_contiguous()
    ):
        return None
    try:
        check_writable(fill.name, tensor)
        return law_of(fill, tensor.dtype)
    except FaninError:
        return None
