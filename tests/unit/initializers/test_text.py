from __future__ import annotations

import contextlib
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanin.errors import ArgumentError, UnknownNameError
from fanin.gains import nonlinearities
from fanin.geometry import MODES
from fanin.initializers import (
    Initializer,
    constant,
    dirac,
    eye,
    kaiming_normal,
    kaiming_uniform,
    lecun_normal,
    normal,
    ones,
    orthogonal,
    parse,
    sparse,
    trunc_normal,
    uniform,
    variance_scaling,
    xavier_normal,
    zeros,
)

numbers = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(0, 1e300)
modes = st.sampled_from(MODES)
names = st.sampled_from([n for n, p in nonlinearities().items() if None not in p.values()])
smooth = st.sampled_from(["gelu", "relu", "tanh", "silu"])
bounds = st.tuples(st.floats(-12, 0) | st.just(-math.inf), st.floats(0.1, 12) | st.just(math.inf))

initializers = st.one_of(
    st.builds(constant, numbers),
    st.sampled_from([ones(), zeros(), lecun_normal()]),
    st.builds(lambda a, b: uniform(low=min(a, b), high=max(a, b)), numbers, numbers),
    st.builds(normal, mean=numbers, std=positive),
    st.builds(trunc_normal, mean=numbers, std=positive, bounds=bounds),
    st.builds(
        variance_scaling,
        positive,
        mode=modes,
        distribution=st.sampled_from(["normal", "truncated_normal", "uniform"]),
    ),
    st.builds(xavier_normal, gain=positive),
    st.builds(xavier_normal, nonlinearity=names),
    st.builds(kaiming_normal, nonlinearity=smooth, mode=modes),
    st.builds(kaiming_uniform, nonlinearity=st.just("leaky_relu"), param=st.floats(0, 10)),
    st.builds(kaiming_uniform, nonlinearity=st.just("hardtanh"), param=st.just((-2.0, 0.5))),
    st.builds(eye, gain=numbers),
    st.builds(orthogonal, gain=numbers),
    st.builds(dirac, groups=st.none() | st.integers(1, 64)),
    st.builds(sparse, st.floats(0, 1), std=positive),
)


@given(initializers)
def test_text_and_json_round_trip(initializer: Initializer) -> None:
    assert parse(str(initializer)) == initializer
    assert Initializer.from_json(json.loads(json.dumps(initializer.to_json()))) == initializer


@given(st.text(alphabet="normal(std=-1.5e,)\"' _é\n", max_size=30) | st.text(max_size=20))
def test_any_text_is_read_or_refused(text: str) -> None:
    # Any other exception than the refusal fails the test.
    with contextlib.suppress(ArgumentError):
        assert isinstance(parse(text), Initializer)


@pytest.mark.parametrize(
    ("text", "initializer"),
    [
        ("zeros", zeros()),
        ("  zeros ( ) ", zeros()),
        ("constant(0.1)", constant(0.1)),
        ("constant(-1e-3)", constant(-0.001)),
        ("uniform(-.5, high=+.5)", uniform(low=-0.5, high=0.5)),
        ("normal(std=1,)", normal()),
        ("kaiming_normal(nonlinearity='gelu')", kaiming_normal(nonlinearity="gelu")),
        ('kaiming_normal(mode="fan_out")', kaiming_normal(mode="fan_out")),
        ("dirac(groups=none)", dirac()),
        ("trunc_normal(bounds=(-3, inf))", trunc_normal(bounds=(-3.0, math.inf))),
    ],
)
def test_ways_to_write(text: str, initializer: Initializer) -> None:
    assert parse(text) == initializer


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Got 'the end' at column 1"),
        ("normal(std=1", "Got 'the end' at column 13"),
        ("normal(std=1))", r"Got '\)' at column 14"),
        ("normal(std 1)", "Got '1' at column 12"),
        ("normal(std=)", r"Got '\)' at column 12"),
        ("normal(std=$)", r"Got '\$' at column 12"),
        ("normal(std=1, 2)", "after the first named argument"),
        ("normal(std=1, std=2)", "not given before"),
        ("normal(std=0.02; import os)", "Got ';' at column 16"),
        ("normal(__import__('os'))", "Got '__import__'"),
        ("kaiming_normal(nonlinearity=<gelu>)", "Got '<' at column 29"),
        ("zeros(1)", "zeros: too many positional arguments"),
        ("constant()", "constant: missing a required argument: 'value'"),
        (
            "kaiming_normal(relu)",
            r"Write kaiming_normal\(\*, nonlinearity='relu', param=None, mode=",
        ),
        (None, "parse: text was expected. Got None"),
        ("normal(sdt=1)", "normal: the name of an argument. Got 'sdt'. Did you mean std"),
    ],
)
def test_refusals_say_where(text: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        parse(text)


def test_the_caret_is_under_the_column() -> None:
    with pytest.raises(ArgumentError, match="column 8 of\n  normal") as caught:
        parse("normal(,)")
    _, text, caret, _ = str(caught.value).splitlines()
    assert text[caret.index("^")] == ","


def test_an_unknown_name_suggests_near_ones() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean kaiming_normal"):
        parse("kaiming_nromal()")
    with pytest.raises(UnknownNameError, match="Got ''"):
        Initializer.from_json({})
