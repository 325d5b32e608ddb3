from __future__ import annotations

import math
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fanin.probing import SignalRow, Statistics, probe
from fanin.probing.verdicts.growth import Growth, backward_growth, forward_growth
from fanin.probing.verdicts.verdict import Verdict, verdict_of
from fanin.zoo import MODELS

NAN = math.nan


@pytest.fixture(autouse=True)
def _one_thread(use_threads: Callable[[int], None]) -> None:
    """Layers this small gain nothing from a second one and wait for it on a busy machine."""
    use_threads(1)


def statistics(rms: float, *, dtype: str = "float32", nans: int = 0, infs: int = 0) -> Statistics:
    return Statistics((8, 64), dtype, 0.0, rms, rms, 4 * rms, 0.0, nans=nans, infs=infs)


def layer(i: int, output: Statistics, gradient: Statistics | None = None) -> SignalRow:
    return SignalRow(i, f"layer{i}", "Linear", 0, i + 1, True, output, gradient)


def outputs(*rms: float, dtype: str = "float32") -> list[SignalRow]:
    """Layers with these rms; those with NaN are not finite."""
    found = [
        statistics(0.0, nans=512, dtype=dtype) if math.isnan(x) else statistics(x, dtype=dtype)
        for x in rms
    ]
    return [layer(i, each) for i, each in enumerate(found)]


def gradients(*rms: float, dtype: str = "float32") -> list[SignalRow]:
    """Layers of healthy outputs with these gradients, from the first to the last."""
    return [layer(i, statistics(1.0), statistics(x, dtype=dtype)) for i, x in enumerate(rms)]


def forward(rows: list[SignalRow]) -> Growth:
    growth = forward_growth(rows)
    assert growth is not None
    return growth


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


# Where a dtype ends


@pytest.mark.parametrize(
    ("factor", "start", "dtype", "layer"),
    [
        (16.0, 16.0, "float32", 31),  # 16³² is 2¹²⁸; entries are up to four times the rms
        (20.0, 20.0, "float32", 29),
        (16.0, 16.0, "bfloat16", 31),
        (16.0, 16.0, "float16", 3),
        (16.0, 16.0, "float64", 255),
        (0.5, 0.5, "float32", 149),  # 2⁻¹⁵⁰ is half of the least number, 2⁻¹⁴⁹, and rounds to 0
        (0.5, 0.5, "float16", 24),
        (0.5, 0.5, "bfloat16", 133),
    ],
)
def test_the_layer_at_which_a_dtype_ends(
    factor: float, start: float, dtype: str, layer: int
) -> None:
    growth = forward(outputs(*(start * factor**i for i in range(4)), dtype=dtype))
    assert growth.factor == pytest.approx(factor)
    assert growth.limit == layer


def test_blocks_and_odd_ends_do_not_bend_the_fit() -> None:
    block = [1.0, 0.3, 5.0, 0.8]
    rows = outputs(1e-3, *(block * 12), 50.0)
    assert forward(rows).factor == pytest.approx(1.0, abs=0.01)
    assert verdict_of(rows).is_healthy


def test_the_fit_of_many_layers_takes_some_of_them() -> None:
    growth = forward(outputs(*(0.99**i for i in range(3000))))
    assert growth.factor == pytest.approx(0.99)
    assert (growth.first, growth.last) == (0, 2999)


def test_gradients_are_walked_from_the_last_layer() -> None:
    growth = backward_growth(gradients(*(0.5 ** (20 - i) for i in range(20))))
    assert growth is not None
    assert growth.factor == pytest.approx(0.5)
    assert growth.start > growth.end


# What is said


def test_what_happened_and_what_the_factor_says_when_they_agree() -> None:
    verdict = verdict_of(outputs(*(16.0**i for i in range(1, 32)), NAN, NAN))
    assert verdict.lines[0] == "explodes: ×16 a layer, float32 overflows at layer 31"
    assert verdict.lines[1].startswith("outputs: rms 16 at layer 0 ('layer0'), ")
    assert "layer 31 ('layer31') gives 512 NaN" in verdict.lines[2]


def test_what_happened_and_what_the_factor_says_when_they_differ() -> None:
    verdict = verdict_of(outputs(*(16.0**i for i in range(1, 20)), NAN))
    assert verdict.lines[0] == (
        "explodes: ×16 a layer, float32 overflows at layer 19 (by the factor alone at 31)"
    )


def test_a_growth_that_ends_before_the_dtype_does() -> None:
    rms = [2.0**i for i in range(100)]
    assert verdict_of(outputs(*rms)).lines[0].endswith("float32 would overflow at layer 126")
    flat = verdict_of(outputs(*rms, *rms[-1:] * 30))
    assert flat.lines[0].endswith("at layer 126 by the factor alone, and does not")


def test_underflow() -> None:
    verdict = verdict_of(outputs(*(0.01**i for i in range(1, 23)), 0.0, 0.0))
    assert verdict.kind == "vanishes"
    assert verdict.lines[0] == "vanishes: ×0.010 a layer, float32 underflows at layer 22"


def test_nan_that_no_trend_explains_is_named_with_its_input() -> None:
    rows = outputs(1.0, 1.1, 0.9, 1.0)
    norm = SignalRow(
        4, "norm", "LayerNorm", 0, 4, False, statistics(0, nans=7), None, rows[3].output
    )
    verdict = verdict_of([*rows, norm])
    assert verdict.kind == "not finite"
    assert verdict.lines[0] == (
        "not finite: 'norm' after layer 3 gives 7 NaN among 512 from finite input "
        "(rms 1, max 4, float32)"
    )


def test_gradients_that_a_dtype_cannot_hold_although_they_shrink_little() -> None:
    rms = [0.0, 0.0, *(1e-4 * 0.5 ** (12 - i) for i in range(12))]
    verdict = verdict_of(gradients(*rms, dtype="float16"))
    assert verdict.kind == "vanishes"
    assert "float16 underflows at layer 1" in verdict.lines[0]
    assert "GradScaler" in verdict.suggestion


def test_gradients_that_are_not_finite_all_at_once() -> None:
    rows = [layer(i, statistics(1.0), statistics(1.0, nans=3 * (i < 2))) for i in range(6)]
    verdict = verdict_of(rows)
    assert verdict.lines == (
        "gradients not finite: 3 NaN among 512 at layer 1 ('layer1') and before it",
    )


@pytest.mark.parametrize("count", [0, 1, 3])
def test_few_layers_have_no_trend(count: int) -> None:
    verdict = verdict_of(outputs(*[1.0, 10.0, 100.0][:count]))
    assert verdict.is_healthy
    assert "too shallow to tell a trend" in verdict.lines[0]


def test_a_last_layer_of_zeros_is_healthy_and_two_are_not() -> None:
    assert verdict_of(outputs(1.0, 1.0, 1.0, 1.0, 0.0)).is_healthy
    assert verdict_of(outputs(1.0, 1.0, 1.0, 0.0, 0.0)).kind == "vanishes"


# Nets


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
