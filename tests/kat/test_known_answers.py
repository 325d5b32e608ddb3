"""Random123's published answers: on the reference directly, on the native engine by equality."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fanin import stream
from fanin.stream import Key, native, reference
from fanin.stream.philox import philox4x32

LINES = Path(__file__).with_name("philox4x32_10.txt").read_text().splitlines()
VECTORS = [line.split() for line in LINES if not line.startswith("#")]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector[0])
def test_reference_gives_the_published_words(vector: list[str]) -> None:
    numbers = [int(word, 16) for word in vector]
    counter, key, expected = numbers[:4], numbers[4:6], numbers[6:]
    c0, c1, c2, c3 = (torch.tensor(word) for word in counter)
    assert [int(word) for word in philox4x32((c0, c1, c2, c3), (key[0], key[1]))] == expected


def test_zero_counter_and_key_through_the_stream() -> None:
    """Block 0 of key 0 has the zero counter; its four words are elements 0, 16, 32 and 48."""
    expected = [int(word, 16) for word in VECTORS[0][6:]]
    assert stream.bits(Key.from_bits(0), 0, 64)[::16].tolist() == expected


# The stream's third counter word is 0, so the other two vectors cannot be reached through it;
# their keys and the low half of their counters can.
@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector[0])
@pytest.mark.parametrize("purpose", [0, 1, 2, 0xFFFFFFFF])
def test_native_equals_the_reference_at_the_vectors(vector: list[str], purpose: int) -> None:
    key = int(vector[5] + vector[4], 16)
    block = int(vector[1] + vector[0], 16) >> 5  # index 4 * block has to stay below 2**63
    start = 64 * (block // 16)
    words = torch.empty(2, 256, dtype=torch.int32)
    native.bits(key, purpose, start, words[0])
    reference.bits(key, purpose, start, words[1])
    assert torch.equal(words[0], words[1])
