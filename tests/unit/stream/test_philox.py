from __future__ import annotations

import torch

from fanin.stream.philox import LOW_HALVES, VALUES, philox4x32, word_pairs, words

KEY = 0x0123456789ABCDEF


def philox_by_hand(counter: list[int], key: list[int]) -> list[int]:
    """The paper's rounds in Python's integers."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        high_0, low_0 = divmod(0xD2511F53 * c0, 2**32)
        high_1, low_1 = divmod(0xCD9E8D57 * c2, 2**32)
        c0, c1, c2, c3 = high_1 ^ c1 ^ k0, low_1, high_0 ^ c3 ^ k1, low_0
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return [c0, c1, c2, c3]


def word_by_hand(key: int, index: int, purpose: int) -> int:
    block = 16 * (index // 64) + index % 16
    counter = [block % 2**32, block // 2**32, 0, purpose]
    return philox_by_hand(counter, [key % 2**32, key // 2**32])[index % 64 // 16]


def test_rounds_equal_integers_without_overflow() -> None:
    """The products wrap in int64; their bits have to be right all the same."""
    counters = [[0xFFFFFFFF] * 4, [0x80000000, 1, 0x7FFFFFFF, 0], [0xDEADBEEF, 7, 0xFFFF0001, 3]]
    for counter in counters:
        c0, c1, c2, c3 = (torch.tensor(word) for word in counter)
        got = philox4x32((c0, c1, c2, c3), (0xFFFFFFFF, 0x80000001))
        assert [int(word) for word in got] == philox_by_hand(counter, [0xFFFFFFFF, 0x80000001])


def test_words_follow_the_index_rule() -> None:
    indices = [*range(130), 2**32 + 17, 2**34 - 1, 2**34, 2**38 + 63, 2**63 - 1]
    for purpose in (VALUES, LOW_HALVES):
        got = words(KEY, torch.tensor(indices), purpose).tolist()
        assert got == [word_by_hand(KEY, index, purpose) for index in indices]


def test_a_pair_is_an_even_word_and_the_one_after() -> None:
    index = torch.arange(256)
    first, second = word_pairs(KEY, index)
    even = index & ~16
    assert torch.equal(first, words(KEY, even))
    assert torch.equal(second, words(KEY, even + 16))
