"""Logs drawn from a market without a server: the same exploration and click models, features that
only hint at truth.

Legend: B requests, N candidates of each, K places shown, F features (`HINTS`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.datasets.judgments import GRADES
from recsys.experiments.chance import rng_of
from recsys.experiments.exploration import Exploration, explored
from recsys.ranking.logged_rankings import LoggedRankings
from recsys.simulation.clicks import ClickModel, Spam
from recsys.simulation.market import Market, user_id
from recsys.simulation.shopper import acted
from recsys.tables import LIVE_EVENTS
from recsys.types import EVENT_TYPES, Floats, Impression, Ints, Rows

#: What a shop knows of an item: its sales, its price in its category, how it fits the shopper (as a
#: user model has it, wrong by HAZE), how good it is (as ratings have it, wrong by HAZE), and
#: whether it is searched for.
HINTS = ("popularity", "dearness", "affinity", "rating", "searched")
#: Standard deviation of the errors of hints whose own is 1.
HAZE = 1.0
_CLICK, _BOUGHT = (1 + EVENT_TYPES.index(name) for name in ("click", "purchase"))


@dataclass(frozen=True, eq=False)
class Scene:
    """Requests with their candidates (rows_BN, each once in a request) and what a shop knows of
    them.

    A search's candidates are items of its category, a recommendation's are drawn at random.
    """

    market: Market
    users_B: Ints
    wanted_B: Ints
    rows_BN: Rows
    hints_BNF: Floats

    @classmethod
    def of(cls, market: Market, count: int, seed: int) -> Scene:
        """As many candidates in each request as the smallest category has items."""
        users_B, wanted_B = market.requests(count, seed)
        rng = np.random.default_rng([seed, 2])
        chances_BI = rng.random((count, len(market.ids)), np.float32)
        chances_BI[(wanted_B[:, None] >= 0) & (wanted_B[:, None] != market.categories_I)] += 1
        width = int(np.bincount(market.categories_I).min())
        rows_BN = np.argsort(chances_BI, axis=1, kind="stable")[:, :width].astype(np.int32)
        return cls(market, users_B, wanted_B, rows_BN, hints(market, users_B, wanted_B, rows_BN))

    def __len__(self) -> int:
        return len(self.users_B)

    def part(self, kept: slice, market: Market) -> Scene:
        """Some of the requests, of shoppers who want what they do in another market of the same
        products."""
        return Scene(
            market,
            self.users_B[kept],
            self.wanted_B[kept],
            self.rows_BN[kept],
            self.hints_BNF[kept],
        )

    @cached_property
    def attraction_BN(self) -> Floats:
        return self.market.shown(self.users_B, self.wanted_B, self.rows_BN)

    def listed(self, places_BK: Ints) -> Rows:
        """[B, K]: the rows of candidates."""
        return np.take_along_axis(self.rows_BN, places_BK, axis=1)

    def true_ndcg(self, scores_BN: Floats, k: int = 10) -> NDArray[np.floating]:
        """[B] nDCG@k of these scores' order, by attraction, over the best order of the same
        candidates."""
        discounts_K = 1 / np.log2(np.arange(2, 2 + min(k, scores_BN.shape[1])))
        width = len(discounts_K)
        reached_BK = np.take_along_axis(self.attraction_BN, ordered(scores_BN)[:, :width], axis=1)
        best_BK = -np.sort(-self.attraction_BN, axis=1)[:, :width]
        return (reached_BK @ discounts_K) / (best_BK @ discounts_K)

    def expected_clicks(self, scores_BN: Floats, model: ClickModel, k: int = 10) -> Floats:
        """[B]: of the k best by these scores."""
        return model.expected(
            np.take_along_axis(self.attraction_BN, ordered(scores_BN)[:, :k], axis=1)
        )


def hints(market: Market, users_B: Ints, wanted_B: Ints, rows_BN: Rows) -> Floats:
    """[B, N, F]: errors are one draw a market, the same whenever an item or a pair of shopper and
    item comes again."""
    rng = np.random.default_rng(0)
    rating_I = market.quality_I + HAZE * rng.normal(size=len(market.ids))
    affinity_UI = market.tastes_UT @ market.traits_IT.T
    affinity_UI = affinity_UI + HAZE * rng.normal(size=affinity_UI.shape)
    searched_BN = (wanted_B[:, None] >= 0) & (wanted_B[:, None] == market.categories_I[rows_BN])
    columns = [
        np.log1p(market.sold_I)[rows_BN],
        market.dearness_I[rows_BN],
        affinity_UI[users_B[:, None], rows_BN],
        rating_I[rows_BN],
        searched_BN,
    ]
    return np.stack(columns, axis=2).astype(np.float32)


def ordered(scores_BN: Floats) -> NDArray[np.int64]:
    """[B, N]: places of the candidates, best first."""
    return np.argsort(-scores_BN, axis=1, kind="stable")


def shown(
    scores_BN: Floats, policy: Exploration, seed: int, k: int = 10
) -> tuple[NDArray[np.int64], Floats]:
    """Which candidates a shop that explores shows for these scores, and with which propensity: each
    [B, K]."""
    nothing_N = np.zeros(scores_BN.shape[1], bool)
    drawn = [
        explored(scores_N, nothing_N, None, k, policy, rng_of(f"{seed}-{number}", "explore"))
        for number, scores_N in enumerate(scores_BN)
    ]
    return np.stack([places_K for places_K, _, _ in drawn]), np.stack(
        [chances_K for _, chances_K, _ in drawn]
    )


def logged(
    scene: Scene,
    scores_BN: Floats,
    policy: Exploration,
    model: ClickModel,
    seed: int,
    k: int = 10,
    spam: Spam | None = None,
) -> LoggedRankings:
    """The log of a shop that ranked the scene by these scores: as `feedback.join` and `LoggedRankings.of`
    make it."""
    places_BK, propensities_BK = shown(scores_BN, policy, seed, k)
    rows_BK = scene.listed(places_BK)
    asked = scene.users_B, scene.wanted_B
    clicked_BK, bought_BK = acted(
        scene.market, model, asked, rows_BK, np.random.default_rng([seed, 3]), spam
    )
    labels_BK = np.maximum(_CLICK * clicked_BK, _BOUGHT * bought_BK)
    count, width = rows_BK.shape
    return LoggedRankings(
        names=HINTS,
        features_BKF=np.take_along_axis(scene.hints_BNF, places_BK[:, :, None], axis=1),
        gains_BK=np.array(GRADES, np.float32)[labels_BK],
        positions_BK=np.tile(np.arange(1, width + 1, dtype=np.int32), (count, 1)),
        propensities_BK=propensities_BK.astype(np.float32),
        scores_BK=np.take_along_axis(scores_BN, places_BK, axis=1).astype(np.float32),
        items_BK=scene.market.ids[rows_BK],
        users_B=np.array([user_id(user) for user in scene.users_B.tolist()], object),
        surfaces_B=np.where(scene.wanted_B >= 0, "search", "recommend").astype(object),
        request_ids_B=np.array([f"{seed}-{number}" for number in range(count)], object),
        times_B=np.datetime64("2026-01-01", "us") + np.arange(count) * np.timedelta64(1, "s"),
    )


def as_events(lists: LoggedRankings) -> tuple[list[Impression], pa.RecordBatch]:
    """The log as it came in: impressions, and the clicks on them (`tables.LIVE_EVENTS`), each user
    with an address."""
    times = [moment.astype(datetime).replace(tzinfo=UTC) for moment in lists.times_B]
    impressions = [
        Impression(
            request_id=lists.request_ids_B[b],
            time=times[b],
            release="v",
            surface=lists.surfaces_B[b],
            item_ids=tuple(lists.items_BK[b]),
            feature_names=lists.names,
            features=tuple(map(tuple, lists.features_BKF[b].tolist())),
            user_id=lists.users_B[b],
            scores=tuple(lists.scores_BK[b].tolist()),
            propensities=tuple(lists.propensities_BK[b].tolist()),
        )
        for b in range(len(lists))
    ]
    owners, places = np.nonzero(lists.clicked_BK)
    columns = {
        "event_id": [f"e{number}" for number in range(len(owners))],
        "user_id": lists.users_B[owners].tolist(),
        "item_id": lists.items_BK[owners, places].tolist(),
        "type": ["click"] * len(owners),
        "time": [times[owner] for owner in owners],
        "request_id": lists.request_ids_B[owners].tolist(),
        "quantity": [1.0] * len(owners),
        "price": [None] * len(owners),
        "origin": lists.users_B[owners].tolist(),
    }
    return impressions, pa.RecordBatch.from_pydict(columns, LIVE_EVENTS)
