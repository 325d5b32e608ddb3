"""FAN201 to FAN206 and FAN212: the numbers of findings, and near-misses that are none.

Planted faults are in tests/contract/faults_scale.py. What chance could fool has the audit's own
budget: a false alarm in a million of audits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from filled_models import filled, found
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

import fanin
from fanin import initializers as I
from fanin.auditing import audit
from fanin.zoo import mlp


def test_a_mean_has_its_standard_error() -> None:
    model = filled(nn.Linear(784, 64), lambda w: nn.init.normal_(w, 0.1))
    (finding,) = found(model, "FAN201")
    assert finding.numbers["mean"] == pytest.approx(0.1, abs=0.03)
    assert "second argument is the mean" in finding.observed
    assert finding.fix == "fanin.init.normal_(model.weight, std=0.1)"
    assert found(model, "FAN202") == ()  # the std of 1 is the same mistake


@pytest.mark.parametrize(
    "model",
    [
        nn.LayerNorm(512),
        nn.Linear(512, 512, bias=False).requires_grad_(False),
        nn.Conv2d(256, 256, 3, groups=256),
        nn.Embedding(300, 64, padding_idx=0),
    ],
    ids=lambda module: type(module).__name__,
)
def test_what_may_have_a_mean(model: nn.Module) -> None:
    with torch.no_grad():
        if isinstance(model, nn.Linear):
            model.weight.add_(1)
        if isinstance(model, nn.Conv2d):  # a blur: nine values, the same for every channel
            model.weight.copy_(torch.rand(3, 3).expand(256, 1, 3, 3))
    assert found(model, "FAN201") == ()


def test_a_small_mean_is_no_matter() -> None:
    """Of half a million entries it is seen, at 7 standard errors, and adds 3 % to an output."""
    torch.manual_seed(0)
    model = nn.Embedding(8192, 64)
    with torch.no_grad():
        model.weight.mul_(0.1).add_(0.003)
    assert found(model, "FAN201") == ()


def test_the_depth_has_its_factor() -> None:
    model = filled(mlp(depth=10, width=128), lambda w: nn.init.normal_(w, std=0.01))
    (finding,) = found(model, "FAN202")
    expected = [0.01 * math.sqrt(n / 2) for n in (784, *[128] * 8)]
    assert finding.numbers["total"] == pytest.approx(math.prod(expected), rel=0.3)
    assert finding.severity == "error"
    assert len(finding.where) == 9  # but for the head


@pytest.mark.parametrize(
    "recipe", ["kaiming", "xavier", "lecun", "orthogonal", I.orthogonal(gain=1.2)], ids=str
)
@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
def test_schemes_in_use_are_not_far_off(recipe: object, activation: str) -> None:
    model = mlp(depth=8, width=64, activation=activation)
    rules = {"**.weight": recipe, "**.bias": I.zeros()}
    fanin.initialize(model, recipe if isinstance(recipe, str) else rules, seed=0)
    assert audit(model, select=["FAN2"]).findings == ()


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(*[m for _ in range(9) for m in (nn.Linear(64, 64), nn.LayerNorm(64))]),
        nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 2, 64, batch_first=True), 3),
    ],
    ids=["norms", "transformer"],
)
def test_a_small_std_before_norms_is_a_choice(model: nn.Module) -> None:
    assert found(filled(model, lambda w: nn.init.normal_(w, std=0.02)), "FAN202") == ()


def test_a_small_head_is_a_choice() -> None:
    model = mlp(depth=4, width=64)
    fanin.initialize(model, "kaiming", seed=0)
    nn.init.orthogonal_(model[-1].weight, gain=0.01)
    assert found(model, "FAN202") == ()


class Sine(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(30 * x)


def test_sine_networks_are_scaled_by_their_frequency() -> None:
    model = nn.Sequential(*[m for _ in range(6) for m in (nn.Linear(64, 64), Sine())])
    fanin.initialize(model, "siren", seed=0)
    assert found(model, "FAN202") == found(model, "FAN203") == ()


def test_next_to_nothing_is_said() -> None:
    model = filled(
        nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64)), lambda w: nn.init.normal_(w, std=1e-10)
    )
    (finding,) = found(model, "FAN202")
    assert finding.where == ("0.weight",)


@pytest.mark.parametrize(("depth", "is_told"), [(6, False), (8, False), (9, True), (20, True)])
def test_the_default_is_told_once_a_thousandth_is_left(depth: int, is_told: bool) -> None:
    torch.manual_seed(0)
    model = mlp(depth=depth, width=128)
    findings = audit(model, select=["FAN2"]).findings
    assert [finding.code for finding in findings] == ["FAN203"] * is_told
    for finding in findings:
        assert finding.numbers["left"] == pytest.approx(6 ** (-depth / 2) * 2**0.5, rel=0.4)


def test_skips_keep_the_default() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(64, 64)

        def forward(self, x: Tensor) -> Tensor:
            return x + F.relu(self.inner(x))

    assert found(nn.Sequential(*[Block() for _ in range(20)]), "FAN203") == ()


def test_swapped_fans_have_their_factor() -> None:
    model = filled(nn.ConvTranspose2d(256, 32, 3), nn.init.kaiming_normal_)
    (finding,) = found(model, "FAN204")
    assert finding.numbers["factor"] == pytest.approx(8**0.5)
    assert "kaiming_normal()" in finding.fix


@pytest.mark.parametrize(
    "fill",
    [
        lambda w: nn.init.kaiming_normal_(w, mode="fan_out"),  # counts the inputs here
        nn.init.xavier_uniform_,
        lambda w: nn.init.normal_(w, std=0.02),
        lambda w: nn.init.kaiming_uniform_(w, a=math.sqrt(5)),  # the constructor's
    ],
    ids=["fan_out", "xavier", "dcgan", "default"],
)
def test_transposed_convolutions_that_are_as_meant(fill: Callable[[Tensor], object]) -> None:
    assert found(filled(nn.ConvTranspose2d(256, 32, 3), fill), "FAN204") == ()


def test_a_model_of_fan_out_is_meant_so() -> None:
    def fill(weight: Tensor) -> None:
        nn.init.kaiming_normal_(weight, mode="fan_out" if weight.shape[0] == 128 else "fan_in")

    model = nn.Sequential(nn.Conv2d(32, 128, 3), nn.ConvTranspose2d(256, 32, 3))
    assert found(filled(model, fill), "FAN204") == ()


def test_groups_have_their_factor() -> None:
    def by_shape(weight: Tensor) -> None:
        nn.init.kaiming_normal_(weight, mode="fan_out")

    def by_group(weight: Tensor) -> None:
        nn.init.normal_(weight, std=math.sqrt(2 / 9))

    depthwise = [nn.Conv2d(c, c, 3, groups=c) for c in (64, 128, 256, 512)]
    (finding,) = found(filled(nn.Sequential(*depthwise), by_shape), "FAN205")
    assert len(finding.where) == 4
    assert finding.numbers["factor"] == pytest.approx(1 / 8)
    assert found(filled(nn.Sequential(*depthwise), by_group), "FAN205") == ()
    assert found(filled(depthwise[0], by_shape), "FAN205") == ()  # 576 entries leave it open


def test_one_std_for_all_is_no_scheme() -> None:
    """0.0589 is what 64 channels of 3×3 get by the shape; the others do not fit it."""
    depthwise = [nn.Conv2d(c, c, 3, groups=c) for c in (64, 128, 256, 512)]
    model = filled(nn.Sequential(*depthwise), lambda w: nn.init.normal_(w, std=0.0589))
    assert found(model, "FAN205") == ()


def test_packed_parts_have_their_factor() -> None:
    (finding,) = found(filled(nn.LSTM(128, 128), nn.init.xavier_uniform_), "FAN206")
    assert finding.severity == "warning"
    assert finding.numbers["factor"] == pytest.approx(0.4**0.5)
    torch.manual_seed(0)
    (own,) = found(nn.MultiheadAttention(128, 4), "FAN206")
    assert own.severity == "note"
    assert own.numbers["factor"] == pytest.approx(0.5**0.5)


@pytest.mark.parametrize(("inputs", "hidden"), [(256, 128), (128, 128), (64, 256)])
def test_torchs_gates_are_within_their_own_bounds(inputs: int, hidden: int) -> None:
    """U(±1/√H) is what xavier gives for inputs twice as many, all gates as one."""
    torch.manual_seed(0)
    assert found(nn.LSTM(inputs, hidden, bidirectional=True, num_layers=2), "FAN206") == ()


def test_parts_drawn_each_on_their_own_are_right() -> None:
    model = nn.Sequential(nn.MultiheadAttention(64, 4), nn.LSTM(64, 64))
    fanin.initialize(model, "xavier", seed=0)
    assert found(model, "FAN206") == ()


class Block(nn.Module):
    def __init__(self, *, has_scale: bool = False) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(32)
        self.fc1, self.fc2 = nn.Linear(32, 64), nn.Linear(64, 32)
        if has_scale:
            self.gamma = nn.Parameter(torch.full((32,), 1e-4))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fc2(F.gelu(self.fc1(self.norm(x))))


class Stack(nn.Module):
    def __init__(self, depth: int, *, is_post: bool = False, has_scale: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(Block(has_scale=has_scale) for _ in range(depth))
        if not is_post:
            self.norm = nn.LayerNorm(32)


def test_unscaled_branches_grow_with_the_root_of_the_depth() -> None:
    (finding,) = found(Stack(24), "FAN212")
    assert finding.severity == "note"
    assert finding.numbers["growth"] == pytest.approx(24**0.5)
    assert finding.where[0] == "blocks.0.fc2.weight"
    assert found(Stack(48), "FAN212")[0].severity == "warning"


def test_stacks_that_are_shallow_post_norm_or_scaled() -> None:
    scaled_stack = Stack(24)
    for block in scaled_stack.blocks:
        block.fc2.weight.data.div_(24**0.5)
    zeroed = Stack(24)
    for block in zeroed.blocks:
        nn.init.zeros_(block.fc2.weight)
    for model in (
        Stack(8),
        Stack(24, is_post=True),
        Stack(24, has_scale=True),
        scaled_stack,
        zeroed,
    ):
        assert found(model, "FAN212") == ()


def test_branches_of_one_kind_may_be_scaled_and_others_not() -> None:
    """CLIP's MLPs in transformers are, its attention is not."""
    stack = Stack(12)
    for block in stack.blocks:
        block.fc2.weight.data.div_(24**0.5)
        block.attn = nn.ModuleDict({"qkv": nn.Linear(32, 96), "out_proj": nn.Linear(32, 32)})
        block.attn["qkv"].weight.data.div_(24**0.5)
    (finding,) = found(stack, "FAN212")
    assert finding.where == tuple(f"blocks.{i}.attn.out_proj.weight" for i in range(12))
    assert "in 12 of the last layers of 24 branches" in finding.observed


