"""Frozen values of STREAM_VERSION 1: a changed bit is a breaking change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from fanin.geometry import Region
from fanin.stream import STREAM_VERSION, Key, laws, native, reference

MAKE = {
    "uniform": laws.uniform_law,
    "normal": laws.normal_law,
    "truncated": laws.truncated_law,
}


def lines(name: str) -> list[str]:
    text = Path(__file__).with_name(name).read_text()
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def bits_of(number: torch.Tensor) -> str:
    return bytes(number.view(torch.uint8).tolist())[::-1].hex()


@pytest.fixture(params=["reference", *native.builds()])
def engine(request: pytest.FixtureRequest, use_build):
    if request.param == "reference":
        return reference
    use_build(request.param)
    return native


def test_the_frozen_version_is_the_current_one() -> None:
    assert STREAM_VERSION == 1


def test_words(engine) -> None:
    for line in (line for line in lines("stream_v1.txt") if line.startswith("word")):
        asked, expected = line.split(" = ")
        _, purpose, key, index = asked.split()
        word = torch.empty(1, dtype=torch.int32)
        engine.bits(int(key, 16), int(purpose), int(index), word)
        assert bits_of(word) == expected, line


def test_numbers(engine) -> None:
    for line in (line for line in lines("stream_v1.txt") if not line.startswith("word")):
        asked, expected = line.split(" = ")
        name, *numbers, dtype, key, index = asked.split()
        law = MAKE[name](*map(float.fromhex, numbers), getattr(torch, dtype))
        number = torch.empty(1, dtype=law.dtype)
        one = Region((2**63 - 1,), (((int(index), int(index) + 1),),))
        engine.fill(law, int(key, 16), one, number)
        assert f"{bits_of(number)} {number.double().item().hex()}" == expected, line


def test_choices(engine) -> None:
    for line in lines("choices_v1.txt"):
        asked, expected = line.split(" = ")
        key, first_slice, length, k = asked.split()
        places = torch.empty(1, int(k), dtype=torch.int64)
        engine.choose(int(key, 16), int(first_slice), int(length), places)
        assert places[0].tolist() == [int(place) for place in expected.split()], line


def test_keys() -> None:
    for line in lines("keys.txt"):
        seed, rest = line.split(" ", 1)
        name, value = rest.rsplit(" ", 1)
        assert f"{Key(int(seed), json.loads(name)).value:016x}" == value, line
