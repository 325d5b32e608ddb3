"""FAN405 names a zero as the cause only where it multiplies what gets no gradient."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fanin.auditing import Finding, audit


def batch() -> Tensor:
    return torch.randn(32, 64, generator=torch.Generator().manual_seed(0))


def found(model: nn.Module) -> list[Finding]:
    return [*audit(model, batch(), select=["FAN405"]).findings]


class Silent(nn.Module):
    """A branch whose signal is so small that its square underflows, and a zero added to it."""

    def __init__(self, std: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.given = nn.Parameter(std * torch.randn(64, 64))
        self.position = nn.Parameter(torch.zeros(64))
        self.inner = nn.Parameter(0.1 * torch.randn(64, 64))
        self.body, self.head = nn.Linear(64, 64), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        quiet = (x @ self.given + self.position) @ self.inner
        return self.head(self.body(x).relu() + quiet.square())


def test_what_a_dtype_cannot_hold_is_no_fault_of_a_zero() -> None:
    (finding,) = found(Silent(1e-25))
    assert (finding.severity, finding.where) == ("warning", ("inner",))
    assert finding.observed == "its gradient is too small for float32, and 0 there"
    assert found(Silent(0.1)) == []


class OnFrozen(nn.Module):
    """What a frozen layer of zeros gives, a position, and a body without another input."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.frozen = nn.Linear(64, 64, bias=False).requires_grad_(False)
        self.position = nn.Parameter(torch.zeros(64))
        self.body, self.head = nn.Linear(64, 64, bias=False), nn.Linear(64, 10)
        nn.init.zeros_(self.frozen.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.frozen(x) + self.position))


def test_a_frozen_branch_of_zeros_is_no_fault_of_what_is_added_to_it() -> None:
    (finding,) = found(OnFrozen())
    assert (finding.severity, finding.where) == ("warning", ("body.weight", "head.weight"))
    assert "position" not in finding.observed


class Heads(nn.Module):
    """Two layers of zeros side by side; one gates another branch."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.other = nn.Linear(64, 10, bias=False)
        self.up, self.gate = nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False)
        self.down = nn.Linear(64, 10)
        nn.init.zeros_(self.other.weight)
        nn.init.zeros_(self.gate.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.other(x) + self.down(self.up(x) * self.gate(x))


def test_a_zero_beside_is_not_named() -> None:
    (finding,) = found(Heads())
    assert (finding.severity, finding.where) == ("note", ("up.weight", "down.weight"))
    assert finding.observed == "its gradient is exactly 0, as 'gate.weight' is 0"


class Joined(nn.Module):
    """A scale made of pieces, and a mask token that is only put in."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.token = nn.Parameter(torch.zeros(64))
        self.left, self.right = nn.Parameter(torch.zeros(32)), nn.Parameter(torch.zeros(32))
        self.body, self.head = nn.Linear(64, 64), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.where(torch.arange(len(x))[:, None] % 2 > 0, x, x + self.token)
        scale = torch.cat([self.left, self.right]).tanh() * 0.1
        return self.head(x + scale * self.body(x))


def test_a_scale_is_followed_through_what_is_made_of_it() -> None:
    (finding,) = found(Joined())
    assert (finding.severity, finding.where) == ("note", ("body.weight", "body.bias"))
    assert finding.observed == "its gradient is exactly 0, as 'left' (and 1 more) is 0"


def test_terms_that_cancel_are_no_finding() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 8), nn.GELU(), nn.Linear(8, 1))
    # The gradients of these outputs start at 1 and -1, whose sum is what the last bias gets.
    for size in (2, 4):
        assert not audit(model, batch()[:size], select=["FAN405"]).findings
