"""Which tensors share a launch; the launches themselves are replaced."""

from __future__ import annotations

from importlib import import_module

import pytest
import torch

from fanin import fills, stream
from fanin.drawing import draw
from fanin.drawing.together import draw_together
from fanin.geometry import Region
from fanin.stream import Key

module = import_module("fanin.drawing.together")


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of elements drawn together, where tensors of the CPU play those of a GPU."""
    seen: list[int] = []

    def fill_together(pairs) -> None:
        for law, key, out in pairs:
            seen.append(out.numel())
            stream.fill(law, key, Region.whole(out.shape), out)

    monkeypatch.setattr(module, "is_reachable", lambda tensor: True)
    monkeypatch.setattr(stream, "fill_together", fill_together)
    return seen


def test_small_tensors_are_drawn_together_and_as_if_alone(launched) -> None:
    small = [torch.empty(size) for size in (3, 70, 500)]
    keys = [Key(0, str(i)) for i in range(3)]
    versions = [tensor._version for tensor in small]
    fill = fills.Normal(0.0, 0.5)
    drawn = draw_together([(fill, key, out) for key, out in zip(keys, small, strict=True)])
    assert (drawn, launched) == ([True] * 3, [3, 70, 500])
    for key, tensor, version in zip(keys, small, versions, strict=True):
        alone = torch.empty_like(tensor)
        draw(fill, key, Region.whole(alone.shape), alone)
        assert torch.equal(tensor, alone)
        assert tensor._version > version


def test_what_is_left_for_draw(launched) -> None:
    """The first two are drawn; nothing is written to the others, and nothing refused."""
    cases = [
        (fills.Uniform(0.0, 1.0), torch.zeros(5)),
        (fills.TruncNormal(0.0, 1.0, -2.0, 2.0), torch.zeros(5, dtype=torch.bfloat16)),
        (fills.Constant(1.0), torch.zeros(5)),
        (fills.Orthogonal(), torch.zeros(5, 5)),
        (fills.Normal(), torch.zeros(5, dtype=torch.complex64)),
        (fills.Normal(), torch.zeros(5, dtype=torch.int32)),
        (fills.Normal(), torch.zeros(4, 5).T),
        (fills.Normal(), torch.zeros(2**16 + 1)),
        (fills.Normal(), torch.zeros(0)),
        (fills.Uniform(0.0, 1e6), torch.zeros(5, dtype=torch.float16)),
        (fills.Normal(), torch.zeros(1).expand(5)),
    ]
    drawn = draw_together([(fill, Key(0, "w"), tensor) for fill, tensor in cases])
    assert drawn == [True] * 2 + [False] * (len(cases) - 2)
    assert not any(bool(tensor.any()) for _, tensor in cases[2:])


def test_one_is_not_together(launched) -> None:
    assert draw_together([(fills.Normal(), Key(0, "w"), torch.empty(3))]) == [False]
    assert launched == []


def test_none_on_the_cpu() -> None:
    draws = [(fills.Normal(), Key(0, "w"), torch.empty(3))] * 2
    assert draw_together(draws) == [False, False]
    assert draw_together([]) == []


def test_nothing_together_while_a_graph_is_captured(launched, monkeypatch) -> None:
    monkeypatch.setattr(module, "is_capturing", lambda device: True)
    draws = [(fills.Normal(), Key(0, "w"), torch.empty(3))] * 2
    assert draw_together(draws) == [False, False]
    assert launched == []
