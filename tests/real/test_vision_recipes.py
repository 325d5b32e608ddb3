"""Recipes of vision and signal models against the procedures that their authors publish.

torchvision's, the DCGAN tutorial's and SIREN's procedures are followed by hand with
`torch.nn.init`; transformers' ResNet is the real class. Each parameter of several models is tested
(Kolmogorov-Smirnov) against the distribution that the plan states: mean, std and family in one.
With 200 parameters at most and a threshold of 1e-9 the whole file raises a false alarm once in 5e6
seeds; the seed is fixed besides.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from scipy import stats
from torch import nn
from transformers import ResNetConfig, ResNetForImageClassification

import fanin
from fanin.fills import Constant, Normal, Uniform
from fanin.planning import Step
from fanin.zoo import dcgan, resnet

P_VALUE = 1e-9
VALUES = 5_000  # of each parameter, over as many models as it takes, 20 at most


def compare(build: Callable[[], nn.Module], recipe: str) -> None:
    """What the originals hold, against the plan for one of them."""
    torch.manual_seed(0)
    first = build()
    plan = fanin.plan(first, recipe, seed=0)
    smallest = min(p.numel() for p in first.parameters())
    models = [first, *(build() for _ in range(min(VALUES // smallest, 20)))]
    for step in plan.steps:
        follows(step, torch.cat([m.get_parameter(step.name).detach().flatten() for m in models]))


def follows(step: Step, values: torch.Tensor) -> None:
    fill = step.fill
    if isinstance(fill, Constant):
        assert (values == fill.value).all(), step.name
        return
    if isinstance(fill, Uniform):
        law = stats.uniform(fill.low, fill.high - fill.low)
        assert values.abs().max() <= fill.high * (1 + 1e-6), step.name
    else:
        assert isinstance(fill, Normal), step.name
        law = stats.norm(fill.mean, fill.std)
    assert stats.kstest(values.double().numpy(), law.cdf).pvalue > P_VALUE, step.name


def torchvision_resnet(*, depth: int, groups: int = 1, zero_gamma: bool = False) -> nn.Module:
    """torchvision.models.resnet: what follows the construction of the layers."""
    model = resnet(depth=depth, width=8, groups=groups, num_classes=5)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    if zero_gamma:
        last = "bn2" if depth == 10 else "bn3"
        for name, module in model.named_modules():
            if name.endswith(last):
                nn.init.zeros_(module.weight)
    return model


@pytest.mark.parametrize("depth", [10, 14])
@pytest.mark.parametrize("zero_gamma", [False, True])
def test_resnet_is_torchvisions(depth: int, zero_gamma: bool) -> None:
    recipe = f"resnet(zero_gamma={str(zero_gamma).lower()})"
    compare(lambda: torchvision_resnet(depth=depth, zero_gamma=zero_gamma), recipe)


def test_resnext_counts_the_outputs_of_all_groups_as_torch_does() -> None:
    compare(lambda: torchvision_resnet(depth=14, groups=4), "resnet")


def transformers_resnet(layer_type: str) -> nn.Module:
    return ResNetForImageClassification(
        ResNetConfig(
            embedding_size=8,
            hidden_sizes=[16, 32],
            depths=[2, 1],
            layer_type=layer_type,
            num_labels=5,
        )
    )


@pytest.mark.parametrize("layer_type", ["basic", "bottleneck"])
def test_resnet_is_that_of_transformers(layer_type: str) -> None:
    compare(lambda: transformers_resnet(layer_type), "resnet")


@pytest.mark.parametrize(
    "build",
    [
        lambda: resnet(depth=18, width=4),
        lambda: resnet(depth=50, width=4),
        lambda: transformers_resnet("basic"),
        lambda: transformers_resnet("bottleneck"),
    ],
)
def test_zero_gamma_makes_every_block_the_identity(build: Callable[[], nn.Module]) -> None:
    """Behind a ReLU a block without a projection hands on what it gets, bit for bit."""
    model = build().eval()
    fanin.initialize(model, "resnet(zero_gamma=true)", seed=0)
    names = ("BasicBlock", "Bottleneck", "ResNetBasicLayer", "ResNetBottleNeckLayer")
    blocks = [module for module in model.modules() if type(module).__name__ in names]
    identities = [block for block in blocks if not has_projection(block)]
    assert identities
    for block in blocks:
        norms = [module for module in block.modules() if isinstance(module, nn.BatchNorm2d)]
        assert sum(not norm.weight.any() for norm in norms) == 1
    for block in identities:
        convolution = next(module for module in block.modules() if isinstance(module, nn.Conv2d))
        x = torch.rand(1, convolution.in_channels, 4, 4)
        assert torch.equal(block(x), x)


def has_projection(block: nn.Module) -> bool:
    return any(name.startswith(("downsample", "shortcut")) for name, _ in block.named_parameters())


def torchvision_vgg() -> nn.Module:
    """torchvision.models.vgg: a piece with each kind of layer, and its procedure."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.Flatten(),
        nn.Linear(64, 32),
        nn.Linear(32, 5),
    )
    for module in model:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
        if hasattr(module, "bias"):
            nn.init.zeros_(module.bias)
    return model


