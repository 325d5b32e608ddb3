"""What is said of real networks: verdicts of models that were probed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from verdict_rows import outputs

from fanin.probing import probe
from fanin.probing.verdicts.verdict import Verdict, verdict_of
from fanin.zoo import MODELS


@pytest.fixture(autouse=True)
def _one_thread(use_threads: Callable[[int], None]) -> None:
    """Layers this small gain nothing from a second one and wait for it on a busy machine."""
    use_threads(1)


def stack(
    depth: int, width: int, std: float | None, activation: type[nn.Module] | None = None
) -> nn.Sequential:
    """Linear layers with this std, or torch's own, and an activation between each two."""
    layers: list[nn.Module] = []
    for i in range(depth):
        linear = nn.Linear(width, width, bias=False)
        if std is not None:
            nn.init.normal_(linear.weight, 0.0, std)
        layers += [linear, *([activation()] if activation is not None and i < depth - 1 else [])]
    return nn.Sequential(*layers)


def judged(model: nn.Module, *, width: int = 256) -> Verdict:
    return probe(model, torch.randn(16, width)).verdict


@pytest.mark.parametrize(("width", "seed"), [(64, 0), (64, 1), (64, 2), (64, 3), (256, 0)])
def test_a_hundred_linear_layers_that_keep_the_scale_are_healthy(width: int, seed: int) -> None:
    torch.manual_seed(seed)
    verdict = judged(stack(100, width, width**-0.5), width=width)
    assert verdict.is_healthy, verdict


def test_a_hundred_linear_layers_of_unit_normal_weights() -> None:
    torch.manual_seed(0)
    verdict = judged(stack(100, 256, 1.0))
    assert verdict.forward is not None
    assert verdict.forward.factor == pytest.approx(16, rel=0.02)
    assert verdict.forward.limit == verdict.forward.happened == 31
    assert "float32 overflows at layer 31" in verdict.lines[0]
    assert "std 0.0625 = 1/sqrt(256): recipe 'lecun'" in verdict.suggestion


@pytest.mark.parametrize(
    ("depth", "std", "activation", "kind"),
    [
        (10, 1.0, None, "explodes"),
        (10, 1.0, nn.ReLU, "explodes"),
        (30, None, nn.ReLU, "vanishes"),
        (20, None, nn.GELU, "vanishes"),
        (20, 0.02, nn.SELU, "vanishes"),
        (10, 1.0, nn.Tanh, "saturated"),
        (10, 0.01, nn.Tanh, "vanishes"),
    ],
)
def test_the_suggested_std_heals(
    depth: int, std: float | None, activation: type[nn.Module] | None, kind: str
) -> None:
    torch.manual_seed(0)
    verdict = judged(stack(depth, 256, std, activation))
    assert verdict.kind == kind
    found = re.search(r"Use std ([\d.]+) =", verdict.suggestion)
    assert found is not None
    healed = judged(stack(depth, 256, float(found[1]), activation))
    assert healed.is_healthy, healed


def test_torch_defaults_vanish_backward_although_biases_keep_the_outputs_up() -> None:
    torch.manual_seed(0)
    layers = [module for _ in range(20) for module in (nn.Linear(256, 256), nn.ReLU())]
    verdict = judged(nn.Sequential(*layers))
    assert verdict.kind == "vanishes"
    assert verdict.lines[0].startswith("gradients vanish: ×0.4")
    assert "recipe 'kaiming'" in verdict.suggestion


def test_a_sigmoid_is_told_from_its_weights() -> None:
    torch.manual_seed(0)
    verdict = judged(stack(20, 256, 1 / 16, nn.Sigmoid))
    assert verdict.lines[0].startswith("gradients vanish: ×0.2")
    assert "put tanh or relu" in verdict.suggestion


def test_saturated_tanh_is_told_with_its_share_and_place() -> None:
    torch.manual_seed(0)
    verdict = judged(stack(10, 256, 1.0, nn.Tanh))
    line = r"tanh saturated: 8\d % within 1 % of ±1 from layer 0 \('0'\) on"
    assert re.fullmatch(line, verdict.lines[0])


