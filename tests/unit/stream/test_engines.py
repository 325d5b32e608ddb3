from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module

import pytest
import torch

from fanin import stream
from fanin.errors import ArgumentError, EngineError, UnknownNameError
from fanin.geometry import Region
from fanin.stream import Engine, Key, laws, native

module = import_module("fanin.stream.engines")  # the package's attribute is the function
KEY = Key(0, "weight")
DRAW = "from fanin import stream; print(stream.bits(stream.Key(0, 'weight'), 0, 2).tolist())\n"


def run(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("FANIN_")}
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def choose_again(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """As if nothing had been drawn yet: the choice is made anew, here and after the test."""
    caches = [module._choice, module._engine]
    for cache in caches:
        cache.cache_clear()
    monkeypatch.delenv("FANIN_ENGINE", raising=False)
    yield monkeypatch
    for cache in caches:
        cache.cache_clear()


@pytest.fixture
def without_native(choose_again: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    choose_again.setattr(native, "available", False)
    choose_again.setattr(native, "reason", "the extension module is not built (no compiler)")
    return choose_again


def test_native_is_the_default(choose_again) -> None:
    native_engine, reference_engine, _ = stream.engines()
    assert (native_engine.name, reference_engine.name) == ("native", "reference")
    assert native_engine.active
    assert native.active_build() in native_engine.why
    assert native_engine.why.endswith("the fastest engine here")
    assert str(reference_engine) == "  reference: torch operations, slow; the same bits"
    assert stream.native_is_active()


def test_the_report_marks_the_active_engine() -> None:
    assert str(Engine("native", True, "the fastest here")) == "* native: the fastest here"


@pytest.mark.parametrize("name", ["native", "reference"])
def test_an_engine_on_request(name: str, choose_again) -> None:
    choose_again.setenv("FANIN_ENGINE", name)
    active = next(engine for engine in stream.engines() if engine.active)
    assert active.name == name
    assert active.why.endswith("FANIN_ENGINE asks for it")
    assert stream.native_is_active() == (name == "native")


def test_an_unknown_engine_is_refused(choose_again) -> None:
    choose_again.setenv("FANIN_ENGINE", "natvie")
    message = "FANIN_ENGINE.* Got 'natvie'. Did you mean native. Known: native, reference"
    with pytest.raises(UnknownNameError, match=message):
        stream.bits(KEY, 0, 1)


def test_without_native_the_reference_draws_and_warns_once(without_native) -> None:
    with pytest.warns(RuntimeWarning, match="reference engine.*not built.* FANIN_ENGINE=reference"):
        stream.bits(KEY, 0, 1)
    stream.bits(KEY, 0, 1)
    assert not stream.native_is_active()


def test_without_native_the_report_says_so_and_does_not_warn(without_native) -> None:
    native_engine, reference_engine, _ = stream.engines()
    assert native_engine.why == "the extension module is not built (no compiler)"
    assert reference_engine.active


def test_without_native_the_accepted_reference_is_quiet(without_native) -> None:
    without_native.setenv("FANIN_ENGINE", "reference")
    stream.bits(KEY, 0, 1)


def test_without_native_native_on_request_is_refused(without_native) -> None:
    without_native.setenv("FANIN_ENGINE", "native")
    with pytest.raises(EngineError, match="FANIN_ENGINE=native: the extension module is not built"):
        stream.bits(KEY, 0, 1)


def test_a_process_without_the_extension_warns_and_draws_the_same_words() -> None:
    missing = run("import sys; sys.modules['fanin.stream._native'] = None\n" + DRAW + DRAW)
    expected = str(stream.bits(KEY, 0, 2).tolist())
    assert missing.stderr.count("RuntimeWarning: fanin draws with its reference engine") == 1
    assert "the extension module is not built" in missing.stderr
    assert missing.stdout.splitlines() == [expected] * 2


def test_a_process_that_asks_for_the_reference_is_quiet() -> None:
    asked = run(DRAW, FANIN_ENGINE="reference")
    assert (asked.stdout.strip(), asked.stderr) == (str(stream.bits(KEY, 0, 2).tolist()), "")


def test_a_process_that_asks_for_a_build() -> None:
    """Every machine runs the baseline; `use` is tested with the others."""
    script = "from fanin import stream; print(stream.engines()[0])"
    assert "baseline kernels; " in run(script, FANIN_ISA="baseline").stdout


def test_a_process_that_asks_for_an_unknown_build() -> None:
    refused = run(DRAW, FANIN_ISA="avx1024")
    assert refused.returncode == 1
    assert "native engine: a build that runs here. Got 'avx1024'. " in refused.stderr


def test_bits_have_the_dtype_and_shape_they_promise() -> None:
    words = stream.bits(Key(0, "weight"), 5, 7)
    assert words.dtype == torch.uint32
    assert words.shape == (7,)
    assert stream.bits(Key(0, "weight"), 5, 0).shape == (0,)


@pytest.mark.parametrize(("start", "count"), [(-1, 2), (0, -1), (2**63 - 1, 1), (2**64, 1)])
def test_bits_outside_the_stream(start: int, count: int) -> None:
    with pytest.raises(ArgumentError, match=rf"bits: .* Got start={start}, count={count}"):
        stream.bits(Key(0, "weight"), start, count)


def test_choose_picks_distinct_places_for_each_slice() -> None:
    places = stream.choose(3, 10, 50, 20, 8)
    assert places.shape == (50, 8)
    assert all(len(set(row)) == 8 and set(row) <= set(range(20)) for row in places.tolist())
    assert torch.equal(places[7], stream.choose(3, 17, 1, 20, 8)[0])


def test_an_empty_region_writes_nothing() -> None:
    law = laws.normal_law(0.0, 1.0, torch.float32)
    stream.fill(law, 0, Region.whole((0, 4)), torch.empty(0, 4))
