from __future__ import annotations

import hashlib
import threading

import numpy as np
import pytest
import torch

from fanin.errors import ArgumentError
from fanin.stream import Key
from fanin.stream.key import generator_bits


@pytest.mark.parametrize("seed", [0, 1, 2**63, 2**64 - 1])
@pytest.mark.parametrize("name", ["", "weight", "blocks.0.weight", "größe", "a\0q"])
def test_value_is_the_documented_hash(seed: int, name: str) -> None:
    seed_bytes = bytes((seed >> 8 * i) & 255 for i in range(8))
    digest = hashlib.blake2b(
        name.encode("utf-8"), digest_size=8, key=seed_bytes, person=b"fanin.v1"
    )
    assert Key(seed, name).value == int(digest.digest()[::-1].hex(), 16)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seed_outside_its_range(seed: int) -> None:
    with pytest.raises(ArgumentError, match=rf"in \[0, 2\*\*64\). Got {seed}"):
        Key(seed, "weight")


def test_part_is_the_name_with_a_zero_between() -> None:
    assert Key(3, "in_proj").part("q") == Key(3, "in_proj\0q")
    assert Key(3, "in_proj").part("q") != Key(3, "in_proj").part("k")


def test_equal_keys_are_one_in_a_set() -> None:
    assert len({Key(1, "a"), Key(1, "a"), Key(1, "b"), Key(2, "a")}) == 3
    assert Key(1, "a") != Key(1, "a").value


def test_repr_says_seed_and_name() -> None:
    assert repr(Key(5, "weight")) == "Key(seed=5, name='weight')"


def test_from_bits_is_the_value() -> None:
    assert Key.from_bits(2**64 - 1).value == 2**64 - 1


def test_from_generator_follows_manual_seed_and_advances() -> None:
    state = torch.get_rng_state()
    torch.manual_seed(11)
    first, second = Key.from_generator(), Key.from_generator()
    torch.manual_seed(11)
    assert Key.from_generator() == first
    assert Key.from_generator() == second
    torch.set_rng_state(state)
    assert first != second


def test_from_generator_leaves_torchs_own_alone_when_given_one() -> None:
    state = torch.get_rng_state()
    one, other = torch.Generator().manual_seed(4), torch.Generator().manual_seed(4)
    assert Key.from_generator(one) == Key.from_generator(other)
    assert not torch.equal(one.get_state(), torch.Generator().manual_seed(4).get_state())
    assert torch.equal(torch.get_rng_state(), state)


def test_generator_bits_use_all_64() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = [generator_bits(generator) for _ in range(128)]
    assert min(drawn) >= 0
    # A bit that is 0, or 1, in all 128: at most 2 · 64 · 2⁻¹²⁸ by chance.
    union, intersection = 0, 2**64 - 1
    for bits in drawn:
        union, intersection = union | bits, intersection & bits
    assert (union, intersection) == (2**64 - 1, 0)


def test_threads_draw_from_generators_of_their_own() -> None:
    expected = generator_bits(torch.Generator().manual_seed(9))
    seen: list[int] = []
    threads = [
        threading.Thread(
            target=lambda: seen.append(generator_bits(torch.Generator().manual_seed(9)))
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [expected] * 4


def test_a_seed_is_any_integer_and_nothing_else() -> None:
    assert Key(np.uint64(3), "w") == Key(3, "w")
    for seed in (1.5, "3", None):
        with pytest.raises(ArgumentError, match="seed: an integer"):
            Key(seed, "w")