def test_dead_units_are_told_with_their_share_and_place() -> None:
    torch.manual_seed(0)
    model = stack(10, 256, math.sqrt(2) / 16, nn.ReLU)
    model[6].bias = nn.Parameter(torch.full((256,), -2.0))
    verdict = judged(model)
    assert verdict.kind == "dead"
    assert re.match(r"dead units: 9\d % zeros at layer 3 \('6'\)", verdict.lines[0])


def _constant(weight: Tensor) -> None:
    nn.init.constant_(weight, 1 / 256)


def _mean_for_std(weight: Tensor) -> None:
    nn.init.normal_(weight, 0.1)


@pytest.mark.parametrize(
    ("fill", "kind", "words"),
    [
        (_constant, "symmetric", "draw the weights"),
        (_mean_for_std, "explodes", "normal_(w, 0.1) sets the mean; write normal_(w, std=0.1)"),
        (nn.init.zeros_, "symmetric", "draw the weights"),
    ],
)
def test_slips(fill: Callable[[Tensor], object], kind: str, words: str) -> None:
    torch.manual_seed(0)
    model = stack(20, 256, None)
    for parameter in model.parameters():
        fill(parameter)
    verdict = judged(model)
    assert verdict.kind == kind
    assert words in verdict.suggestion


@pytest.mark.parametrize(
    ("zeros", "kind"),
    [((0, 1, 2, 3), "symmetric"), ((0, 2, 3), "symmetric"), ((1, 3), "healthy"), ((3,), "healthy")],
)
def test_one_layer_of_zeros_is_a_way_to_begin_and_most_of_them_are_not(
    zeros: tuple[int, ...], kind: str
) -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(16, 16) for _ in range(4)]  # with biases that torch draws
    for i in zeros:
        nn.init.zeros_(layers[i].weight)
    verdict = probe(nn.Sequential(*layers), torch.randn(8, 16)).verdict
    assert verdict.kind == kind


def small_convnet() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(1024, 64), nn.ReLU(), nn.Linear(64, 10)),
    )


@pytest.mark.parametrize("seed", range(3))
def test_small_nets_that_train_are_healthy(seed: int) -> None:
    torch.manual_seed(seed)
    lenet = probe(MODELS["lenet"](), torch.randn(8, 1, 28, 28)).verdict
    assert lenet.is_healthy, lenet
    labels = torch.randint(0, 10, (8,))
    made = probe(
        small_convnet(),
        torch.randn(8, 3, 32, 32),
        loss=lambda scores: nn.functional.cross_entropy(scores, labels),
    )
    assert made.verdict.is_healthy, made.verdict


def test_layers_too_few_for_a_trend_are_judged_by_their_ends() -> None:
    torch.manual_seed(0)
    verdict = judged(stack(3, 256, 10.0))
    assert verdict.kind == "explodes"
    assert verdict.lines[0].startswith("explodes: outputs ×2.")
    assert "Use std 0.0625" in verdict.suggestion
    assert judged(stack(3, 256, 1e-5)).kind == "vanishes"
    assert verdict_of(
        outputs(1.0, 1.0, 1e-9)
    ).is_healthy  # a last layer near zero is a way to begin


def test_a_loss_that_is_not_finite() -> None:
    torch.manual_seed(0)
    model, x = stack(5, 64, 1 / 8), torch.randn(4, 64)
    verdict = probe(model, x, loss=lambda y: (y.mean() - 1e9).log()).verdict
    assert verdict.lines == ("not finite: the loss is nan, and the outputs are finite",)


def rectified(depth: int, width: int = 256) -> nn.Sequential:
    return stack(depth, width, math.sqrt(2 / width), nn.ReLU)


