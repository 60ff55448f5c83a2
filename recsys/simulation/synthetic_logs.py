"""Synthetic logs of a market, without a server: candidates with noisy features, the shop's own
exploration, clicks by a click model.

Legend: B requests, N candidates of each, K positions shown, F features (`FEATURES`)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.datasets.judgments import GRADES
from recsys.experiments.exploration import Exploration, explore
from recsys.experiments.hashing import seeded_rng
from recsys.market.click_models import ClickModel, ClickSpam
from recsys.market.market import Market, RequestBatch, user_id
from recsys.ranking.logged_rankings import LoggedRankings
from recsys.simulation.shoppers import Shoppers
from recsys.tables import LIVE_EVENTS
from recsys.types import EVENT_TYPES, FeatureTable, Floats, Impression, Ints, Rows

#: What a shop observes of a candidate: its sales, its relative price, its affinity to the shopper
#: (as from a user model) and its quality (as from ratings), both with noise, and whether it is of
#: the category searched for.
FEATURES = ("popularity", "relative_price", "affinity", "rating", "in_category")
#: Standard deviation of the noise on features whose own is 1.
NOISE = 1.0
#: The logging policy: swaps enough to estimate an examination curve from a few thousand requests.
SWAPS = Exploration("swap", share=0.5)
_CLICK, _PURCHASE = (1 + EVENT_TYPES.index(name) for name in ("click", "purchase"))


@dataclass(frozen=True, eq=False)
class CandidateSets:
    """Requests with their candidates (rows_BN, without repetition) and the features observed of
    them.

    Candidates of a search are of its category, those of a recommendation are random."""

    market: Market
    requests: RequestBatch
    rows_BN: Rows
    features_BNF: Floats

    @classmethod
    def draw(cls, market: Market, count: int, seed: int) -> CandidateSets:
        """`count` requests, each with as many candidates as the smallest category has products."""
        requests = market.requests(count, seed)
        rng = np.random.default_rng([seed, 2])
        keys_BI = rng.random((count, len(market.ids)), np.float32)
        is_off_topic_BI = requests.categories_B[:, None] != market.categories_I
        keys_BI[requests.is_search_B[:, None] & is_off_topic_BI] += 1
        width = int(np.bincount(market.categories_I).min())
        rows_BN = np.argsort(keys_BI, axis=1, kind="stable")[:, :width].astype(np.int32)
        return cls.of(market, requests, rows_BN)

    @classmethod
    def of(cls, market: Market, requests: RequestBatch, rows_BN: Rows) -> CandidateSets:
        """With the features of these candidates."""
        return cls(market, requests, rows_BN, observed_features(market, requests, rows_BN))

    def __len__(self) -> int:
        return len(self.requests)

    def take(self, selection: slice, market: Market) -> CandidateSets:
        """Some of the requests, in another market of the same products."""
        requests, rows_BN = self.requests.take(selection), self.rows_BN[selection]
        return CandidateSets(market, requests, rows_BN, self.features_BNF[selection])

    def feature(self, name: str) -> Floats:
        """[B, N]"""
        return self.features_BNF[:, :, FEATURES.index(name)]

    @cached_property
    def attraction_BN(self) -> Floats:
        return self.market.attraction_of(self.requests, self.rows_BN)

    def rows_at(self, places_BK: Ints) -> Rows:
        """[B, K] the rows of the candidates at these places."""
        return np.take_along_axis(self.rows_BN, places_BK, axis=1)

    def attraction_at(self, places_BK: Ints) -> Floats:
        """[B, K]"""
        return np.take_along_axis(self.attraction_BN, places_BK, axis=1)

    def true_ndcg(self, scores_BN: Floats, k: int = 10) -> NDArray[np.floating]:
        """[B] nDCG@k of the order by these scores, with attraction as the gain, over the ideal
        order of the same candidates."""
        discounts_K = 1 / np.log2(np.arange(2, 2 + min(k, scores_BN.shape[1])))
        width = len(discounts_K)
        gains_BK = self.attraction_at(order_by(scores_BN)[:, :width])
        ideal_BK = -np.sort(-self.attraction_BN, axis=1)[:, :width]
        return (gains_BK @ discounts_K) / (ideal_BK @ discounts_K)

    def expected_clicks(self, scores_BN: Floats, model: ClickModel, k: int = 10) -> Floats:
        """[B] on the k best by these scores."""
        return model.expected_clicks(self.attraction_at(order_by(scores_BN)[:, :k]))


def observed_features(market: Market, requests: RequestBatch, rows_BN: Rows) -> Floats:
    """[B, N, F]. The noise is drawn once a market: equal for the same product, or pair of shopper
    and product, in every request."""
    rng = np.random.default_rng(0)
    rating_I = market.quality_I + NOISE * rng.normal(size=len(market.ids))
    affinity_UI = market.user_factors_UL @ market.item_factors_IL.T
    affinity_UI = affinity_UI + NOISE * rng.normal(size=affinity_UI.shape)
    is_same_BN = requests.categories_B[:, None] == market.categories_I[rows_BN]
    columns = [
        np.log1p(market.sales_I)[rows_BN],
        market.relative_price_I[rows_BN],
        affinity_UI[requests.users_B[:, None], rows_BN],
        rating_I[rows_BN],
        requests.is_search_B[:, None] & is_same_BN,
    ]
    return np.stack(columns, axis=2).astype(np.float32)


def sales_scores(candidates: CandidateSets) -> Floats:
    """[B, N] the production ranker of the synthetic logs: best sellers, of the category first."""
    return candidates.feature("popularity") + 10 * candidates.feature("in_category")


def order_by(scores_BN: Floats) -> NDArray[np.int64]:
    """[B, N] places of the candidates, best first."""
    return np.argsort(-scores_BN, axis=1, kind="stable")


def explore_top_k(
    scores_BN: Floats, policy: Exploration, seed: int, k: int = 10
) -> tuple[Ints, Floats]:
    """The places of the candidates shown by an exploring shop, and their propensities, each
    [B, K]."""
    no_tail_N = np.zeros(scores_BN.shape[1], bool)
    lists = [
        explore(scores_N, k, policy, seeded_rng(f"{seed}-{number}", "explore"), tail_N=no_tail_N)
        for number, scores_N in enumerate(scores_BN)
    ]
    places_BK = np.stack([places_K for places_K, _, _ in lists])
    return places_BK, np.stack([propensities_K for _, propensities_K, _ in lists])


def simulate_log(
    candidates: CandidateSets,
    scores_BN: Floats,
    *,
    policy: Exploration,
    model: ClickModel,
    seed: int,
    k: int = 10,
    spam: ClickSpam | None = None,
) -> LoggedRankings:
    """The log of a shop that ranks the candidates by these scores and explores, as
    `joins.label_examples` and `LoggedRankings.of` make it."""
    requests, market = candidates.requests, candidates.market
    places_BK, propensities_BK = explore_top_k(scores_BN, policy, seed, k)
    rows_BK = candidates.rows_at(places_BK)
    rng = np.random.default_rng([seed, 3])
    clicked_BK, purchased_BK = Shoppers(market, model, spam).act(requests, rows_BK, rng)
    labels_BK = np.maximum(_CLICK * clicked_BK, _PURCHASE * purchased_BK)
    count, width = rows_BK.shape
    start, second = np.datetime64("2026-01-01", "us"), np.timedelta64(1, "s")
    return LoggedRankings(
        names=FEATURES,
        features_BKF=np.take_along_axis(candidates.features_BNF, places_BK[:, :, None], axis=1),
        gains_BK=np.array(GRADES, np.float32)[labels_BK],
        positions_BK=np.tile(np.arange(1, width + 1, dtype=np.int32), (count, 1)),
        propensities_BK=propensities_BK.astype(np.float32),
        scores_BK=np.take_along_axis(scores_BN, places_BK, axis=1).astype(np.float32),
        items_BK=market.ids[rows_BK],
        users_B=np.array([user_id(user) for user in requests.users_B.tolist()], object),
        surfaces_B=np.where(requests.is_search_B, "search", "recommend").astype(object),
        request_ids_B=np.array([f"{seed}-{number}" for number in range(count)], object),
        times_B=start + np.arange(count) * second,
    )


def to_events(lists: LoggedRankings) -> tuple[list[Impression], pa.RecordBatch]:
    """The log as the event store has it: impressions, and the clicks on them
    (`tables.LIVE_EVENTS`), the origin of each the user."""
    times = [moment.astype(datetime).replace(tzinfo=UTC) for moment in lists.times_B]
    impressions = [
        Impression(
            request_id=lists.request_ids_B[b],
            time=times[b],
            release="v",
            surface=lists.surfaces_B[b],
            item_ids=tuple(lists.items_BK[b]),
            features=FeatureTable(lists.names, lists.features_BKF[b]),
            user_id=lists.users_B[b],
            scores=tuple(lists.scores_BK[b].tolist()),
            propensities=tuple(lists.propensities_BK[b].tolist()),
        )
        for b in range(len(lists))
    ]
    requests, places = np.nonzero(lists.clicked_BK)
    columns = {
        "event_id": [f"e{number}" for number in range(len(requests))],
        "user_id": lists.users_B[requests].tolist(),
        "item_id": lists.items_BK[requests, places].tolist(),
        "type": ["click"] * len(requests),
        "time": [times[request] for request in requests],
        "request_id": lists.request_ids_B[requests].tolist(),
        "quantity": [1.0] * len(requests),
        "price": [None] * len(requests),
        "origin": lists.users_B[requests].tolist(),
    }
    return impressions, pa.RecordBatch.from_pydict(columns, LIVE_EVENTS)
