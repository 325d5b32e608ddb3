"""A statistical battery on the raw words of the stream.

39 calls of `accept`, each with a false-alarm rate of 1e-9: 4e-8 for the file.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from significance import accept, chi_square_p, correlation_p, normal_p, poisson_p

from fanin.stream import Key, bits, native
from fanin.stream.philox import LOW_HALVES

COUNT = 2**22
# Within a granule neighbours come from neighbouring blocks (1); elements 16 and 32 apart are words
# of one block; 64 apart, the same word sixteen blocks on.
LAGS = (1, 2, 16, 32, 48, 64)
NEIGHBOURS = {
    "seeds": [Key(seed, "weight") for seed in range(256)],
    "layers": [Key(0, f"blocks.{i}.attn.q.weight") for i in range(256)],
    "one letter": [Key(0, "blocks.0." + chr(33 + i)) for i in range(90)],
    "one bit of the key": [Key.from_bits(0)] + [Key.from_bits(1 << bit) for bit in range(64)],
    "high half of the key": [Key.from_bits(i << 32) for i in range(256)],
}


@pytest.fixture(scope="module", params=[Key(0, "weight"), Key.from_bits(0)], ids=["named", "zero"])
def words(request: pytest.FixtureRequest) -> np.ndarray:
    return drawn(request.param, COUNT)


def drawn(key: Key, count: int) -> np.ndarray:
    return bits(key, 0, count).numpy()


def standardised(words: np.ndarray) -> np.ndarray:
    """As uniform numbers with mean 0 and variance 1."""
    return ((words + 0.5) / 2**32 - 0.5) * math.sqrt(12)


def ones(words: np.ndarray) -> np.ndarray:
    """How many of each word's 32 bits are set."""
    of_byte = np.array([byte.bit_count() for byte in range(256)])
    return of_byte[words.view(np.uint8)].reshape(*words.shape, 4).sum(-1)


def balance(words: np.ndarray) -> np.ndarray:
    """p-values of the number of ones at each of the 32 bit positions."""
    counts = np.array([np.count_nonzero(words & np.uint32(1 << bit)) for bit in range(32)])
    return normal_p((counts - words.size / 2) / math.sqrt(words.size / 4))


def test_every_bit_is_balanced(words: np.ndarray) -> None:
    accept(balance(words), "ones at each bit")


def test_bytes_are_uniform(words: np.ndarray) -> None:
    expected = np.full(256, words.size / 256)
    columns = words.view(np.uint8).reshape(-1, 4).T
    accept(
        np.array([chi_square_p(np.bincount(c, minlength=256), expected) for c in columns]),
        "bytes",
    )


def test_words_are_uncorrelated(words: np.ndarray) -> None:
    x = standardised(words)
    accept(np.array([correlation_p(x[:-lag], x[lag:]) for lag in LAGS]), "serial correlation")


