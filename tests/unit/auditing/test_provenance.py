"""What a weight was drawn with, and how far samples are from distributions.

Statistical tests allow 6 standard errors: a false alarm of 2e-9 each.
"""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import nn

import fanin
from fanin.auditing.chains import chains
from fanin.auditing.distances import distance, distance_limit, is_spread, two_sample_distance
from fanin.auditing.evidence import gather
from fanin.auditing.numbers import numbers_of
from fanin.auditing.provenance import (
    default_std,
    drawn_with,
    initializer_of,
    is_librarys_own,
    is_round,
    names_used,
    schemes,
    torch_fans,
)
from fanin.fills import Constant, Normal, TruncNormal, Uniform
from fanin.geometry import Fans


def sample(kind: str, count: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    torch.manual_seed(0)
    w = torch.empty(count)
    if kind == "uniform":
        nn.init.uniform_(w, -0.1, 0.1)
    elif kind == "normal":
        nn.init.normal_(w, std=0.05)
    else:
        nn.init.trunc_normal_(w, std=0.05, a=-0.1, b=0.1)
    return w.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    ("kind", "family", "std"),
    [
        ("uniform", "uniform", 0.1 / math.sqrt(3)),
        ("normal", "bell", 0.05),
        ("truncated", "bell", 0.05 * 0.87962566),
    ],
)
def test_the_std_lies_in_the_interval(
    kind: str, family: str, std: float, dtype: torch.dtype
) -> None:
    w = sample(kind, 20_000, dtype)
    drawn = drawn_with(numbers_of(w), dtype, deviations=6)
    assert drawn is not None
    assert drawn.family == family
    assert drawn.fits(std)
    assert not drawn.fits_any([0.94 * std, 1.06 * std])


def test_too_few_entries_leave_it_open() -> None:
    assert drawn_with(numbers_of(torch.randn(200)), torch.float32, deviations=6) is None
    numbers = numbers_of(torch.randn(400))
    assert drawn_with(numbers, torch.float32, deviations=6) is None
    assert drawn_with(numbers, torch.float32, deviations=6, sharpest=2) is not None
    assert drawn_with(numbers_of(torch.ones(4000)), torch.float32, deviations=6) is None


def test_round_numbers_are_a_persons_choice() -> None:
    torch.manual_seed(0)
    for std, is_one in ((0.02, True), (0.1, True), (0.0137, False)):
        numbers = numbers_of(torch.randn(20_000) * std)
        drawn = drawn_with(numbers, torch.float32, deviations=6)
        assert drawn is not None
        assert is_round(drawn) is is_one


@pytest.mark.parametrize("name", ["kaiming_normal_", "kaiming_uniform_", "xavier_uniform_"])
@pytest.mark.parametrize("shape", [(96, 64), (64, 32, 3, 3)], ids=str)
def test_torchs_functions_are_recognised(name: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    w = getattr(nn.init, name)(torch.empty(shape))
    drawn = drawn_with(numbers_of(w), torch.float32, deviations=6)
    known = schemes(torch_fans(shape))
    wanted = "xavier, gain 1" if "xavier" in name else "kaiming fan_in, gain √2"
    assert drawn is not None
    assert drawn.fits(known[wanted])


def test_a_scheme_is_an_initializer_of_the_same_std() -> None:
    layout = fanin.Layout.linear(48, 200)
    for scheme, std in schemes(layout.fans).items():
        if scheme.endswith(("gain 5/3", "xavier, gain √2")) or scheme == "torch's default":
            continue  # these are mended by the usual gain
        for family in ("uniform", "bell"):
            made = fanin.parse(initializer_of(scheme, family).replace('"', "")).resolve(layout)
            assert made.moments((48, 200))[1] == pytest.approx(std)


@pytest.mark.parametrize(
    "module",
    [
        nn.Linear(64, 96),
        nn.Conv2d(32, 64, 3, groups=2),
        nn.ConvTranspose2d(64, 32, 3),
        nn.Bilinear(30, 20, 10),
        nn.LSTM(64, 96),
        nn.GRUCell(64, 96),
        nn.Embedding(100, 64),
        nn.MultiheadAttention(64, 4),
    ],
    ids=lambda module: type(module).__name__,
)
def test_default_std_is_what_the_constructor_draws(module: nn.Module) -> None:
    weight = next(w for w in gather(module).weights if len(w.shape) > 1)
    std = default_std(weight)
    assert std is not None
    assert weight.numbers.std == pytest.approx(std, rel=6 / math.sqrt(2 * weight.numbers.count))
    assert default_std(gather(nn.LayerNorm(4)).weights[0]) is None


def test_names_used_sees_through_decorators() -> None:
    @torch.no_grad()
    def write(w: torch.Tensor) -> None:
        (lambda: nn.init.trunc_normal_(w))()

    assert "trunc_normal_" in names_used(write)
    assert names_used(None) == names_used(math.sqrt) == frozenset()
    assert not is_librarys_own(nn.Linear(2, 2), "xavier, gain 1")
    assert not is_librarys_own(None, "xavier, gain 1")


FILLS = (
    (Normal(0.1, 0.5), stats.norm(0.1, 0.5)),
    (Uniform(-1.0, 3.0), stats.uniform(-1.0, 4.0)),
    (TruncNormal(0.0, 0.5, -0.4, 1.0), stats.truncnorm(-0.8, 2.0, 0.0, 0.5)),
    (TruncNormal(0.0, 0.5, 2.5, 4.0), stats.truncnorm(5.0, 8.0, 0.0, 0.5)),
)


@pytest.mark.parametrize(("fill", "law"), FILLS, ids=lambda x: str(getattr(x, "name", "")))
def test_distance_is_that_of_scipy(fill: Normal, law: stats.rv_continuous) -> None:
    for other in (law, stats.norm(0.3, 1.0)):
        values = other.rvs(3000, random_state=0)
        ours = distance(torch.from_numpy(values), fill, torch.float64)
        assert ours == pytest.approx(stats.kstest(values, law.cdf).statistic, abs=1e-6)


def test_two_samples_as_scipy() -> None:
    a, b = stats.norm.rvs(size=900, random_state=0), stats.uniform.rvs(size=700, random_state=1)
    ours = two_sample_distance(torch.from_numpy(a), torch.from_numpy(b))
    assert ours == pytest.approx(stats.ks_2samp(a, b).statistic, abs=1e-6)


def test_the_limit_holds_for_every_size_and_is_kolmogorovs_in_the_tail() -> None:
    for count in (1, 5, 20, 1000):
        limit = distance_limit(count, 1e-3)
        assert limit >= 1 or stats.kstwo(count).sf(limit) <= 1e-3
    assert stats.kstwobign.sf(distance_limit(10**6, 1e-9) * 1e3) == pytest.approx(1e-9, rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn], ids=str)
