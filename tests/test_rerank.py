"""The last order from known answers: who ranks, who shares a list, what chance does, and that the
log says so."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from recsys.errors import InputError
from recsys.experiments.assignment import Experiment
from recsys.experiments.exploration import Exploration
from recsys.pipeline.rerank import FIRST, TABLE, Pool, Reranker
from recsys.ranking.item_features import Context, ItemFeatures
from recsys.ranking.linear import WeightedSum
from recsys.types import Histories, Item, Query

ITEMS = 8
CHEAP, DEAR = WeightedSum({"log_price": -1.0}), WeightedSum({"log_price": 1.0})
#: By the first stage item 7 comes first; prices rise with the row, so cheap first turns the order
#: round.
POOL = Pool(np.arange(ITEMS, dtype=np.int32)[::-1], np.arange(ITEMS, 0, -1, dtype=np.float32), {})


def item_features() -> ItemFeatures:
    zeros, none = np.zeros(ITEMS, np.float32), np.full(ITEMS, -1)
    vectors = np.zeros((ITEMS, 16), np.float32)
    prices, stocked, counts = (
        np.arange(1.0, 1 + ITEMS),
        np.ones(ITEMS, bool),
        np.zeros((4, ITEMS), int),
    )
    return ItemFeatures(
        prices_I=prices,
        in_stock_I=stocked,
        popularity_I=zeros,
        touches_TI=counts,
        exposure_I=zeros,
        clicks_I=zeros,
        first_days_I=np.zeros(ITEMS),
        categories_I=none,
        brands_I=none,
        item_projected_IP=vectors,
        taste_projected_IP=vectors,
    )


def context() -> Context:
    return Context.of("recommend", 20_000.0, Histories.empty())


def shown(reranker: Reranker, query: Query, by_chance: bool = True):
    looked = reranker.look(query, "recommend", POOL, context())
    found = reranker.shown(
        query,
        POOL,
        looked,
        looked.order_N,
        context(),
        lambda row: Item(item_id=str(row)),
        by_chance,
    )
    return looked, [scored for _, scored in found]


def ids(scored) -> str:
    return "".join(each.item.item_id for each in scored)


def test_without_a_ranker_the_first_stage_has_the_last_word() -> None:
    looked, best = shown(Reranker(item_features(), serving="net"), Query(request_id="r", k=3))
    assert (ids(best), looked.ranker) == ("765", FIRST)
    assert [each.score for each in best] == [8, 7, 6]
    assert [each.propensity for each in best] == [1, 1, 1]
    assert best[0].features["first"] == 8
    assert tuple(best[0].features) == TABLE


def test_the_ranker_orders_the_best_of_the_first_stage_and_the_rest_stays_behind() -> None:
    reranker = Reranker(item_features(), {"cheap": CHEAP}, "cheap", {"cheap": "cheap@m1"}, depth=4)
    looked, best = shown(reranker, Query(request_id="r", k=8))
    assert (ids(best), looked.ranker) == ("45673210", "cheap@m1")
    scores = [each.score for each in best]
    assert scores == sorted(scores, reverse=True)
    assert best[0].score == pytest.approx(-np.log1p(5), rel=1e-5)
    assert (
        reranker.wanted(Query(request_id="r"), "recommend", 3),
        replace(reranker, serving="").wanted(Query(request_id="r"), "", 3),
    ) == (4, 3)


def test_an_arm_has_its_ranker_and_the_log_its_name() -> None:
    test = Experiment(name="prices", arms={"now": 0.5, "new": 0.5}, rankers={"new": "cheap"})
    reranker = Reranker(item_features(), {"cheap": CHEAP}, experiments=(test,))
    seen = Counter()
    for user in range(200):
        looked, best = shown(reranker, Query(request_id="r", k=1, user_id=f"u{user}"))
        seen[looked.arms["prices"], looked.ranker, ids(best)] += 1
    assert set(seen) == {("now", FIRST, "7"), ("new", "cheap", "0")}
    assert min(seen.values()) > 60


def test_two_rankers_share_a_list_and_each_item_knows_who_chose_it() -> None:
    test = Experiment(
        name="duel",
        arms={"low": 1, "high": 1},
        rankers={"low": "cheap", "high": "dear"},
        kind="interleave",
    )
    reranker = Reranker(item_features(), {"cheap": CHEAP, "dear": DEAR}, experiments=(test,))
    for request in range(20):
        looked, best = shown(reranker, Query(request_id=f"r{request}", k=4))
        assert looked.ranker == "cheap and dear"
        assert {each.item.item_id: each.team for each in best} == {
            "0": "low",
            "1": "low",
            "7": "high",
            "6": "high",
        }
        assert best[0].score == pytest.approx(
            -np.log1p(1) if best[0].team == "low" else np.log1p(8), rel=1e-5
        )


def test_chance_is_the_same_for_the_same_request_and_as_likely_as_it_says() -> None:
    reranker = Reranker(item_features(), explore=Exploration("swap", 0.5, depth=4))
    assert ids(shown(reranker, Query(request_id="r9", k=4))[1]) == ids(
        shown(reranker, Query(request_id="r9", k=4))[1]
    )
    lists = [shown(reranker, Query(request_id=f"r{at}", k=4))[1] for at in range(2000)]
    first = Counter(best[0].item.item_id for best in lists)
    for best in lists[:200]:
        assert best[0].propensity == pytest.approx(first[best[0].item.item_id] / 2000, abs=0.03)
    moved = [each.moved for best in lists for each in best if "by chance" in each.moved]
    assert len(moved) == pytest.approx(2000, rel=0.1), "half of the lists, two places each"
    assert ids(shown(reranker, Query(request_id="r9", k=4), by_chance=False)[1]) == "7654"


def test_a_rule_before_chance_is_kept_and_said() -> None:
    reranker = Reranker(item_features(), explore=Exploration("thompson", 0.0))
    looked = reranker.look(Query(request_id="r", k=3), "recommend", POOL, context())
    ruled = np.array([7, 0, 1, 2, 3, 4, 5, 6])
    found = reranker.shown(
        Query(request_id="r", k=3),
        POOL,
        looked,
        ruled,
        context(),
        lambda row: Item(item_id=str(row)),
    )
    assert ids([scored for _, scored in found]) == "076"
    assert all("rule" in scored.moved for _, scored in found)


def test_an_empty_pool_and_features_that_nobody_gives() -> None:
    none = POOL.at(np.arange(0))
    reranker = Reranker(
        item_features(), {"cheap": CHEAP}, "cheap", explore=Exploration("swap", 1.0)
    )
    looked = reranker.look(Query(request_id="r"), "recommend", none, context())
    assert (
        reranker.shown(
            Query(request_id="r"),
            none,
            looked,
            looked.order_N,
            context(),
            lambda row: Item(item_id=str(row)),
        )
        == []
    )
    with pytest.raises(InputError, match="ranker stars wants horoscope"):
        Reranker(item_features(), {"stars": WeightedSum({"horoscope": 1.0})})
