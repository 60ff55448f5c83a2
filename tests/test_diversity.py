"""Answers that are not ten of a kind, and the tail's share of their places."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.ranking.diversity import diversify, diversify_with_tail, with_tail
from recsys.types import Floats, Rows

#: Two shoes alike, a third like them, and a lamp; the last has no vector.
SHOES_AND_LAMP = np.array([[1, 0, 0], [1, 0, 0], [0.8, 0.6, 0], [0, 0, 1], [0, 0, 0]], np.float32)
dials = st.sampled_from([0.05, 0.3, 0.5, 0.9, 1.0])
laws = settings(max_examples=60, deadline=None)


def items(seed: int, count: int = 30, dim: int = 8) -> Floats:
    vectors_ID = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return vectors_ID / np.linalg.norm(vectors_ID, axis=1, keepdims=True)


def answers(seed: int, requests: int, width: int = 12, count: int = 30) -> Rows:
    """Candidates with 0..width pads behind them."""
    rng = np.random.default_rng(seed)
    rows_BN = np.stack([rng.permutation(count)[:width] for _ in range(requests)]).astype(np.int32)
    rows_BN[np.arange(width) >= rng.integers(0, width + 1, requests)[:, None]] = -1
    return rows_BN


def test_the_lamp_comes_before_the_second_shoe() -> None:
    rows_BN = np.array([[0, 1, 2, 3]], np.int32)
    assert diversify(rows_BN, SHOES_AND_LAMP, 0.9, 4).tolist() == [[0, 3, 2, 1]]
    assert diversify(rows_BN, SHOES_AND_LAMP, 0.05, 4).tolist() == [[0, 1, 2, 3]]


def test_places_say_where_not_which() -> None:
    rows_BN = np.array([[3, 1, 0, -1], [1, 0, 3, 2]], np.int32)
    assert diversify(rows_BN, SHOES_AND_LAMP, 0.9, 2).tolist() == [[0, 1], [0, 2]]


def test_relevance_falls_evenly_over_the_candidates_and_not_over_pads() -> None:
    """Of three candidates each place is a third: at .4 the lamp's 1 of similarity outweighs it, at
    .2 it does not."""
    rows_BN = np.array([[0, 1, 3, *[-1] * 30]], np.int32)
    assert diversify(rows_BN, SHOES_AND_LAMP, 0.4, 3).tolist() == [[0, 2, 1]]
    assert diversify(rows_BN, SHOES_AND_LAMP, 0.2, 3).tolist() == [[0, 1, 2]]


def test_a_dial_means_the_same_where_everything_is_near_everything() -> None:
    """Some encoders give the least alike a cosine of .8: the same angles in a narrow cone give the
    same order."""
    free_ID = items(5)
    narrow_ID = np.concatenate([free_ID, np.full((len(free_ID), 1), 2.0, np.float32)], axis=1)
    cosines_II = narrow_ID @ narrow_ID.T / 5
    assert cosines_II.min() > 0.6
    rows_BN = np.arange(30, dtype=np.int32)[None]
    narrow_BK = diversify(rows_BN, narrow_ID, 0.5, 10)
    assert narrow_BK.tolist() == diversify(rows_BN, free_ID, 0.5, 10).tolist() != [list(range(10))]


def test_an_item_without_a_vector_is_neither_sought_nor_shunned() -> None:
    """Its similarity is the mean: more than the lamp's, less than the other shoe's."""
    rows_BN = np.array([[0, 1, 4, 3]], np.int32)
    assert diversify(rows_BN, SHOES_AND_LAMP, 1.0, 4).tolist() == [[0, 3, 2, 1]]
    assert diversify(np.array([[4, 4]], np.int32), SHOES_AND_LAMP, 1.0, 2).tolist() == [[0, 1]]


@given(seed=st.integers(0, 999), diversity=st.one_of(st.just(0.0), dials), k=st.integers(1, 15))
@laws
def test_it_chooses_without_repeats_and_pads_stay_last(seed: int, diversity: float, k: int) -> None:
    rows_BN = answers(seed, 6)
    places_BK = diversify(rows_BN, items(seed), diversity, k)
    assert places_BK.shape == (6, min(k, 12))
    for rows_N, places_K in zip(rows_BN, places_BK, strict=True):
        assert len(set(places_K.tolist())) == len(places_K)
        filled = int((rows_N >= 0).sum())
        assert (rows_N[places_K[:filled]] >= 0).all()
        assert places_K[filled:].tolist() == list(range(filled, len(places_K)))
        assert not filled or places_K[0] == 0


@given(seed=st.integers(0, 999), k=st.integers(1, 15))
@laws
def test_with_the_dial_at_0_nothing_moves(seed: int, k: int) -> None:
    rows_BN = answers(seed, 4)
    unmoved = [list(range(min(k, 12)))] * 4
    assert diversify(rows_BN, items(seed), 0.0, k).tolist() == unmoved
    assert with_tail(rows_BN, np.arange(30) % 2 == 0, 0.0, k).tolist() == unmoved


@given(seed=st.integers(0, 999), twin=st.integers(1, 9), diversity=st.sampled_from([0.95, 1.0]))
@laws
def test_duplicates_do_not_take_the_first_two_places(
    seed: int, twin: int, diversity: float
) -> None:
    items_ID = items(seed, 10)
    items_ID[twin] = items_ID[0] * 3  # length says nothing
    rows_BN = np.arange(10, dtype=np.int32)[None]
    assert diversify(rows_BN, items_ID, diversity, 2).tolist()[0] != [0, twin]


@given(seed=st.integers(0, 999), diversity=dials, share=st.floats(0, 1), k=st.integers(1, 12))
@laws
def test_an_answer_does_not_depend_on_its_neighbours(
    seed: int, diversity: float, share: float, k: int
) -> None:
    rows_BN, items_ID, tail_I = answers(seed, 5), items(seed), np.arange(30) % 3 == 0
    together_BK, quota_BK = (
        diversify(rows_BN, items_ID, diversity, k),
        with_tail(rows_BN, tail_I, share, k),
    )
    for request, rows_N in enumerate(rows_BN):
        alone_1N = rows_N[rows_N >= 0][None]
        width = min(k, alone_1N.shape[1])
        assert (
            diversify(alone_1N, items_ID, diversity, k)[0].tolist()
            == together_BK[request][:width].tolist()
        )
        assert (
            with_tail(alone_1N, tail_I, share, k)[0].tolist() == quota_BK[request][:width].tolist()
        )


@given(seed=st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_answers_grow_less_alike_as_the_dial_rises(seed: int) -> None:
    rng, items_ID = np.random.default_rng(seed), items(seed, 200)
    rows_BN = np.stack([rng.permutation(200)[:40] for _ in range(100)]).astype(np.int32)

    def alike(diversity: float) -> float:
        chosen_BK = np.take_along_axis(rows_BN, diversify(rows_BN, items_ID, diversity, 8), axis=1)
        vectors_BKD = items_ID[chosen_BK]
        return float(
            (vectors_BKD @ vectors_BKD.transpose(0, 2, 1))[:, ~np.eye(8, dtype=bool)].mean()
        )

    measured = [alike(diversity) for diversity in (0.0, 0.3, 0.6, 0.9)]
    assert all(higher > lower + 0.005 for higher, lower in pairwise(measured)), measured


def test_every_second_place_is_the_tails() -> None:
    rows_BN = np.array([[0, 1, 2, 3, 4, 5], [5, 0, 1, 4, 2, -1], [0, 1, 2, 3, -1, -1]], np.int32)
    tail_I = np.array([False, False, False, False, True, True])
    assert with_tail(rows_BN, tail_I, 0.5, 4).tolist() == [[0, 4, 1, 5], [0, 1, 2, 3], [0, 1, 2, 3]]
    assert with_tail(rows_BN, tail_I, 1.0, 3).tolist() == [[4, 5, 0], [0, 3, 1], [0, 1, 2]]


@pytest.mark.parametrize(("share", "first"), [(0.29, 3), (0.1, 9), (0.3, 3), (1.0, 0)])
def test_the_first_place_of_the_tail_is_where_its_share_becomes_one(
    share: float, first: int
) -> None:
    rows_BN = np.arange(20, dtype=np.int32)[None]
    assert with_tail(rows_BN, np.arange(20) >= 10, share, 10)[0].tolist().index(10) == first
    hundred_BK = with_tail(np.arange(200, dtype=np.int32)[None], np.arange(200) >= 100, 0.29, 100)
    assert (hundred_BK >= 100).sum() == 29, "0.29 x 100 is 28.999999999999996"


@given(
    seed=st.integers(0, 999), share=st.floats(0, 1), k=st.integers(1, 12), kinds=st.integers(1, 6)
)
@laws
def test_every_prefix_holds_its_share_and_each_kind_keeps_its_order(
    seed: int, share: float, k: int, kinds: int
) -> None:
    rows_BN, tail_I = answers(seed, 6), np.arange(30) % kinds == 0
    for rows_N, places_K in zip(rows_BN, with_tail(rows_BN, tail_I, share, k), strict=True):
        of_tail_N = tail_I[rows_N] & (rows_N >= 0)
        for n in range(1, len(places_K) + 1):
            first = of_tail_N[places_K[:n]]
            assert first.sum() >= min(int(share * n), of_tail_N.sum())
        for kind in (True, False):
            assert np.all(np.diff(places_K[of_tail_N[places_K] == kind]) > 0)
        for n, place in enumerate(places_K):
            skipped = set(range(place)) - set(places_K[:n].tolist())
            assert not skipped or int(share * (n + 1) + 1e-9) > of_tail_N[places_K[:n]].sum(), (
                "no need, yet it moved"
            )


def tailed(rows_BN, diversity, tail_I, tail_share, k) -> list[list[int]]:
    return diversify_with_tail(
        rows_BN, SHOES_AND_LAMP, k, diversity=diversity, tail_I=tail_I, tail_share=tail_share
    ).tolist()


def test_the_quota_takes_the_best_of_the_tail_as_diversity_left_it() -> None:
    """Of the tail, the shoe like the others (1) came before the lamp (3)."""
    rows_BN, tail_I = (
        np.array([[0, 1, 2, 3]], np.int32),
        np.array([False, True, False, True, False]),
    )
    assert tailed(rows_BN, 0.9, tail_I, 0.5, 3) == [[0, 3, 2]]
    assert tailed(rows_BN, 0.0, tail_I, 0.5, 2) == [[0, 1]]
    assert tailed(rows_BN, 0.9, tail_I, 0.0, 2) == [[0, 3]]
    assert tailed(rows_BN, 0.0, tail_I, 1.0, 3) == [[1, 3, 0]]


@pytest.mark.parametrize("dial", [-0.1, 1.01, np.nan])
def test_a_dial_out_of_range_is_a_sentence(dial: float) -> None:
    rows_BN, tail_I = np.array([[0, 1]], np.int32), np.ones(5, bool)
    with pytest.raises(ValueError, match=f"diversity is {dial}: give a number from 0 to 1"):
        diversify(rows_BN, SHOES_AND_LAMP, dial, 1)
    with pytest.raises(ValueError, match=f"tail_share is {dial}: give a number from 0 to 1"):
        with_tail(rows_BN, tail_I, dial, 1)
    with pytest.raises(ValueError, match="k is 0: ask for at least 1 item"):
        with_tail(rows_BN, tail_I, 0.5, 0)


def test_nothing_stays_nothing() -> None:
    empty = np.empty((3, 0), np.int32)
    assert (
        diversify(empty, SHOES_AND_LAMP, 0.5, 4).shape
        == with_tail(empty, np.ones(5, bool), 0.5, 4).shape
        == (3, 0)
    )