def test_vgg_is_torchvisions() -> None:
    compare(torchvision_vgg, "vgg")


def tutorial_dcgan() -> nn.Module:
    """The procedure of PyTorch's DCGAN tutorial: by the names of classes."""
    model = dcgan(latent=16, width=8)
    for module in model.modules():
        if "Conv" in type(module).__name__:
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif "BatchNorm" in type(module).__name__:
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)
    return model


def test_dcgan_is_the_tutorials() -> None:
    compare(tutorial_dcgan, "dcgan")


def authors_siren(omega: float) -> nn.Module:
    """The authors' two passes: every linear layer as a hidden one, then the first anew."""
    model = nn.Sequential(nn.Linear(2, 32), nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 3))
    with torch.no_grad():
        for layer in model:
            num_input = layer.weight.size(-1)
            bound = math.sqrt(6 / num_input) / omega
            layer.weight.uniform_(-bound, bound)
        model[0].weight.uniform_(-1 / 2, 1 / 2)
    return model


@pytest.mark.parametrize("omega", [30.0, 7.0])
def test_siren_is_the_authors(omega: float) -> None:
    compare(lambda: authors_siren(omega), f"siren(omega={omega})")


def test_the_phases_of_siren_stay_standard_normal_in_depth() -> None:
    """Theorem 1.8 of the paper: what enters every sine but the first is nearly N(0, 1)."""
    torch.manual_seed(0)
    layers = nn.ModuleList([nn.Linear(1, 1024), *(nn.Linear(1024, 1024) for _ in range(6))])
    fanin.initialize(layers, "siren", seed=0)
    x = torch.linspace(-1, 1, 64)[:, None]
    for layer in layers[:-1]:
        x = torch.sin(30.0 * layer(x))
    phases = 30.0 * (x @ layers[-1].weight.T).detach()
    assert phases.std().item() == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("build", [lambda: nn.Linear(3, 4), lambda: nn.Conv2d(2, 4, 2)])
def test_orthogonal_is_torchs(build: Callable[[], nn.Module]) -> None:
    """One entry of many matrices, against those of `nn.init.orthogonal_`: two samples, KS."""
    torch.manual_seed(0)
    layers = nn.ModuleList(build() for _ in range(400))
    fanin.initialize(layers, "orthogonal", seed=0)
    ours = [layer.weight.detach()[1, 1].flatten()[0].item() for layer in layers]
    for layer in layers:
        nn.init.orthogonal_(layer.weight)
    theirs = [layer.weight.detach()[1, 1].flatten()[0].item() for layer in layers]
    assert stats.ks_2samp(theirs, ours).pvalue > P_VALUE
