from __future__ import annotations

import itertools

import pytest
import torch

from fanin.stream import Key, choice, native
from fanin.stream.philox import CHOICES, words

KEY = Key(11, "sparse.weight").value


def chosen(first, count, length, k):
    out = torch.empty(count, k, dtype=torch.int64)
    choice.choose(KEY, first, length, out)
    return out


def by_definition(slice_index, length, k):
    picked = []
    for t in range(k):
        word = int(words(KEY, torch.tensor([slice_index * length + t]), CHOICES))
        last = length - k + t
        r = (word * (last + 1)) >> 32
        picked.append(last if r in picked else r)
    return picked


@pytest.mark.parametrize(("length", "k"), [(1, 1), (7, 3), (7, 7), (64, 20), (300, 31)])
def test_steps_are_floyds(length, k):
    for index in (0, 5):
        assert chosen(index, 1, length, k)[0].tolist() == by_definition(index, length, k)


@pytest.mark.parametrize(("length", "k"), [(5, 0), (9, 9), (50, 13)])
def test_places_of_a_slice_are_distinct(length, k):
    places = chosen(0, 40, length, k).sort(dim=1).values
    assert places.shape == (40, k)
    assert (places[:, 1:] > places[:, :-1]).all()
    assert ((places >= 0) & (places < length)).all()


def test_slices_do_not_depend_on_their_company(monkeypatch):
    whole = chosen(0, 30, 20, 6)
    assert torch.equal(chosen(12, 5, 20, 6), whole[12:17])
    monkeypatch.setattr(choice, "_CHUNK", 40)
    assert torch.equal(chosen(0, 30, 20, 6), whole)


@pytest.mark.parametrize(
    ("first", "length", "k"), [(0, 1, 1), (3, 100, 50), (2**33, 77, 5), (4, 9, 0)]
)
def test_native_picks_the_same(first, length, k):
    out = torch.empty(20, k, dtype=torch.int64)
    native.choose(KEY, first, length, out)
    assert torch.equal(out, chosen(first, 20, length, k))


def test_every_set_is_equally_likely():
    # 10 sets of 2 of 5 places, 20 000 slices: the statistic is χ² with 9 degrees of freedom,
    # above 47.9 with probability 2.7e-7 (its upper tail).
    count = 20_000
    pairs = [tuple(sorted(pair)) for pair in chosen(0, count, 5, 2).tolist()]
    expected = count / 10
    statistic = sum(
        (pairs.count(pair) - expected) ** 2 / expected
        for pair in itertools.combinations(range(5), 2)
    )
    assert statistic < 47.9
