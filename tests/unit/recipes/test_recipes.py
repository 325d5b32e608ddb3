from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

import fanin
from fanin.fills import Constant, Fill, Normal, Packed, TruncNormal, Uniform

# One of every kind of torch module that holds parameters.
MODULES: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(5, 3),
    "bilinear": lambda: nn.Bilinear(2, 3, 4),
    "conv1d": lambda: nn.Conv1d(4, 6, 3),
    "conv2d": lambda: nn.Conv2d(4, 6, 3, groups=2),
    "conv3d": lambda: nn.Conv3d(4, 6, 3),
    "conv_transpose1d": lambda: nn.ConvTranspose1d(4, 6, 3),
    "conv_transpose2d": lambda: nn.ConvTranspose2d(4, 6, 3, groups=2),
    "conv_transpose3d": lambda: nn.ConvTranspose3d(4, 6, 3),
    "embedding": lambda: nn.Embedding(5, 4, padding_idx=0),
    "embedding_bag": lambda: nn.EmbeddingBag(5, 4),
    "batch_norm": lambda: nn.BatchNorm1d(4),
    "sync_batch_norm": lambda: nn.SyncBatchNorm(4),
    "instance_norm": lambda: nn.InstanceNorm2d(4, affine=True),
    "layer_norm": lambda: nn.LayerNorm(4),
    "group_norm": lambda: nn.GroupNorm(2, 4),
    "rms_norm": lambda: nn.RMSNorm(4),
    "prelu": lambda: nn.PReLU(4),
    "rnn": lambda: nn.RNN(3, 4, num_layers=2),
    "lstm": lambda: nn.LSTM(3, 4, bidirectional=True, proj_size=2),
    "gru": lambda: nn.GRU(3, 4),
    "rnn_cell": lambda: nn.RNNCell(3, 4),
    "lstm_cell": lambda: nn.LSTMCell(3, 4),
    "gru_cell": lambda: nn.GRUCell(3, 4),
    "attention": lambda: nn.MultiheadAttention(8, 2, add_bias_kv=True),
    "cross_attention": lambda: nn.MultiheadAttention(8, 2, kdim=4, vdim=6),
    "transformer": lambda: nn.Transformer(8, 2, 1, 1, 16, batch_first=True),
    "adaptive_softmax": lambda: nn.AdaptiveLogSoftmaxWithLoss(32, 9, [3, 6]),
}


# Those for any model; the others are for one architecture and refuse what they do not know.
GENERAL = (
    "dcgan",
    "kaiming",
    "lecun",
    "lecun(distribution=truncated_normal)",
    "orthogonal(nonlinearity=tanh)",
    "resnet",
    "siren",
    "torch_default",
    "vgg",
    "xavier",
)


def fills(model: nn.Module, recipe: str) -> dict[str, Fill | None]:
    """The fill of each parameter; of a packed one that of its parts, which is the same here."""
    found: dict[str, Fill | None] = {}
    for step in fanin.plan(model, recipe, seed=0).steps:
        found[step.name] = step.fill
        if isinstance(step.fill, Packed):
            (found[step.name],) = {part.fill for part in step.fill.parts}
    return found


@pytest.mark.parametrize("recipe", GENERAL)
@pytest.mark.parametrize("module", MODULES)
def test_every_recipe_covers_every_torch_module(module: str, recipe: str) -> None:
    model = MODULES[module]()
    plan = fanin.initialize(model, recipe, seed=0)
    assert all(step.fill for step in plan.steps)
    assert all(p.isfinite().all() for p in model.parameters())


def test_no_torch_module_that_resets_parameters_is_missing_above() -> None:
    above = {type(m) for build in MODULES.values() for m in build().modules()}
    kinds = [k for k in vars(nn).values() if isinstance(k, type) and issubclass(k, nn.Module)]
    missing = {
        kind.__name__
        for kind in kinds
        if (hasattr(kind, "reset_parameters") or hasattr(kind, "_reset_parameters"))
        and kind not in above
        and not kind.__name__.startswith("Lazy")
    }
    # Other dims of the same norms, and base classes.
    same = {"BatchNorm2d", "BatchNorm3d", "InstanceNorm1d", "InstanceNorm3d"}
    assert missing == same | {"RNNBase", "RNNCellBase"}


