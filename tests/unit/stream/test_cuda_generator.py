"""The key that a CUDA generator stands for, told from its state alone."""

from __future__ import annotations

import pytest
import torch

from fanin.errors import ArgumentError
from fanin.stream import Key
from fanin.stream.key import _cuda_generator_bits, state_bits


def state(seed: int, offset: int, *, before: int = 0) -> torch.Tensor:
    """As torch lays it out: seed and offset are the last 16 bytes."""
    words = torch.tensor([0] * before + [seed, offset], dtype=torch.int64)
    return words.view(torch.uint8)


def test_the_bits_are_a_key_of_seed_and_offset() -> None:
    bits, _ = state_bits(state(67280421310721, 12))
    assert bits == Key(67280421310721, "torch.Generator\0" + "12").value


def test_the_state_goes_on_by_one_number_of_torch() -> None:
    first = state(5, 8)
    bits, second = state_bits(first)
    assert second.view(torch.int64).tolist() == [5, 12]
    assert first.view(torch.int64).tolist() == [5, 8]
    assert state_bits(second)[0] != bits


@pytest.mark.parametrize("seed", [-1, -(2**63)])
def test_seeds_are_unsigned(seed: int) -> None:
    """A state holds their bits as int64."""
    bits, _ = state_bits(state(seed, 0))
    assert bits == Key(seed + 2**64, "torch.Generator\0" + "0").value


def test_longer_states_of_older_releases() -> None:
    bits, after = state_bits(state(3, 4, before=512))
    assert bits == state_bits(state(3, 4))[0]
    assert after.view(torch.int64)[-2:].tolist() == [3, 8]


def test_a_generator_that_would_repeat_its_numbers_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(ArgumentError, match="a captured CUDA graph repeats the numbers"):
        _cuda_generator_bits(torch.Generator())
