from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import InputError
from recsys.experiments.exploration import Exploration, _contenders, explore
from recsys.experiments.hashing import seeded_rng
from recsys.types import Query

SCORES = np.array([0.1, 0.9, 0.5, 0.7, 0.3, 0.2, 0.05], np.float32)
ORDER = [1, 3, 2, 4, 5, 0, 6]
TAIL = np.array([True, False, False, False, False, False, True])
UNCERTAIN = np.full(7, 0.2, np.float32)
DRAWS = 20_000


def drawn(
    policy: Exploration, k: int, draws: int = DRAWS
) -> tuple[Counter[tuple[int, int]], dict[tuple[int, int], float]]:
    """How often each (place, candidate) was shown, and the mean of the propensity that was logged
    with it."""
    counts, sums = Counter[tuple[int, int]](), Counter[tuple[int, int]]()
    rng = np.random.default_rng(1)
    for _ in range(draws):
        places_K, propensities_K, _ = explore(
            SCORES, k, policy, rng, tail_N=TAIL, uncertainty_N=UNCERTAIN
        )
        for key, propensity in zip(
            enumerate(places_K.tolist()), propensities_K.tolist(), strict=True
        ):
            counts[key] += 1
            sums[key] += propensity
    return counts, {key: sums[key] / counts[key] for key in counts}


def test_nothing_is_left_to_chance() -> None:
    places_K, propensities_K, moved_K = explore(
        SCORES, 4, Exploration(), seeded_rng("r", "explore"), tail_N=TAIL
    )
    assert places_K.tolist() == ORDER[:4]
    assert propensities_K.tolist() == [1] * 4
    assert moved_K == ("",) * 4


EXACT = [
    (Exploration("swap", 0.6, depth=3), 5),
    (Exploration("swap", 1.0, depth=2), 5),
    (Exploration("swap", 1.0), 7),
    (Exploration("epsilon", 0.7), 4),
    (Exploration("epsilon", 0.7, tail_share=0.5), 4),
    (Exploration("epsilon", 1.0, tail_share=1.0), 3),
]


@pytest.mark.parametrize(("policy", "k"), EXACT)
def test_propensities_are_the_frequencies(policy: Exploration, k: int) -> None:
    counts, logged = drawn(policy, k)
    for key, count in counts.items():
        error = 4 * np.sqrt(logged[key] * (1 - logged[key]) / DRAWS) + 1e-6
        assert abs(count / DRAWS - logged[key]) < error, key


@pytest.mark.parametrize(("policy", "k"), EXACT)
def test_the_propensities_of_a_place_sum_to_one(policy: Exploration, k: int) -> None:
    """Every candidate that a place can show was seen in so many draws, so their propensities are
    all of it."""
    _, logged = drawn(policy, k, 3000)
    for place in range(k):
        assert sum(chance for (at, _), chance in logged.items() if at == place) == pytest.approx(
            1, abs=1e-5
        )


@pytest.mark.parametrize("share", [1.0, 0.4])
def test_noise_moves_as_often_as_is_logged(share: float) -> None:
    counts, logged = drawn(Exploration("thompson", share), 4, 4000)
    common = [key for key, count in counts.items() if count > 200]
    assert len(common) > 8
    for key in common:
        # The drawn order counts itself once in 201: a rare place is logged with a little more than
        # its chance.
        assert counts[key] / 4000 == pytest.approx(logged[key], abs=0.04), key


def test_each_propensity_of_noise_is_near_the_truth() -> None:
    counts, _ = drawn(Exploration("thompson", 1.0), 4, 4000)
    for number in range(50):
        places_K, propensities_K, _ = explore(
            SCORES,
            4,
            Exploration("thompson", 1.0),
            seeded_rng(str(number), "explore"),
            tail_N=TAIL,
            uncertainty_N=UNCERTAIN,
        )
        truth_K = [counts[key] / 4000 for key in enumerate(places_K.tolist())]
        np.testing.assert_allclose(propensities_K, truth_K, atol=0.16)


def test_without_uncertainty_there_is_nothing_to_sample() -> None:
    places_K, propensities_K, _ = explore(
        SCORES, 4, Exploration("thompson", 1.0), np.random.default_rng(0), tail_N=TAIL
    )
    assert (places_K.tolist(), propensities_K.tolist()) == (ORDER[:4], [1] * 4)


def test_the_tail_gets_its_share() -> None:
    counts, _ = drawn(Exploration("epsilon", 1.0, tail_share=0.8), 4)
    of_tail = sum(count for (_, item), count in counts.items() if TAIL[item]) / DRAWS
    assert of_tail == pytest.approx(0.8 + 0.2 * 2 / 3, abs=0.02)


def test_moves_are_told() -> None:
    places_K, _, moved_K = explore(
        SCORES, 5, Exploration("swap", 1.0, depth=2), np.random.default_rng(0), tail_N=TAIL
    )
    assert places_K.tolist() == [3, 1, 2, 4, 5]
    assert moved_K == (
        "exchanged with place 2 by chance",
        "exchanged with place 1 by chance",
        "",
        "",
        "",
    )
    _, _, moved_K = explore(
        SCORES, 6, Exploration("epsilon", 1.0), np.random.default_rng(0), tail_N=TAIL
    )
    assert [words for words in moved_K if words] == ["drawn by chance from place 7"]


@given(
    st.lists(st.floats(-3, 3, width=32), max_size=12),
    st.sampled_from(["none", "swap", "epsilon", "thompson"]),
    st.floats(0, 1),
    st.integers(0, 15),
    st.integers(0, 99),
)
def test_what_is_shown_is_a_list_with_chances(
    scores: list[float], kind: str, share: float, k: int, seed: int
) -> None:
    scores_N, policy = np.array(scores, np.float32), Exploration(kind, share, 4, 0.5)  # type: ignore[arg-type]
    shown = explore(
        scores_N,
        k,
        policy,
        np.random.default_rng(seed),
        tail_N=scores_N < 0,
        uncertainty_N=np.abs(scores_N),
    )
    places_K, propensities_K, moved_K = shown
    assert (
        len(places_K)
        == len(propensities_K)
        == len(moved_K)
        == min(k, len(scores))
        == len(set(places_K.tolist()))
    )
    assert ((propensities_K > 0) & (propensities_K <= 1)).all()
    again_K = explore(
        scores_N,
        k,
        policy,
        np.random.default_rng(seed),
        tail_N=scores_N < 0,
        uncertainty_N=np.abs(scores_N),
    )[0]
    np.testing.assert_array_equal(places_K, again_K)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"kind": "greedy"}, "'greedy'"),
        ({"share": 1.2}, "1.2"),
        ({"tail_share": -0.1}, "-0.1"),
        ({"depth": 1}, "to place 1"),
    ],
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(InputError, match=told):
        Exploration(**{"kind": "swap", **wrong})  # type: ignore[arg-type]


def test_only_what_noise_could_lift_is_drawn() -> None:
    """Three deviations up reach the best one's three deviations down: .2 + .9 > 1 - .03."""
    scores_N = np.array([1.0, 0.5, 0.2], np.float32)
    uncertainty_N = np.array([0.01, 0.01, 0.3], np.float32)
    assert _contenders(scores_N, uncertainty_N, 1).tolist() == [0, 2]
    assert _contenders(scores_N, uncertainty_N, 0).tolist() == []
    assert _contenders(scores_N, uncertainty_N, 3).tolist() == [0, 1, 2]


def test_what_is_swapped_is_the_first_page_of_default_size() -> None:
    assert Exploration("swap", 0.5).depth == Query(request_id="r").k
