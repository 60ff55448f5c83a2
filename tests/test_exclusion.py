"""Why an item is not in an answer, stage by stage, over a replay by hand of six candidates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from recsys.arrays import Candidates, Histories, Requests
from recsys.pipeline.candidates import RETRIEVAL_DEPTH
from recsys.pipeline.exclusion import Exclusion, find_exclusion
from recsys.pipeline.replay import ALL, Replay
from recsys.pipeline.rerank import FIRST, TABLE, Pool, Reranked
from recsys.ranking.linear import WeightedSum
from recsys.types import Filters, Floats, Impression, Query
from tests.toy_searcher import DRILL, NARROW, VECTORS, encode, searcher

NOW = datetime(2026, 1, 3, tzinfo=UTC)
ROWS = np.array([10, 11, 12, 13, 14, 15], np.int32)
#: What the first stage's sources found, by place in the pool.
SIGNALS = {
    "popularity": [6.0, 5.0, 4.0, 3.0, 2.0, 1.0],
    "content": [0.0, 0.0, 0.5, 0.0, 0.25, 0.0],
}


def pool_of(signals: dict[str, list[float]]) -> Pool:
    signals_NF = np.array(list(signals.values()), np.float32).T
    return Pool(
        rows_N=ROWS[: len(signals_NF)],
        scores_N=signals_NF.sum(axis=1),
        names=tuple(signals),
        signals_NF=signals_NF,
        retrieved_NF=signals_NF != 0,
    )


def replay_of(
    query: Query, *, ranker: str = FIRST, signals: dict[str, list[float]] = SIGNALS
) -> Replay:
    pool = pool_of(signals)
    return Replay(
        impression=Impression(
            request_id="r", time=NOW, release="v", surface="recommend", item_ids=()
        ),
        query=query,
        live=("live",),  # type: ignore[arg-type]
        encoded=None,
        pool=pool,
        reranked=Reranked.unchanged(pool, ranker),
        features_NF=np.zeros((len(pool), len(TABLE)), np.float32),
        first_ranker=WeightedSum(dict.fromkeys(signals, 1.0)),
        filters=query.filters,
    )


def shop(depth: int = 100, **parts: Any) -> Any:
    """Everything passes, no item has a variant, no ranker is loaded."""
    reranker = SimpleNamespace(
        depth=depth, rankers={}, labels={}, rankers_by_team=lambda arms: {"": FIRST}
    )
    release = SimpleNamespace(
        passing=lambda filters, rows: {"brand": np.ones(len(rows), bool)},
        groups_I=np.full(20, -1, np.int32),
    )
    return SimpleNamespace(**{"release": release, "reranker": reranker, **parts})


# Filters


def test_an_item_that_fails_filters_fails_all_that_are_named() -> None:
    over, filters = shop(), Filters(max_price=3.0)
    asked: list[Any] = []

    def passing(filters: Filters, rows: Any) -> dict[str, Any]:
        asked.append((filters, rows.tolist()))
        return {"brand": np.array([False]), "max_price": np.array([True]), "stock": np.zeros(1)}

    over.release.passing = passing
    exclusion = find_exclusion(over, replay_of(Query(request_id="r", filters=filters)), 12)
    assert asked == [(filters, [12])]
    assert exclusion == Exclusion(
        "filter", "it does not pass brand, stock", {"filters": ["brand", "stock"]}
    )


# Ranked, and not shown


def test_an_outranked_item_is_compared_with_the_last_that_was_shown() -> None:
    exclusion = find_exclusion(shop(), replay_of(Query(request_id="r", k=3)), 14)
    assert exclusion == Exclusion(
        "ranking",
        "it came to place 5 of 6, and 3 were shown: behind the last of them by popularity (2), "
        "content (0.25)",
        {
            "place": 5,
            "shown": 3,
            "behind": {"popularity": 2.0, "content": 0.25},
            "score": 2.25,
            "score_of_last": 4.5,
        },
    )


def test_features_that_are_no_worse_are_not_named() -> None:
    """In content both have nothing."""
    exclusion = find_exclusion(shop(), replay_of(Query(request_id="r", k=2)), 13)
    assert exclusion.details["behind"] == {"popularity": 2.0}
    equal = {"popularity": [1.0, 1.0, 1.0]}
    exclusion = find_exclusion(shop(), replay_of(Query(request_id="r", k=2), signals=equal), 12)
    assert (exclusion.stage, exclusion.details["behind"]) == ("ranking", {})
    assert exclusion.reason == "it came to place 3 of 3, and 2 were shown"


def test_the_five_largest_gaps_are_named() -> None:
    names = ("popularity", "content", "discovery", "peers", "tail", "arrivals", "follows")
    gaps = {name: [float(gap), 0.0] for gap, name in enumerate(names, 1)}
    exclusion = find_exclusion(shop(), replay_of(Query(request_id="r", k=1), signals=gaps), 11)
    assert list(exclusion.details["behind"].items()) == [
        ("follows", 7.0), ("arrivals", 6.0), ("tail", 5.0), ("peers", 4.0), ("discovery", 3.0)
    ]  # fmt: skip


def test_of_fewer_candidates_than_positions_the_last_is_the_last_candidate() -> None:
    exclusion = find_exclusion(shop(), replay_of(Query(request_id="r", k=9)), 11)
    assert (exclusion.details["shown"], exclusion.details["score_of_last"]) == (9, 1.0)


@pytest.mark.parametrize(
    ("row", "stage", "place"), [(10, "page", 1), (11, "page", 2), (12, "ranking", 3)]
)
def test_an_earlier_page_ends_where_this_one_begins(row: int, stage: str, place: int) -> None:
    exclusion = find_exclusion(shop(), replay_of(Query(request_id="r", k=2, offset=2)), row)
    assert (exclusion.stage, exclusion.details["place"]) == (stage, place)
    if stage == "page":
        assert exclusion.reason == f"it is on an earlier page, at place {place}"
        assert exclusion.details == {"place": place}
    else:
        assert exclusion.details["shown"] == 4


def test_a_variant_of_a_better_item_is_collapsed_only_where_the_query_collapses() -> None:
    over = shop()
    over.release.groups_I[[11, 14]] = 3
    collapsed, apart = (
        find_exclusion(over, replay_of(Query(request_id="r", k=1, collapse=collapse)), 14)
        for collapse in (True, False)
    )
    assert collapsed == Exclusion(
        "page", "another item of its group stands for it (collapse)", {"place": 5}
    )
    assert apart.stage == "ranking"
    first = find_exclusion(over, replay_of(Query(request_id="r", k=1, collapse=True)), 11)
    assert first.stage == "ranking", "it stands for its group itself"


@pytest.mark.parametrize(("row", "stage"), [(12, "ranking"), (13, "depth"), (14, "depth")])
def test_behind_what_is_re_ranked_the_first_stage_decided(row: int, stage: str) -> None:
    query = Query(request_id="r", k=1)
    exclusion = find_exclusion(shop(depth=3), replay_of(query, ranker="net@m1"), row)
    assert exclusion.stage == stage
    told = ": the first stage put it behind the 3 that are ranked"
    assert exclusion.reason.endswith(told) == (stage == "depth")
    assert find_exclusion(shop(depth=3), replay_of(query), row).stage == "ranking"


# Recommendations: not retrieved


@dataclass
class Silent:
    """A source that retrieves rows from 0 on, but for 19, with scores that fall to .25, then a
    pad."""

    source: str
    count: int

    def retrieve(self, requests: Requests, k: int, allowed: Any) -> Candidates:
        assert (requests.size, k, allowed.tolist()) == (1, RETRIEVAL_DEPTH, [True, False])
        rows = [row for row in range(self.count + 1) if row != 19]
        rows_BN = np.array([[*rows, -1]], np.int32)
        scores_BN = np.array([[*np.linspace(1, 0.25, self.count), -np.inf]], np.float32)
        return Candidates(self.source, rows_BN, scores_BN)


class Scoring(Silent):
    """Also scores any row."""

    def score(self, requests: Requests, rows_BN: Any) -> Floats:
        assert rows_BN.tolist() == [[19]]
        return np.array([[0.125]], np.float32)


def live_shop(histories: Histories | None, retrieved: tuple[int, ...] = ()) -> Any:
    """A shop whose sources retrieve these rows for the live request."""

    def live_pool(
        query: Query, live: Any, encoded: Any, *, stages_ms: Any, now: datetime, depth: int
    ) -> Any:
        assert (live, encoded, now, depth) == (("live",), None, NOW, ALL)
        return SimpleNamespace(
            requests=Requests(size=1, histories=histories),
            pool=SimpleNamespace(rows_N=np.array(retrieved, np.int32)),
            sources=(Scoring("full", RETRIEVAL_DEPTH), Silent("short", RETRIEVAL_DEPTH - 1)),
            allowed=np.array([True, False]),
        )

    return shop(live_pool=live_pool)


def history(kind: int) -> Histories:
    """One event with row 19."""
    return Histories(
        offsets=np.array([0, 1]),
        items=np.array([19], np.int32),
        types=np.array([kind], np.int8),
        days=np.array([1.0]),
    )


VIEW, PURCHASE = 0, 3
QUERY = Query(request_id="r", k=2)


def test_what_the_sources_would_retrieve_was_cut_off_by_the_night() -> None:
    exclusion = find_exclusion(live_shop(history(PURCHASE), (5, 19)), replay_of(QUERY), 19)
    assert exclusion == Exclusion(
        "depth", "the night's list ends before it, and it is that list which answered"
    )


def test_what_was_bought_is_said_to_be() -> None:
    exclusion = find_exclusion(live_shop(history(PURCHASE)), replay_of(QUERY), 19)
    assert exclusion == Exclusion(
        "retrieval", "the user has bought it, and no source of repeat purchases retrieved it"
    )


@pytest.mark.parametrize("histories", [None, history(VIEW), Histories.empty()])
def test_an_unretrieved_item_is_measured_against_the_last_of_each_full_source(
    histories: Histories | None,
) -> None:
    """A source with room left needs no score, and one that is no scorer gives none."""
    exclusion = find_exclusion(live_shop(histories, (5,)), replay_of(QUERY), 19)
    assert exclusion == Exclusion(
        "retrieval",
        "no source retrieved it as a candidate (full 0.125 of 0.25 needed; short 0 of 0 needed)",
        {"full": {"score": 0.125, "needed": 0.25}, "short": {"score": 0.0, "needed": 0.0}},
    )


# Searches: not matched


def replay_of_text(text: str) -> Replay:
    return replace(
        replay_of(Query(request_id="r", text=text)),
        encoded=encode(text),
        hits=SimpleNamespace(),  # type: ignore[arg-type]
    )


def test_an_unmatched_item_is_too_improbable() -> None:
    over = searcher(choices=replace(NARROW, min_log_odds=-4.0))
    exclusion = find_exclusion(shop(searcher=over), replay_of_text("red lamp"), DRILL)
    assert exclusion.stage == "retrieval"
    assert exclusion.reason.startswith(
        f"it has 0% of the query's words by weight, and {exclusion.details['nearer']} items are "
        "nearer in meaning (the 3 nearest may be found): log odds of relevance of -"
    )
    assert exclusion.details["log_odds"] < exclusion.details["log_odds_needed"]
    assert exclusion.details["log_odds_needed"] >= -4.0
    dense_I = VECTORS @ encode("red lamp")[1]
    assert exclusion.details["nearer"] == (dense_I > dense_I[DRILL]).sum() > 0


def test_a_text_that_fits_nothing_says_so_of_every_item() -> None:
    exclusion = find_exclusion(shop(searcher=searcher()), replay_of_text("xqzvkj wwqplt"), 3)
    assert 0 <= exclusion.details["fit"] < exclusion.details["fit_needed"] == 1.3
    assert exclusion.reason.endswith(
        f": the text fits nothing here, with {exclusion.details['fit']:.2f} of the 1.30 of words "
        "and meaning that are needed"
    )


def test_without_a_measure_of_meaning_words_are_needed() -> None:
    over = replace(searcher(), relevance=None)
    exclusion = find_exclusion(shop(searcher=over), replay_of_text("red lamp"), DRILL)
    assert exclusion.reason.endswith("(the 3 nearest may be found): 50% of the words are needed")
