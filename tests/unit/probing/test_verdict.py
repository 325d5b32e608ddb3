"""What is said of rows with given numbers."""

from __future__ import annotations

import math

import pytest
from verdict_rows import layer, outputs, statistics

from fanin.probing import SignalRow
from fanin.probing.verdicts.growth import Growth, backward_growth, forward_growth
from fanin.probing.verdicts.verdict import verdict_of

NAN = math.nan


def gradients(*rms: float, dtype: str = "float32") -> list[SignalRow]:
    """Layers of healthy outputs with these gradients, from the first to the last."""
    return [layer(i, statistics(1.0), statistics(x, dtype=dtype)) for i, x in enumerate(rms)]


def forward(rows: list[SignalRow]) -> Growth:
    growth = forward_growth(rows)
    assert growth is not None
    return growth


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
