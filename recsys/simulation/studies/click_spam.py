"""How far do spammers move an item by its attraction, the debiased click rate that rankers see?"""

from __future__ import annotations

from datetime import timedelta

import numpy as np

from recsys.evaluation.results import Criterion
from recsys.events.item_clicks import count_item_clicks
from recsys.intervals import bootstrap_interval
from recsys.market.click_models import ClickSpam, PositionBasedModel
from recsys.market.market import Market, RequestBatch
from recsys.ranking.examination import Examination
from recsys.ranking.item_features import SMOOTHING_EXPOSURE
from recsys.simulation.synthetic_logs import SWAPS, CandidateSets, simulate_log, to_events
from recsys.types import Floats, Ints


def spam_displacement(
    market: Market,
    model: PositionBasedModel,
    *,
    count: int = 10_000,
    items: int = 6,
    seed: int = 0,
) -> Criterion:
    """Positions that an item moves within its category, ordered by estimated attraction.

    1 % of the shoppers click it wherever it is shown, and search for its category 20 times as often
    as others send requests, all in one day. The mean over `items`, each the median of its
    category."""
    candidates = CandidateSets.draw(market, count, seed)
    spammers = np.arange(max(1, market.shoppers // 100))
    shifts = []
    for item in _median_items(market)[:items].tolist():
        traffic = _with_spammers(candidates, spammers, int(market.categories_I[item]), seed)
        honest, spammed = (
            _rank(market, _estimated_attraction(traffic, model, seed, spam), item)
            for spam in (None, ClickSpam(spammers.tolist(), item))
        )
        shifts.append(abs(honest - spammed))
    shifts_N = np.array(shifts, float)
    return Criterion(
        name="places that spam moves an item, by attraction",
        floor=5.0,
        value=float(shifts_N.mean()),
        interval=bootstrap_interval(len(shifts_N), lambda rows: float(shifts_N[rows].mean())),
        at_most=True,
    )


def _median_items(market: Market) -> Ints:
    """The item of median attraction in each category."""
    mean_I = market.attraction_UI.mean(axis=0)
    categories = (np.flatnonzero(market.categories_I == c) for c in range(len(market.queries)))
    return np.array([rows[np.argsort(mean_I[rows])[len(rows) // 2]] for rows in categories])


def _with_spammers(
    candidates: CandidateSets, spammers: Ints, category: int, seed: int
) -> CandidateSets:
    """The requests, and those of the spammers for the category: 20 times as many as of another
    shopper."""
    market, rng = candidates.market, np.random.default_rng([seed, 6])
    users_B = np.repeat(spammers, 20 * len(candidates) // market.shoppers)
    searches = RequestBatch(users_B, np.full(len(users_B), category))
    members = np.flatnonzero(market.categories_I == category)
    width = candidates.rows_BN.shape[1]
    rows_BN = np.stack([rng.permutation(members)[:width] for _ in users_B]).astype(np.int32)
    more = CandidateSets.of(market, searches, rows_BN)
    requests = RequestBatch(
        np.concatenate([candidates.requests.users_B, searches.users_B]),
        np.concatenate([candidates.requests.categories_B, searches.categories_B]),
    )
    return CandidateSets(
        market,
        requests,
        np.concatenate([candidates.rows_BN, more.rows_BN]),
        np.concatenate([candidates.features_BNF, more.features_BNF]),
    )


def _estimated_attraction(
    candidates: CandidateSets, model: PositionBasedModel, seed: int, spam: ClickSpam | None
) -> Floats:
    """[I] clicks over exposure as a night counts them, from a log of randomly ranked lists."""
    rng = np.random.default_rng([seed, 7])
    scores_BN = rng.random(candidates.rows_BN.shape, np.float32)
    lists = simulate_log(candidates, scores_BN, policy=SWAPS, model=model, seed=seed, spam=spam)
    curve_K = np.array(model.curve, np.float32)
    examination = Examination(curve_K, curve_K, curve_K)
    impressions, interactions = to_events(lists)
    until = impressions[-1].time
    counts = count_item_clicks(
        impressions, [interactions], examination.at, until - timedelta(days=1), until
    )
    market = candidates.market
    rows = market.rows(counts["item_id"].to_pylist(), counts.num_rows)
    exposure_I, clicks_I = np.zeros((2, len(market.ids)))
    exposure_I[rows], clicks_I[rows] = counts["exposure"], counts["clicks"]
    prior = clicks_I.sum() / exposure_I.sum()
    return (clicks_I + prior * SMOOTHING_EXPOSURE) / (exposure_I + SMOOTHING_EXPOSURE)


def _rank(market: Market, attraction_I: Floats, row: int) -> int:
    """The number of items of its category with a higher attraction."""
    same_category_I = market.categories_I == market.categories_I[row]
    return int((attraction_I[same_category_I] > attraction_I[row]).sum())
