"""Sums of branches that are no plain ``x + f(x)``."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fanin.flow import Trace, trace


class Parts(nn.Module):
    """Layers of one width, combined by a function."""

    def __init__(self, function: Callable[[nn.ModuleDict, Tensor], Tensor]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({name: nn.Linear(8, 8) for name in ("a", "b", "c", "stem")})
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.parts, x)


def found(function: Callable[[nn.ModuleDict, Tensor], Tensor], *shape: int) -> Trace:
    return trace(Parts(function), torch.empty(shape or (4, 8)))


def ends(traced: Trace) -> list[tuple[int, str | None]]:
    return [(each.depth, each.last) for each in traced.residuals()]


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: x + m["a"](x) + m["b"](x),
        lambda m, x: x + (m["a"](x) + m["b"](x)),
        lambda m, x: (m["a"](F.layer_norm(x, (8,))) + m["b"](x)) + x,
        lambda m, x: x - m["a"](x) - m["b"](x).relu(),
    ],
)
def test_each_branch_beside_others_counts(
    function: Callable[[nn.ModuleDict, Tensor], Tensor],
) -> None:
    traced = found(lambda m, x: function(m, m["stem"](x)))
    assert ends(traced) == [(1, "parts.a.weight"), (2, "parts.b.weight")]
    assert len({each.operation for each in traced.residuals()}) == 1
    assert len({each.skip for each in traced.residuals()}) == 1


@pytest.mark.parametrize(
    "shortcut",
    [
        lambda m, x: m["c"](x),
        lambda m, x: F.layer_norm(m["c"](x), (8,)),
        lambda m, x: F.dropout(m["c"](F.layer_norm(x, (8,)))),
    ],
)
def test_a_shortcut_may_project(shortcut: Callable[[nn.ModuleDict, Tensor], Tensor]) -> None:
    def block(m: nn.ModuleDict, x: Tensor) -> Tensor:
        x = m["stem"](x)
        return m["b"](m["a"](x).relu()) + shortcut(m, x)

    traced = found(block)
    assert ends(traced) == [(1, "parts.b.weight")]
    (only,) = traced.residuals()
    assert only.parameters == ("parts.a.weight", "parts.a.bias", "parts.b.weight", "parts.b.bias")


def test_every_block_of_a_resnet_is_one() -> None:
    from fanin.zoo import resnet

    traced = trace(resnet(depth=18, num_classes=10), torch.empty(2, 3, 64, 64))
    assert [each.depth for each in traced.residuals()] == list(range(1, 9))


def recurrent(m: nn.ModuleDict, x: Tensor) -> Tensor:
    state = torch.zeros(4, 8)
    for step in range(3):
        state = torch.tanh(m["a"](x[:, step]) + m["b"](state))
    return state


def recurrent_at_once(m: nn.ModuleDict, x: Tensor) -> Tensor:
    inputs, state = m["a"](x), torch.zeros(4, 8)
    for step in range(3):
        state = torch.tanh(inputs[:, step] + m["b"](state))
    return state


def conditioned(m: nn.ModuleDict, x: Tensor) -> Tensor:
    """The condition was in what it is added to, but so was something else."""
    image, condition = x[:, 0], F.silu(x[:, 1])
    first = F.relu(m["a"](image) * condition)
    return m["b"](first) + m["c"](condition)


@pytest.mark.parametrize("function", [recurrent, recurrent_at_once, conditioned])
def test_other_sums_are_none(function: Callable[[nn.ModuleDict, Tensor], Tensor]) -> None:
    assert ends(found(function, 4, 3, 8)) == []


def rotated(m: nn.ModuleDict, x: Tensor) -> Tensor:
    """Positions, behind a norm with a scale: both operands have it in them."""
    q = F.layer_norm(m["a"](x), (8,)) * m["b"].get_parameter("bias")
    turned = torch.cat((-q[..., 4:], q[..., :4]), -1)
    return q * 0.6 + turned * 0.8


def picked(m: nn.ModuleDict, x: Tensor) -> Tensor:
    """A layer and its bias, each chosen by one index."""
    at = m["stem"](x).argmax(-1)
    rows = torch.einsum("bi,boi->bo", x, m["a"].get_parameter("weight").expand(8, 8, 8)[at])
    return rows + m["b"].get_parameter("weight")[at]


@pytest.mark.parametrize("function", [rotated, picked])
def test_what_both_operands_share_is_no_branch(
    function: Callable[[nn.ModuleDict, Tensor], Tensor],
) -> None:
    assert ends(found(function)) == []


def test_a_skip_may_be_scaled() -> None:
    traced = found(lambda m, x: (y := m["stem"](x)) * m["c"].get_parameter("bias") + m["a"](y))
    assert ends(traced) == [(1, "parts.a.weight")]


def test_a_sum_of_very_many_terms() -> None:
    traced = found(lambda m, x: sum((m["a"](x) for _ in range(300)), m["stem"](x)))
    assert ends(traced) == []
