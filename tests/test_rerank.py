"""Re-ranking by hand: who ranks, who shares a list, what exploration draws, and that the log says
so."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from recsys.arrays import Histories
from recsys.errors import InputError
from recsys.experiments.assignment import Experiment
from recsys.experiments.exploration import Exploration
from recsys.pipeline.rerank import FIRST, TABLE, Pool, Reranked, Reranker
from recsys.ranking.item_features import Context, ItemFeatures
from recsys.ranking.linear import WeightedSum
from recsys.types import FeatureTable, Floats, Item, Query, ScoredItem

ITEMS = 8
CHEAP, DEAR = WeightedSum({"log_price": -1.0}), WeightedSum({"log_price": 1.0})
#: By the first stage item 7 comes first; prices rise with the row, so cheap first turns the order
#: round.
POOL = Pool(
    rows_N=np.arange(ITEMS, dtype=np.int32)[::-1],
    scores_N=np.arange(ITEMS, 0, -1, dtype=np.float32),
    names=(),
    signals_NF=np.empty((ITEMS, 0), np.float32),
    retrieved_NF=np.empty((ITEMS, 0), bool),
)


def item_features(exposure_I: Floats | None = None) -> ItemFeatures:
    zeros, none = np.zeros(ITEMS, np.float32), np.full(ITEMS, -1)
    vectors = np.zeros((ITEMS, 16), np.float32)
    return ItemFeatures(
        prices_I=np.arange(1.0, 1 + ITEMS),
        in_stock_I=np.ones(ITEMS, bool),
        popularity_I=zeros,
        touches_TI=np.zeros((4, ITEMS), int),
        exposure_I=zeros if exposure_I is None else exposure_I,
        clicks_I=zeros,
        first_days_I=np.zeros(ITEMS),
        categories_I=none,
        brands_I=none,
        item_projected_IP=vectors,
        taste_projected_IP=vectors,
    )


def context() -> Context:
    return Context.of("recommend", 20_000.0, Histories.empty())


def select(
    reranker: Reranker,
    query: Query,
    reranked: Reranked,
    order_M: np.ndarray,
    *,
    pool: Pool = POOL,
    explore: bool = True,
) -> tuple[tuple[ScoredItem, ...], FeatureTable]:
    return reranker.select(
        query,
        pool,
        reranked,
        order_M,
        context=context(),
        item_of=lambda row: Item(item_id=str(row)),
        explore=explore,
    )


def answer(
    reranker: Reranker, query: Query, explore: bool = True
) -> tuple[Reranked, tuple[ScoredItem, ...]]:
    reranked = reranker.rerank(query, "recommend", POOL, context())
    return reranked, select(reranker, query, reranked, reranked.order_N, explore=explore)[0]


def ids(items: tuple[ScoredItem, ...]) -> str:
    return "".join(each.item.item_id for each in items)


def test_without_a_ranker_the_first_stage_has_the_last_word() -> None:
    reranker, query = (
        Reranker(item_features=item_features(), serving="net"),
        Query(request_id="r", k=3),
    )
    reranked, items = answer(reranker, query)
    assert (ids(items), reranked.ranker) == ("765", FIRST)
    assert [each.score for each in items] == [8, 7, 6]
    assert [each.propensity for each in items] == [1, 1, 1]
    features = select(reranker, query, reranked, reranked.order_N)[1]
    assert features.names == TABLE
    assert [features.row(place)["first"] for place in range(3)] == [8, 7, 6]


def test_the_ranker_orders_the_best_of_the_first_stage_and_the_rest_stays_behind() -> None:
    reranker = Reranker(
        item_features=item_features(),
        rankers={"cheap": CHEAP},
        serving="cheap",
        labels={"cheap": "cheap@m1"},
        depth=4,
    )
    reranked, items = answer(reranker, Query(request_id="r", k=8))
    assert (ids(items), reranked.ranker) == ("45673210", "cheap@m1")
    scores = [each.score for each in items]
    assert scores == sorted(scores, reverse=True)
    assert items[0].score == pytest.approx(-np.log1p(5), rel=1e-5)
    query = Query(request_id="r")
    assert reranker.pool_size(query, "recommend", 3) == 4
    assert replace(reranker, serving="").pool_size(query, "", 3) == 3


def test_after_the_deadline_the_first_stage_has_the_last_word() -> None:
    reranker = Reranker(
        item_features=item_features(), rankers={"cheap": CHEAP}, serving="cheap", depth=4
    )
    in_time, late = (Query(request_id="r", k=3, deadline=deadline) for deadline in (np.inf, 0.0))
    assert ids(answer(reranker, in_time)[1]) == "456"
    reranked, items = answer(reranker, late)
    assert (ids(items), reranked.ranker) == ("765", FIRST)
    assert len(reranked.features_NF) == 0, "the ranker was not asked"
    assert reranker.needs_rerank(late, "recommend"), "so that the answer can say it was skipped"


def test_an_arm_has_its_ranker_and_the_log_its_name() -> None:
    test = Experiment(name="prices", arms={"now": 0.5, "new": 0.5}, rankers={"new": "cheap"})
    reranker = Reranker(
        item_features=item_features(), rankers={"cheap": CHEAP}, experiments=(test,)
    )
    answers: Counter[tuple[str, str, str]] = Counter()
    for user in range(200):
        reranked, items = answer(reranker, Query(request_id="r", k=1, user_id=f"u{user}"))
        answers[reranked.arms["prices"], reranked.ranker, ids(items)] += 1
    assert set(answers) == {("now", FIRST, "7"), ("new", "cheap", "0")}
    assert min(answers.values()) > 60


def test_two_rankers_share_a_list_and_each_item_knows_who_chose_it() -> None:
    test = Experiment(
        name="duel",
        arms={"low": 1, "high": 1},
        rankers={"low": "cheap", "high": "dear"},
        kind="interleave",
    )
    reranker = Reranker(
        item_features=item_features(), rankers={"cheap": CHEAP, "dear": DEAR}, experiments=(test,)
    )
    for request in range(20):
        reranked, items = answer(reranker, Query(request_id=f"r{request}", k=4))
        assert reranked.ranker == "cheap and dear"
        teams = {each.item.item_id: each.team for each in items}
        assert teams == {"0": "low", "1": "low", "7": "high", "6": "high"}
        assert items[0].score == pytest.approx(
            -np.log1p(1) if items[0].team == "low" else np.log1p(8), rel=1e-5
        )


def test_chance_is_the_same_for_the_same_request_and_as_likely_as_it_says() -> None:
    reranker = Reranker(
        item_features=item_features(), exploration=Exploration("swap", 0.5, depth=4)
    )
    query = Query(request_id="r9", k=4)
    assert ids(answer(reranker, query)[1]) == ids(answer(reranker, query)[1])
    lists = [answer(reranker, Query(request_id=f"r{at}", k=4))[1] for at in range(2000)]
    first = Counter(items[0].item.item_id for items in lists)
    for items in lists[:200]:
        assert items[0].propensity == pytest.approx(first[items[0].item.item_id] / 2000, abs=0.03)
    moved = [each.moved for items in lists for each in items if "by chance" in each.moved]
    assert len(moved) == pytest.approx(2000, rel=0.1), "half of the lists, two places each"
    assert ids(answer(reranker, query, explore=False)[1]) == "7654"


def test_thompson_s_deviation_falls_with_exposure_from_a_prior_of_fifty() -> None:
    """The spread of the scores over sqrt(1 + exposure / 50): by half after 150 impressions."""
    exposure_I = np.array([0, 50, 150, 400, 0, 0, 0, 0], np.float32)
    reranker = Reranker(item_features=item_features(exposure_I))
    drawn: list[Floats] = []

    def record(scores_N, k, policy, rng, *, tail_N, uncertainty_N):  # type: ignore[no-untyped-def]
        drawn.append(uncertainty_N)
        return np.arange(k), np.ones(k, np.float32), ("",) * k

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recsys.pipeline.rerank.explore", record)
        rows_M, scores_M = np.arange(4, dtype=np.int32), np.array([3, 1, 0, 0], np.float32)
        reranker.explore(Query(request_id="r"), rows_M, scores_M, 2, Exploration("thompson", 1.0))
    np.testing.assert_allclose(drawn[0], [1, 2**-0.5, 1 / 2, 1 / 3], rtol=1e-6)


def test_a_rule_before_chance_is_kept_and_said() -> None:
    reranker = Reranker(item_features=item_features(), exploration=Exploration("thompson", 0.0))
    query = Query(request_id="r", k=3)
    reranked = reranker.rerank(query, "recommend", POOL, context())
    items, _ = select(reranker, query, reranked, np.array([7, 0, 1, 2, 3, 4, 5, 6]))
    assert ids(items) == "076"
    assert all("rule" in each.moved for each in items)


def test_an_empty_pool_and_features_that_nobody_gives() -> None:
    empty, query = POOL.at(np.arange(0)), Query(request_id="r")
    reranker = Reranker(
        item_features=item_features(),
        rankers={"cheap": CHEAP},
        serving="cheap",
        exploration=Exploration("swap", 1.0),
    )
    reranked = reranker.rerank(query, "recommend", empty, context())
    assert select(reranker, query, reranked, reranked.order_N, pool=empty) == ((), FeatureTable())
    with pytest.raises(InputError, match="ranker stars wants horoscope"):
        Reranker(item_features=item_features(), rankers={"stars": WeightedSum({"horoscope": 1.0})})