def test_a_norm_behind_a_branch_leaves_no_scale() -> None:
    """OLMo 2 and Gemma 2: x + norm(f(x))."""
    stack = Stack(24)
    for block in stack.blocks:
        block.post_feedforward_layernorm = nn.LayerNorm(32)
    assert found(stack, "FAN212") == ()


def test_remedies_can_be_pasted() -> None:
    model = filled(mlp(depth=12, width=64), lambda w: nn.init.normal_(w, std=0.01))
    (finding,) = found(model, "FAN202")
    exec(finding.fix, {"fanin": fanin, "model": model})
    assert found(model, "FAN202") == ()
    stack = Stack(24)
    (finding,) = found(stack, "FAN212")
    assert "only=['blocks.*.fc2.weight']" in finding.fix
    exec(finding.fix, {"fanin": fanin, "model": stack})
    assert found(stack, "FAN212") == ()


def test_axes_that_a_checkpoint_does_not_state_are_no_scale(tmp_path: Path) -> None:
    """A file has shapes alone: (768, 2304) may be (in, out) or (out, in)."""
    model = filled(nn.Linear(784, 10), nn.init.normal_)
    save_file(dict(model.state_dict()), tmp_path / "model.safetensors")
    found_in_file = fanin.audit_checkpoint(tmp_path / "model.safetensors", select=["FAN2"])
    assert found_in_file.findings == ()
    assert found(model, "FAN202") != ()