@pytest.mark.parametrize(
    ("module", "name", "std"),
    [
        ("linear", "weight", math.sqrt(2 / 5)),
        ("conv2d", "weight", math.sqrt(2 / 18)),
        ("conv_transpose2d", "weight", math.sqrt(2 / 18)),
        ("bilinear", "weight", math.sqrt(2 / 6)),
        ("lstm", "weight_ih_l0", math.sqrt(1 / 3)),
        ("attention", "in_proj_weight", math.sqrt(1 / 8)),
        ("attention", "out_proj.weight", math.sqrt(1 / 8)),
        ("attention", "bias_k", math.sqrt(1 / 8)),
        ("embedding", "weight", 1.0),
    ],
)
def test_kaiming_is_normal_with_the_modules_own_fan(module: str, name: str, std: float) -> None:
    fill = fills(MODULES[module](), "kaiming")[name]
    assert isinstance(fill, Normal)
    assert fill.std == pytest.approx(std, rel=1e-9)


@pytest.mark.parametrize(
    ("module", "name", "fans"),
    [
        ("linear", "weight", 5 + 3),
        ("conv2d", "weight", 18 + 27),
        ("lstm", "weight_ih_l0", 3 + 4),
        ("attention", "in_proj_weight", 8 + 8),
        ("cross_attention", "v_proj_weight", 6 + 8),
    ],
)
def test_xavier_is_uniform_with_the_modules_own_fans(module: str, name: str, fans: int) -> None:
    fill = fills(MODULES[module](), "xavier")[name]
    assert isinstance(fill, Uniform)
    assert fill.high == pytest.approx(math.sqrt(6 / fans), rel=1e-9)
    assert fill.low == -fill.high


@pytest.mark.parametrize("recipe", ["kaiming", "lecun", "orthogonal", "xavier"])
@pytest.mark.parametrize("module", MODULES)
def test_biases_start_at_zero_and_scales_at_one(module: str, recipe: str) -> None:
    model = MODULES[module]()
    for name, fill in fills(model, recipe).items():
        if "bias" in name and name not in ("bias_k", "bias_v"):
            assert fill == Constant(0.0)
        if "norm" in name and name.endswith("weight"):
            assert fill == Constant(1.0)


@pytest.mark.parametrize(
    ("module", "name", "fan_in"),
    [
        ("linear", "weight", 5),
        ("conv2d", "weight", 18),
        ("lstm", "weight_ih_l0", 3),
        ("attention", "in_proj_weight", 8),
    ],
)
def test_lecun_has_a_gain_of_one(module: str, name: str, fan_in: int) -> None:
    fill = fills(MODULES[module](), "lecun")[name]
    assert isinstance(fill, Normal)
    assert fill.std == pytest.approx(1 / math.sqrt(fan_in), rel=1e-9)


def test_truncated_lecun_is_what_flax_starts_from() -> None:
    """There the normal before is widened by the std that a cut at ±2σ leaves, 0.87962566."""
    fill = fills(nn.Linear(100, 3), "lecun(distribution=truncated_normal)")["weight"]
    assert isinstance(fill, TruncNormal)
    assert fill.parent_std == pytest.approx(0.1 / 0.87962566103423978, rel=1e-9)
    assert fill.high == -fill.low == pytest.approx(2 * fill.parent_std, rel=1e-9)


@pytest.mark.parametrize(
    ("module", "name", "gain"),
    [
        ("linear", "weight", math.sqrt(2)),
        ("conv2d", "weight", math.sqrt(2)),
        ("gru", "weight_ih_l0", 1.0),
        ("attention", "in_proj_weight", 1.0),
        ("attention", "out_proj.weight", 1.0),
    ],
)
def test_orthogonal_has_the_gain_of_what_follows(module: str, name: str, gain: float) -> None:
    """Every matrix of the parameter: each gate, each of q, k and v, each group of channels."""
    model = MODULES[module]()
    fanin.initialize(model, "orthogonal(nonlinearity=relu)", seed=0)
    weight = model.get_parameter(name)
    num_matrices = {"gru": 3, "conv2d": 2}.get(module, 3 if name.startswith("in_proj") else 1)
    for matrix in weight.flatten(1).chunk(num_matrices):
        short = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
        torch.testing.assert_close(short @ short.T, gain**2 * torch.eye(short.shape[0]))


def test_a_kaiming_relu_network_keeps_its_scale() -> None:
    """Pain 26: torch's default sends the same network to 2e-20."""
    model = nn.Sequential(*(m for _ in range(50) for m in (nn.Linear(512, 512), nn.ReLU())))
    x = torch.randn(64, 512, generator=torch.Generator().manual_seed(0))
    fanin.initialize(model, "kaiming", seed=0)
    assert 0.1 < model(x).square().mean().sqrt() < 10
    fanin.initialize(model, "torch_default", seed=0)
    assert model[:-1](x).std(dim=0).mean() < 1e-6