def test_pairs_fill_the_square(words: np.ndarray) -> None:
    """Top bytes of two words: 65536 cells. Disjoint pairs, so that cells are independent."""
    p = []
    for lag in LAGS:
        pairs = words[: words.size // (2 * lag) * 2 * lag].reshape(-1, 2, lag) >> 24
        cells = (pairs[:, 0] << 8 | pairs[:, 1]).ravel()
        p.append(
            chi_square_p(np.bincount(cells, minlength=65536), np.full(65536, cells.size / 65536))
        )
    accept(np.array(p), "pairs")


def test_runs(words: np.ndarray) -> None:
    """Changes of each bit from word to word; turning points of the words (Bienaymé 1874)."""
    accept(balance(words[1:] ^ words[:-1]), "changes of each bit")
    up = words[1:] > words[:-1]
    turns, n = np.count_nonzero(up[1:] != up[:-1]), words.size
    accept(normal_p((turns - 2 * (n - 2) / 3) / math.sqrt((16 * n - 29) / 90)), "turning points")


def test_gaps(words: np.ndarray) -> None:
    """Gaps between visits of an eighth of the range are geometric."""
    gaps = np.diff(np.flatnonzero(words < 2**29))
    chance = 7 / 8
    lengths = np.arange(1, 101)
    expected = np.append(chance ** (lengths - 1) / 8, chance**100) * gaps.size
    accept(chi_square_p(np.bincount(np.minimum(gaps, 101), minlength=102)[1:], expected), "gaps")


def test_birthday_spacings(words: np.ndarray) -> None:
    """4096 birthdays in a year of 2³² days: equal spacings are Poisson(4) (Marsaglia 1985)."""
    birthdays = np.sort(words.reshape(-1, 4096).astype(np.int64), axis=1)
    spacings = np.sort(np.diff(birthdays, axis=1), axis=1)
    equal = np.count_nonzero(spacings[:, 1:] == spacings[:, :-1])
    accept(poisson_p(equal, len(birthdays) * 4096**3 / 2**34), "equal spacings")


def test_hamming_weights(words: np.ndarray) -> None:
    weights = ones(words)
    binomial = stats.binom.pmf(np.arange(33), 32, 0.5) * words.size
    accept(chi_square_p(np.bincount(weights, minlength=33), binomial), "weights")
    x = (weights - 16) / math.sqrt(8)
    accept(np.array([correlation_p(x[:-lag], x[lag:]) for lag in LAGS]), "weights of neighbours")
    # A light word after a light one, and so on: nine cells of disjoint pairs.
    kind = np.digitize(weights, [15, 18]).reshape(-1, 2)
    share = np.bincount(
        np.digitize(np.arange(33), [15, 18]), stats.binom.pmf(np.arange(33), 32, 0.5)
    )
    cells = np.bincount(kind[:, 0] * 3 + kind[:, 1], minlength=9)
    accept(chi_square_p(cells, np.outer(share, share).ravel() * len(kind)), "kinds of neighbours")


def test_matrix_rank(words: np.ndarray) -> None:
    """Ranks of 32 × 32 matrices over two elements: linear generators fail this."""
    matrices = words[: 32 * 20000].reshape(-1, 32).copy()
    rank = np.zeros(len(matrices), dtype=np.int64)
    for bit in range(32):
        has = (matrices >> np.uint32(bit)) & 1 == 1
        pivot, found = has.argmax(1), has.any(1)
        row = np.where(found, matrices[np.arange(len(matrices)), pivot], 0).astype(np.uint32)
        matrices ^= np.where(has, row[:, None], 0).astype(np.uint32)
        rank += found
    # P(rank = 32 − d) = 2^(−d²) · Π_{i>d} (1 − 2⁻ⁱ) / Π_{i≤d} (1 − 2⁻ⁱ), to a part in 2³².
    full, less = 0.288788095086602, 0.577576190173205
    expected = np.array([full, less, 1 - full - less]) * len(matrices)
    accept(chi_square_p(np.bincount(np.minimum(32 - rank, 2), minlength=3), expected), "ranks")


@pytest.mark.parametrize("keys", NEIGHBOURS.values(), ids=list(NEIGHBOURS))
def test_streams_of_neighbouring_keys_are_independent(keys: list[Key]) -> None:
    rows = np.stack([drawn(key, 2**13) for key in keys])
    accept(balance(rows[1:] ^ rows[:-1]), "bits that differ")
    x = standardised(rows)
    pairs = zip([*x[:-1], *[x[0]] * (len(x) - 2)], [*x[1:], *x[2:]], strict=True)
    accept(np.array([correlation_p(a, b) for a, b in pairs]), "correlation of streams")


def test_first_words_of_many_seeds_are_a_stream() -> None:
    first = np.array([int(bits(Key(seed, "weight"), 0, 1)[0]) for seed in range(2**15)], np.uint32)
    accept(balance(first), "ones at each bit")
    x = standardised(first)
    accept(correlation_p(x[:-1], x[1:]), "neighbouring seeds")


def test_low_halves_are_independent_of_the_words() -> None:
    key = Key(0, "weight")
    low = torch.empty(COUNT, dtype=torch.int32)
    native.bits(key.value, LOW_HALVES, 0, low)
    words, low_words = drawn(key, COUNT), low.numpy().view(np.uint32)
    accept(balance(low_words), "ones at each bit")
    accept(balance(words ^ low_words), "bits that differ")
    accept(correlation_p(standardised(words), standardised(low_words)), "correlation")
