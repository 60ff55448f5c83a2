"""Signals of sources whose scores are written down, and weights whose best is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.arrays import Candidates, Requests
from recsys.datasets.judgments import JudgedPairs
from recsys.ranking.fusion import BLOCK, GRID, SignalTable, coordinate_ascent
from recsys.retrieval.vectors.exact import top_k
from recsys.types import Floats, Rows


@dataclass
class Written:
    """A source that gives query "q" the scores of row q; an item without one (0) is not brought."""

    source: str
    scores_QI: Floats

    def retrieve(self, requests: Requests, n: int) -> Candidates:
        scores_BI = np.asarray(self.scores_QI, np.float32)[self._rows(requests)]
        rows_BN, scores_BN = top_k(scores_BI, np.eye(scores_BI.shape[1], dtype=np.float32), n)
        return Candidates(
            self.source, np.where(scores_BN > 0, rows_BN, -1).astype(np.int32), scores_BN
        )

    def _rows(self, requests: Requests) -> list[int]:
        return [int(text) for text in requests.texts or ()]


class WrittenScorer(Written):
    """One that also scores any row."""

    def score(self, requests: Requests, rows_BN: Rows) -> Floats:
        return np.take_along_axis(
            np.asarray(self.scores_QI, np.float32)[self._rows(requests)], rows_BN, axis=1
        )


def requests(count: int) -> Requests:
    return Requests(size=count, texts=tuple(map(str, range(count))))


#: Two queries, five items. Words find 0 and 1 for the first and 3 for the second; vectors score
#: everything.
WORDS_QI = [[4.0, 2.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 5.0, 0.0]]
DENSE_QI = [[0.1, 0.2, 0.8, 0.3, 0.4], [0.6, 0.5, 0.1, 0.2, 0.3]]
#: The first query's answer is 1, found by words; the second's is 0, found by vector, and 4 is
#: judged but not brought.
JUDGED = JudgedPairs.from_unsorted(["0", "1"], [0, 1, 1], [1, 0, 4], [1.0, 1.0, 0.0])


def signals(judged: JudgedPairs | None = JUDGED) -> SignalTable:
    return SignalTable.collect(
        (Written("words", WORDS_QI), WrittenScorer("dense", DENSE_QI)), requests(2), 2, judged
    )


def test_ask_tables_what_each_source_thinks_of_every_row() -> None:
    signal_table = signals()
    assert signal_table.names == ("words", "dense")
    assert signal_table.rows_QN.tolist() == [[0, 1, 2, 4], [0, 1, 3, 4]]
    np.testing.assert_allclose(
        signal_table.features_QNF[0], [[4, 0.1], [2, 0.2], [0, 0.8], [0, 0.4]]
    )
    np.testing.assert_allclose(
        signal_table.features_QNF[1], [[0, 0.6], [0, 0.5], [5, 0.2], [0, 0.3]]
    )
    assert signal_table.retrieved_QN.tolist() == [
        [True, True, True, True],
        [True, True, True, False],
    ]
    assert signal_table.judged_QN.tolist() == [
        [False, True, False, False],
        [True, False, False, True],
    ]


def test_without_judgments_only_what_was_brought_is_in_the_table() -> None:
    signal_table = signals(None)
    assert signal_table.rows_QN.tolist() == [[0, 1, 2, 4], [0, 1, 3, -1]]
    assert signal_table.retrieved_QN.tolist() == [[True] * 4, [True, True, True, False]]
    assert signal_table.features_QNF[1, 3].tolist() == [0, 0]


def test_queries_without_a_judgment_or_a_candidate() -> None:
    nothing = SignalTable.collect(
        (Written("words", np.zeros((2, 3))),),
        requests(2),
        2,
        JudgedPairs.from_unsorted("ab", [1], [2], [1.0]),
    )
    assert nothing.rows_QN.tolist() == [[-1], [2]]
    assert not nothing.retrieved_QN.any()
    assert nothing.top_rows({"words": 1.0}, 2).tolist() == [[-1, -1], [-1, -1]]


def test_blocks_are_one_table() -> None:
    rng, count = np.random.default_rng(0), BLOCK + 44
    scores_QI = np.where(rng.random((count, 12)) < 0.2, rng.random((count, 12)), 0)
    query_P, rows_P = (
        np.arange(count).repeat(2),
        rng.integers(6, size=2 * count) * 2 + np.tile([0, 1], count),
    )
    judged = JudgedPairs.from_unsorted(
        tuple(map(str, range(count))), query_P, rows_P, np.ones(2 * count)
    )
    signal_table = SignalTable.collect(
        (WrittenScorer("told", scores_QI),), requests(count), 3, judged
    )
    for query, (rows, _) in enumerate(judged.by_query()):
        best = np.argsort(-scores_QI[query], kind="stable")[:3]
        retrieved = set(best[scores_QI[query, best] > 0].tolist())
        filled = signal_table.rows_QN[query] >= 0
        assert signal_table.rows_QN[query, filled].tolist() == sorted(
            retrieved | set(rows.tolist())
        )
        assert (
            set(signal_table.rows_QN[query, signal_table.retrieved_QN[query]].tolist()) == retrieved
        )
        expected = scores_QI[query, signal_table.rows_QN[query, filled]]
        np.testing.assert_allclose(signal_table.features_QNF[query, filled, 0], expected, rtol=1e-6)


def test_ranked_is_the_weighted_order_of_what_was_brought() -> None:
    assert signals().top_rows({"words": 1.0}, 2).tolist() == [[0, 1], [3, 0]]
    assert signals().top_rows({"dense": 1.0}, 3).tolist() == [[2, 4, 1], [0, 1, 3]]
    #: Divided by the largest of the query: words 1, .5 and 1; vectors .125, .25, 1, .5 and 1, 5/6,
    #: 1/3, (1/2).
    assert signals().top_rows({"words": 1.0, "dense": 0.9}, 6).tolist() == [
        [0, 2, 1, 4, -1, -1],
        [3, 0, 1, -1, -1, -1],
    ]


def test_reranked_asks_for_the_window_and_for_what_was_judged() -> None:
    pairs: list[tuple[int, int]] = []

    def score(queries: np.ndarray, rows: np.ndarray) -> Floats:
        pairs.extend(zip(queries.tolist(), rows.tolist(), strict=True))
        return (10 * queries + rows + 1).astype(np.float32)

    read = signals().with_reranker({"words": 1.0}, 1, "reader", score)
    assert sorted(pairs) == [(0, 0), (0, 1), (1, 0), (1, 3), (1, 4)]
    assert read.names == ("words", "dense", "reader")
    assert read.features_QNF[:, :, 2].tolist() == [[1, 0, 0, 0], [0, 0, 14, 0]], (
        "by day only the window is read"
    )
    assert read.judged_QNF[:, :, 2].tolist() == [[1, 2, 0, 0], [11, 0, 14, 15]]
    np.testing.assert_array_equal(read.features_QNF[:, :, :2], signals().features_QNF)
    assert read.top_rows({"reader": 1.0}, 1).tolist() == [[0], [3]], (
        "what was only judged is never brought"
    )


def test_judged_items_are_compared_by_the_new_signal_wherever_they_stand() -> None:
    """The window of one is item 3, which nobody judged; the reader tells 0 from 4, of which only 0
    was brought."""
    read = signals().with_reranker(
        {"words": 1.0}, 1, "reader", lambda _, rows: (5.0 - rows).astype(np.float32)
    )
    assert read.metrics({"reader": 1.0}, JUDGED)["ndcg@10"] == 1
    against = signals().with_reranker(
        {"words": 1.0}, 1, "reader", lambda _, rows: (1.0 + rows).astype(np.float32)
    )
    assert against.metrics({"reader": 1.0}, JUDGED)["ndcg@10"] == pytest.approx(
        (1 + 1 / np.log2(3)) / 2
    )


def test_measured() -> None:
    measured = signals().metrics({"dense": 1.0}, JUDGED)
    assert measured == {"recall@10": 1, "recall@100": 1, "ndcg@10": 1}
    by_words = signals().metrics(
        {"words": 1.0}, JUDGED
    )  # of the second's judged both score 0: ties stay
    assert by_words == {"recall@10": 1, "recall@100": 1, "ndcg@10": 1}
    turned = JudgedPairs.from_unsorted(["0", "1"], [0, 1, 1], [1, 4, 0], [1.0, 0.0, 1.0])
    words_first = SignalTable.collect(
        (Written("words", WORDS_QI), WrittenScorer("dense", DENSE_QI)), requests(2), 2, turned
    )
    assert words_first.metrics({"words": 1.0}, turned)["ndcg@10"] == pytest.approx(
        (1 + 1 / np.log2(3)) / 2
    )
    assert words_first.metrics({"dense": 1.0}, turned)["ndcg@10"] == 1


def test_recall_counts_only_what_was_brought() -> None:
    """Item 4 is judged right for the second query, and no source brings it."""
    missed = JudgedPairs.from_unsorted(["0", "1"], [0, 1, 1], [1, 0, 4], [1.0, 1.0, 1.0])
    assert signals(missed).metrics({"dense": 1.0}, missed)["recall@100"] == pytest.approx(
        (1 + 1 / 2) / 2
    )


def test_a_useless_source_gets_no_weight() -> None:
    """The right item is the first of the good source, with its score a little above the others'."""
    rng = np.random.default_rng(1)
    right_Q = rng.integers(60, size=40)
    good_QI = rng.uniform(0.5, 0.9, (40, 60))
    good_QI[np.arange(40), right_Q] = 1.0
    noise_QI = rng.uniform(0.1, 1, (40, 60))
    query_P = np.arange(40).repeat(8)
    rows_P = np.concatenate(
        [[right, *np.setdiff1d(rng.permutation(60)[:20], right)[:7]] for right in right_Q]
    )
    judged = JudgedPairs.from_unsorted(
        list(map(str, range(40))), query_P, rows_P, np.tile([1.0, *[0.0] * 7], 40)
    )
    signal_table = SignalTable.collect(
        (WrittenScorer("good", good_QI), WrittenScorer("noise", noise_QI)), requests(40), 60, judged
    )
    assert signal_table.fit_weights(judged, {"good": 1.0, "noise": 1.0}) == {
        "good": 1.0,
        "noise": 0.0,
    }
    weights = signal_table.fit_weights(judged, {"noise": 1.0})
    assert weights["good"] == max(GRID), (
        "the first weight above 0 stays, so the other must outgrow it"
    )
    assert signal_table.metrics(weights, judged)["ndcg@10"] > 0.95


