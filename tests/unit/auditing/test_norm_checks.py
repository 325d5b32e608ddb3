"""FAN307: scales of norms, and those that start apart from 1 on purpose."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import fanin
from fanin.auditing import Finding, audit


def found(model: nn.Module) -> list[Finding]:
    return [*audit(model, select=["FAN307"]).findings]


class Swin(nn.Module):
    """A block with norms behind its branches."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(16), nn.Linear(16, 16)
        self.norm2, self.mlp = nn.LayerNorm(16), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.norm1(self.attn(x))
        return x + self.norm2(self.mlp(x))


class Stage(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Swin() for _ in range(3))
        self.norm = nn.LayerNorm(16)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class Bottleneck(nn.Module):
    """A residual block whose last norm starts at 0, as `zero_init_residual` does."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.BatchNorm2d(8),
        )
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x + self.branch(x))


class OwnRMSNorm(nn.Module):
    """A class that nobody knows: it adds 1."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(16))

    def forward(self, x: Tensor) -> Tensor:
        return x * x.square().mean(-1, keepdim=True).rsqrt() * (1 + self.weight)


class GemmaRMSNorm(OwnRMSNorm):
    pass


def zeros_behind_branches() -> nn.Module:
    model = Stage()
    for block in model.blocks:
        nn.init.zeros_(block.norm1.weight)
        nn.init.constant_(block.norm2.weight, 1e-5)
    return model


def zero_init_residual() -> nn.Module:
    model = nn.Sequential(Bottleneck(), Bottleneck())
    for block in model:
        nn.init.zeros_(block.branch[4].weight)
    return model


def blocks_alone() -> nn.Module:
    model = Stage().blocks
    for block in model:
        nn.init.zeros_(block.norm1.weight)
        nn.init.zeros_(block.norm2.weight)
    return model


def drawn(norm: nn.Module, draw: Callable[[Tensor], object]) -> nn.Module:
    torch.manual_seed(0)
    draw(norm.weight)
    return nn.Sequential(nn.Linear(16, 16), norm, nn.Linear(16, 4))


def frozen() -> nn.Module:
    model = drawn(nn.LayerNorm(16), nn.init.zeros_)
    return model.requires_grad_(False)


@pytest.mark.parametrize(
    "build",
    [
        zeros_behind_branches,
        zero_init_residual,
        blocks_alone,
        frozen,
        lambda: drawn(nn.BatchNorm1d(16), lambda w: nn.init.normal_(w, 1.0, 0.02)),
        lambda: drawn(nn.BatchNorm1d(16), nn.init.uniform_),
        lambda: drawn(nn.LayerNorm(16), lambda w: nn.init.constant_(w, 0.25)),
        lambda: drawn(OwnRMSNorm(), nn.init.zeros_),
        lambda: drawn(OwnRMSNorm(), lambda w: nn.init.normal_(w, 0.0, 0.02)),
        lambda: drawn(GemmaRMSNorm(), nn.init.zeros_),
        lambda: drawn(GemmaRMSNorm(), lambda w: nn.init.normal_(w, 0.0, 0.02)),
    ],
)
def test_scales_that_are_meant(build: Callable[[], nn.Module]) -> None:
    assert found(build()) == []


@pytest.mark.parametrize(
    ("norm", "draw", "severity"),
    [
        (nn.LayerNorm(16), lambda w: nn.init.normal_(w, std=0.02), "warning"),
        (nn.BatchNorm1d(16), lambda w: nn.init.uniform_(w, -0.1, 0.1), "warning"),
        (nn.RMSNorm(16), lambda w: nn.init.constant_(w, 256.0), "warning"),
        (nn.LayerNorm(16), nn.init.zeros_, "warning"),
        (nn.LayerNorm(16), lambda w: nn.init.constant_(w, -1.0), "note"),
        (GemmaRMSNorm(), nn.init.ones_, "warning"),
        (GemmaRMSNorm(), lambda w: nn.init.constant_(w, -1.0), "warning"),
    ],
)
def test_scales_that_are_wrong(
    norm: nn.Module, draw: Callable[[Tensor], object], severity: str
) -> None:
    model = drawn(norm, draw)
    (finding,) = found(model)
    assert (finding.severity, finding.where) == (severity, ("1.weight",))
    exec(finding.fix, {"fanin": fanin, "model": model})
    assert found(model) == []


def test_a_rectifier_behind_a_zero_scale_is_dead() -> None:
    model = nn.Sequential(nn.Linear(16, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 4))
    nn.init.zeros_(model[1].weight)
    (finding,) = found(model)
    assert (finding.severity, finding.where) == ("error", ("1.weight",))
    nn.init.ones_(model[1].bias)  # it lets the gradient through
    (finding,) = found(model)
    assert finding.severity == "warning"


def test_zeros_in_every_norm_are_mended_by_one_line() -> None:
    model = Stage()
    for parameter in model.parameters():
        if parameter.dim() == 1:
            nn.init.zeros_(parameter)
    (finding,) = found(model)
    assert finding.severity == "warning"
    assert len(finding.where) == 7
    assert finding.fix.endswith(
        "only=['blocks.*.norm1.weight', 'blocks.*.norm2.weight', 'norm.weight'])"
    )
    exec(finding.fix, {"fanin": fanin, "model": model})
    assert found(model) == []
