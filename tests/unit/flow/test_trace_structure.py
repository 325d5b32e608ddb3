"""What a trace says about parameters: users, what follows, residual additions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fanin.flow import trace
from fanin.zoo import resnet


class Weighted(nn.Module):
    """A function of an input and one weight."""

    def __init__(self, function: Callable[[Tensor, Tensor], Any], *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape))
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x, self.weight)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x, w: x @ w.mT, ["matmul"]),
        (lambda x, w: torch.addmm(x, x, w), ["addmm"]),
        (lambda x, w: torch.einsum("bi,oi->bo", x, w), ["einsum"]),
        (lambda x, w: F.linear(x, w * 3 + 1), ["linear"]),
        (lambda x, w: F.linear(x, (w - w.mean()) / w.std()), ["linear"]),
        (lambda x, w: [F.linear(x, part) for part in w.chunk(2)], ["linear", "linear"]),
        (lambda x, w: F.linear(x, w.double().to(x.dtype)), ["linear"]),
        (lambda x, w: x + w, ["add"]),
        (lambda x, w: F.linear(x, w @ w), ["matmul"]),
        (lambda x, w: F.linear(F.embedding(torch.arange(3), w), torch.ones(4, 4)), ["embedding"]),
        (lambda x, w: x, []),
    ],
)
def test_users_are_seen_through_what_is_done_to_a_weight(
    function: Callable[[Tensor, Tensor], Any], expected: list[str]
) -> None:
    found = trace(Weighted(function, 4, 4), torch.empty(4, 4))
    assert [operation.name for operation in found.users("weight")] == expected


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (torch.relu, ("relu",)),
        (lambda h: F.relu(F.dropout(h.view(2, -1).t() + 1)), ("relu",)),
        (lambda h: F.max_pool1d(h, 2).tanh(), ("tanh",)),
        (lambda h: F.layer_norm(h, (4,)), ("layer_norm",)),
        (lambda h: F.softmax(h / 2, -1), ("softmax",)),
        (lambda h: h.chunk(2, -1)[0] * h.chunk(2, -1)[1].sigmoid(), ("sigmoid", "mul")),
        (lambda h: F.glu(h), ("glu",)),
        (lambda h: h * h, ("mul",)),
        (lambda h: h + h.relu(), ("relu", "add")),
        (lambda h: (h, h.relu()), ("relu", "output")),
        (lambda h: h * torch.arange(4).cos() + h.flip(-1) * torch.arange(4).sin(), ("output",)),
        (lambda h: h.masked_fill(torch.ones(4, 4).tril() == 0, 0.0).softmax(-1), ("softmax",)),
        (lambda h: 1 - h, ("output",)),
        (lambda h: 1 / h, ("rdiv",)),
    ],
)
def test_what_follows_is_the_first_that_is_not_linear(
    after: Callable[[Tensor], Any], expected: tuple[str, ...]
) -> None:
    found = trace(Weighted(lambda x, w: after(F.linear(x, w)), 4, 4), torch.empty(4, 4))
    assert found.followed_by("weight") == expected


def test_what_follows_is_the_first_argument_of_a_residual_too() -> None:
    found = trace(Weighted(lambda x, w: x + F.linear(x, w), 4, 4), torch.empty(4, 4))
    assert found.followed_by("weight") == ("add",)


def test_functions_that_modules_write_out_go_by_their_names() -> None:
    class TinyRMSNorm(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * x.pow(2).mean(-1, keepdim=True).add(1e-6).rsqrt()

    class NewGELUActivation(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 0.5 * x * (1 + torch.tanh(0.8 * (x + 0.045 * x**3)))

    model = nn.Sequential(nn.Linear(4, 4), TinyRMSNorm(), nn.Linear(4, 4), NewGELUActivation())
    found = trace(model, torch.empty(2, 4))
    assert found.followed_by("0.weight") == ("rms_norm",)
    assert found.followed_by("2.weight") == ("gelu",)
    assert found.residuals() == ()


def test_unknown_parameters_have_no_users() -> None:
    found = trace(nn.Linear(2, 2), torch.empty(1, 2))
    assert found.users("other") == ()
    assert found.followed_by("other") == ()


class Block(nn.Module):
    """Two residual additions, before the norms or after."""

    def __init__(self, is_post: bool) -> None:
        super().__init__()
        self.is_post = is_post
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        if self.is_post:
            x = self.norm1(x + self.attend(x))
            x = self.norm2(x + self.down(F.gelu(self.up(x))))
        else:
            x = x + self.attend(self.norm1(x))
            x = self.down(F.gelu(self.up(self.norm2(x)))) + x
        return x

    def attend(self, x: Tensor) -> Tensor:
        attended: Tensor = self.attention(x, x, x)[0]
        return attended


@pytest.mark.parametrize("is_post", [False, True])
def test_residual_additions_of_a_transformer(is_post: bool) -> None:
    model = nn.Sequential(nn.Linear(8, 8), Block(is_post), Block(is_post))
    found = trace(model, torch.empty(2, 5, 8)).residuals()
    assert [residual.depth for residual in found] == [1, 2, 3, 4]
    last = [residual.last for residual in found]
    assert last[:2] == ["1.attention.out_proj.weight", "1.down.weight"]
    assert last[2:] == ["2.attention.out_proj.weight", "2.down.weight"]
    wide = {"1.up.weight", "1.up.bias", "1.down.weight", "1.down.bias"}
    assert set(found[1].parameters) - {"1.norm2.weight", "1.norm2.bias"} == wide
    assert found[1].skip is not found[1].branch


def test_depth_counts_the_stream_and_not_what_is_within_branches() -> None:
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            h = self.a(x)
            h = h + torch.tanh(self.b(h))
            x += 0.5 * h
            return x

    found = trace(nn.Sequential(Nested(), Nested()), torch.empty(2, 4)).residuals()
    assert [(r.operation.module, r.depth, r.last) for r in found] == [
        ("0", 1, "0.b.weight"),
        ("0", 1, "0.b.weight"),
        ("1", 2, "1.b.weight"),
        ("1", 2, "1.b.weight"),
    ]


def test_residual_additions_of_a_resnet() -> None:
    found = trace(resnet(num_classes=10), torch.empty(2, 3, 64, 64))
    assert len(found.residuals()) > 1
    assert all(residual.last is not None for residual in found.residuals())
    assert found.notes == ()