def test_gradients_that_end_at_a_layer_of_zeros() -> None:
    torch.manual_seed(0)
    model = rectified(10)
    model[8] = nn.Linear(256, 256)
    nn.init.zeros_(model[8].weight)
    verdict = judged(model)
    assert verdict.lines == ("gradients are exactly 0 below layer 4 ('8')",)
    assert verdict.suggestion == "'8.weight' is 0 throughout: draw it."
    last = rectified(10)
    nn.init.zeros_(last[18].weight)
    assert judged(last).is_healthy  # a way to begin


@pytest.mark.parametrize(("std", "kind"), [(1e4, "explodes"), (1e-9, "vanishes")])
def test_one_bad_layer_is_no_trend(std: float, kind: str) -> None:
    torch.manual_seed(0)
    model = rectified(20)
    nn.init.normal_(model[16].weight, std=std)
    verdict = judged(model)
    assert verdict.kind == kind
    assert len(verdict.lines) == 2  # the gradients' jump has the same cause
    assert re.match(rf"{kind}: ×1\.\de.0\d at layer 8 \('16'\) alone, ×", verdict.lines[0])
    assert verdict.suggestion.startswith("'16.weight' has std ")
    assert "Use std 0.0884 = sqrt(2/256)" in verdict.suggestion


def constant(module: nn.Module, *, trained: bool = True) -> nn.Module:
    for parameter in module.parameters():
        nn.init.constant_(parameter, 1 / 9).requires_grad_(trained)
    return module


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = constant(nn.LSTM(8, 16)), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0])


@pytest.mark.parametrize(
    ("model", "shape", "symmetric"),
    [
        (nn.Linear(1, 1), (4, 1), False),
        (constant(nn.Linear(8, 1)), (4, 8), False),
        (constant(nn.Conv2d(8, 8, 3, groups=8)), (2, 8, 6, 6), False),
        (constant(nn.Conv2d(8, 8, 3), trained=False), (2, 8, 6, 6), False),
        (nn.Sequential(nn.Linear(8, 1), nn.Linear(1, 1), nn.Linear(1, 8)), (4, 8), False),
        (constant(nn.Conv2d(8, 8, 3, groups=4)), (2, 8, 6, 6), True),
        (constant(nn.ConvTranspose2d(4, 8, 3)), (2, 4, 6, 6), True),
        (Recurrent(), (5, 2, 8), True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_units_are_equal_where_trained_weights_of_several_are(
    model: nn.Module, shape: tuple[int, ...], symmetric: bool
) -> None:
    assert (probe(model, torch.randn(*shape)).verdict.kind == "symmetric") is symmetric


class Root(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.sqrt(self.a(x)))


def test_nan_that_no_module_makes_is_placed_between_two() -> None:
    torch.manual_seed(0)
    verdict = probe(Root(), torch.randn(4, 8)).verdict
    assert verdict.kind == "not finite"
    assert verdict.suggestion.startswith("It is made between 'a' and 'b': look there for")


class Logarithm(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.log()


def test_where_nan_comes_from() -> None:
    torch.manual_seed(0)
    made = judged(nn.Sequential(nn.Linear(256, 256), Logarithm(), nn.Linear(256, 2)))
    assert "'1' after layer 0 gives" in made.lines[0]
    assert "logarithm" in made.suggestion
    given = probe(stack(3, 8, None), torch.full((4, 8), math.nan)).verdict
    assert "look at the data" in given.suggestion


def test_layers_of_known_fans_are_asked_and_others_are_not() -> None:
    torch.manual_seed(0)
    convolutions = nn.Sequential(*(nn.Conv2d(8, 8, 3, padding=1) for _ in range(20)))
    for layer in convolutions:
        nn.init.normal_(layer.weight)
    verdict = probe(convolutions, torch.randn(2, 8, 6, 6)).verdict
    assert "Use std 0.118 = 1/sqrt(72)" in verdict.suggestion
    assert verdict_of(outputs(*(16.0**i for i in range(9)))).suggestion.startswith("Put a norm")