def test_rounding_is_no_distance(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    exact = torch.rand(2**16, dtype=torch.float64) * 2 - 1
    rounded = exact.float().to(dtype).double()
    limit = distance_limit(2**16, 1e-9)
    assert distance(rounded, Uniform(-1.0, 1.0), dtype) < limit
    assert distance(rounded, Normal(0.0, 3**-0.5), dtype) > limit


def test_points_are_no_distributions() -> None:
    assert not any(map(is_spread, (Constant(1.0), Uniform(1.0, 1.0), TruncNormal(0, 0.0, -1, 1))))
    assert is_spread(Uniform(0.0, 1.0))


class Skip(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.inner(x)


class Passing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(16, 16) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x


def names(model: nn.Module) -> list[list[str]]:
    return [[link.weight.name for link in links] for links in chains(gather(model))]


def test_chains_end_where_sizes_do_not_fit() -> None:
    one = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 8))
    critics = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1), nn.Linear(6, 16))
    assert names(one) == [["0.weight", "3.weight"]]
    assert names(critics) == [["0.weight", "2.weight"], ["3.weight"]]


@pytest.mark.parametrize(
    "between",
    [
        nn.Identity(),
        nn.Dropout2d(),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(4),
        nn.ReflectionPad2d(1),
        nn.Upsample(scale_factor=2),
        nn.LeakyReLU(),
    ],
    ids=lambda module: type(module).__name__,
)
def test_what_passes_a_signal_on_is_no_end(between: nn.Module) -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 3), between, nn.Conv2d(4, 4, 3))
    assert names(model) == [["0.weight", "2.weight"]]


def test_functions_between_are_read_off_modules_and_code() -> None:
    (links,) = chains(gather(nn.Sequential(nn.Linear(9, 9), nn.Linear(9, 9), nn.ReLU())))
    assert [(link.after, link.most) for link in links] == [
        ("no function", 1.0),
        ("ReLU", pytest.approx(0.5**0.5)),
    ]
    (links,) = chains(gather(Passing()))
    assert [link.after for link in links] == ["ReLU", "ReLU", "no function"]


@pytest.mark.parametrize(
    "other",
    [Skip(), nn.LayerNorm(16), nn.LSTM(16, 16), nn.MultiheadAttention(16, 1)],
    ids=lambda module: type(module).__name__,
)
def test_what_else_there_may_be_leaves_no_chain(other: nn.Module) -> None:
    assert names(nn.Sequential(nn.Linear(16, 16), other, nn.Linear(16, 16))) == []
    assert names(nn.Sequential(nn.Linear(16, 16), nn.Sigmoid(), nn.Linear(16, 16))) == [
        ["2.weight"]
    ]


def test_torch_fans_are_torchs() -> None:
    assert torch_fans((6, 4, 3, 3)) == Fans(36, 54)