def test_ascended_finds_the_known_best() -> None:
    def objective(weights: dict[str, float]) -> float:
        b, c = weights["b"], weights["c"]
        return -2 * abs(b - 0.4) - abs(c - 0.8) - abs(b * c - 0.32)

    assert coordinate_ascent(objective, {"a": 1.0, "b": 0.0, "c": 5.0}) == {
        "a": 1.0,
        "b": 0.4,
        "c": 0.8,
    }


def test_ascended_keeps_the_start_where_nothing_is_better() -> None:
    start = {"a": 0.0, "b": 0.33, "c": 0.7}
    assert coordinate_ascent(lambda _: 1.0, start) == start
    assert start == {"a": 0.0, "b": 0.33, "c": 0.7}


tables = st.lists(st.floats(-1, 1), min_size=16, max_size=16)


@settings(max_examples=40, deadline=None)
@given(tables, tables, st.tuples(*[st.sampled_from(GRID)] * 2))
def test_ascended_never_ends_worse_than_its_start_nor_where_one_step_is_better(
    first, second, start
) -> None:
    def objective(weights: dict[str, float]) -> float:
        b, c = GRID.index(weights["b"]), GRID.index(weights["c"])
        return first[b] + second[c] + first[c] * second[b]

    begun = {"a": 1.0, "b": start[0], "c": start[1]}
    reached = coordinate_ascent(objective, begun)
    assert reached["a"] == 1.0
    assert objective(reached) >= objective(begun)
    steps = [{**reached, name: value} for name in "bc" for value in GRID]
    assert objective(reached) >= max(map(objective, steps)) - 1e-9
