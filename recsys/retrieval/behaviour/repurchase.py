"""Repeat purchases: what users buy again, and when the repurchase is due.

Legend: B requests, I items, E events, P pairs of a user and an item that they bought.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import Candidates, Histories, Requests
from recsys.retrieval.behaviour.sparse import decayed_interests, is_bought, ragged_top_k
from recsys.retrieval.vectors.exact import check_k
from recsys.types import PURCHASE, Floats, Ints, Mask

HALF_LIFE_DAYS = 90.0
POPULARITY_POWER = 0.1
POPULARITY_FLOOR = 0.05
#: Shrinkage: an item's interval counts the shop's as so many gaps of its own; a user's interval
#: counts the item's as USER_PRIOR.
ITEM_PRIOR = 5.0
USER_PRIOR = 2.0
#: How long it takes until half of the repeats would have come.
WAIT_DAYS = 30.0
#: Probabilities of a repeat below which an item is bought once: at all, and as a share of the
#: shop's. 15 buyers without a repeat are enough.
ONCE = 0.02
ONCE_OF_SHOP = 0.25
#: The repeat rate, for its owner, of an item that is bought once but by them.
OWN_RATE = 1 / (1 + ITEM_PRIOR)
#: Measured on validation periods 1-3 of both retail sets, hits@10/all: both 0 give UCI .3369,
#: Complete Journey .2811; with the date known .05 and .15 give +.0017 and +.0038, without it .15
#: alone +.0017 and +.0026.
INTERVAL_POWER = 0.05
REPEAT_POWER = 0.15


@dataclass(frozen=True)
class RepurchaseIntervals:
    """How items are bought again: typical days between two purchases by one user, and repeats per
    buyer, 0 for what is bought once; both [I]."""

    intervals_I: Floats
    repeats_I: Floats

    def __post_init__(self) -> None:
        if len(self.intervals_I) != len(self.repeats_I):
            raise ValueError(
                f"{len(self.intervals_I)} intervals and {len(self.repeats_I)} repeat rates: "
                "give one of each an item"
            )


def repurchase_intervals(
    parts: Iterable[Histories],
    item_count: int,
    categories_I: Ints | None = None,
    now_days: float | None = None,
) -> RepurchaseIntervals:
    """Fitted to a log whose parts are disjoint in users; purchases of one UTC day count as one.

    An interval is the geometric mean of the gaps in days, which one long pause hardly moves, shrunk
    by ITEM_PRIOR gaps of the shop's mean; a repeat rate is (purchases - buyers) / buyers, shrunk by
    ITEM_PRIOR buyers of the shop's mean, and 0 for what is bought once (`is_bought_once`). A log
    without repeats has intervals of 1 day, and rates as if there were one: a rate of 0 would
    silence the source, and purchased items would pass for new. `categories_I` numbers the items'
    categories, -1 for none; `now_days` is when the log ends. Compare an item's repeat customer
    probability and time distribution in Bhagat et al., Buy It Again: Modeling Repeat Purchase
    Recommendations, KDD 2018."""
    gaps_I, logs_I, buyers_I = np.zeros(item_count), np.zeros(item_count), np.zeros(item_count)
    waits_I = np.zeros(item_count)
    for part in parts:
        pairs_E, days_E = _purchase_days(part, item_count)
        is_repeat_E = pairs_E[1:] == pairs_E[:-1]
        items, logs = pairs_E[1:][is_repeat_E] % item_count, np.log(np.diff(days_E)[is_repeat_E])
        gaps_I += np.bincount(items, minlength=item_count)
        logs_I += np.bincount(items, logs, minlength=item_count)
        buyers_I += np.bincount(np.unique(pairs_E) % item_count, minlength=item_count)
        is_last_E = np.append(~is_repeat_E, True)[: len(pairs_E)]
        ages = np.inf if now_days is None else np.maximum(now_days - days_E[is_last_E], 0)
        waits = np.broadcast_to(1 - 0.5 ** (ages / WAIT_DAYS), is_last_E.sum())
        waits_I += np.bincount(pairs_E[is_last_E] % item_count, waits, minlength=item_count)
    shop_log = logs_I.sum() / max(gaps_I.sum(), 1)
    shop_rate = max(gaps_I.sum(), 1) / max(buyers_I.sum(), 1)
    intervals_I = np.exp((logs_I + ITEM_PRIOR * shop_log) / (gaps_I + ITEM_PRIOR))
    repeats_I = (gaps_I + ITEM_PRIOR * shop_rate) / (buyers_I + ITEM_PRIOR)
    repeats_I[is_bought_once(gaps_I, waits_I, categories_I)] = 0
    return RepurchaseIntervals(intervals_I.astype(np.float32), repeats_I.astype(np.float32))


def is_bought_once(
    gaps_I: NDArray[np.float64],
    waits_I: NDArray[np.float64],
    categories_I: Ints | None = None,
) -> Mask:
    """[I]: items whose purchases are surely not followed by another, like televisions.

    The probability that a purchase is followed by a repeat is gaps / (gaps + waits), `waits_I`
    being the purchases that none followed yet, each by the chance that it would have by now. It is
    shrunk by ITEM_PRIOR purchases to the item's category, and that to the shop, which begins from
    one repeat. An item is bought once where it is below ONCE, or below ONCE_OF_SHOP of the
    shop's."""
    trials_I = gaps_I + waits_I
    shop = max(gaps_I.sum(), 1) / max(trials_I.sum(), 1)
    prior_I = np.full(len(gaps_I), shop)
    if categories_I is not None:
        filled = np.flatnonzero(np.asarray(categories_I) >= 0)
        codes = np.asarray(categories_I)[filled]
        gaps_C, trials_C = np.bincount(codes, gaps_I[filled]), np.bincount(codes, trials_I[filled])
        prior_I[filled] = ((gaps_C + ITEM_PRIOR * shop) / (trials_C + ITEM_PRIOR))[codes]
    probability_I = (gaps_I + ITEM_PRIOR * prior_I) / (trials_I + ITEM_PRIOR)
    return np.asarray(probability_I < max(ONCE, ONCE_OF_SHOP * shop))


def _purchase_days(
    histories: Histories, item_count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct days on which each pair (user x item_count + item) was bought: pairs_E
    ascending, days_E in order.

    Days are counted from the first of the block. Removed items (-1) have none.
    """
    bought_E = (histories.types == PURCHASE) & (histories.items >= 0)
    days_E = np.floor(histories.days[bought_E]).astype(np.int64)
    first = days_E.min() if len(days_E) else 0
    days_E = days_E - first
    span = 1 + int(days_E.max(initial=0))
    pairs_E = histories.owners_E[bought_E] * item_count + histories.items[bought_E]
    keys = np.unique(pairs_E * span + days_E)
    return keys // span, keys % span + first


class RepurchaseRetriever:
    """The items that the request's own history bought, most often and latest first; of those that
    are bought once, only what they themself bought again.

    The score is the user's events with the item, weighted by type, halved every HALF_LIFE_DAYS
    before their last event; with `popularity_I` (of `popularity.decayed_popularity`) times
    (popularity + floor) ^ POPULARITY_POWER, which orders what their own counts leave equal: most
    items were bought once.

    With `repurchase_intervals` also times `repurchase_factors`. Days count up to the request's
    `now_days`, else to the constructor's; where neither is given, only the repeats count."""

    source = "buy_again"

    def __init__(
        self,
        popularity_I: Floats | None = None,
        repurchase_intervals: RepurchaseIntervals | None = None,
        now_days: float | None = None,
    ) -> None:
        self._prior_I, self._intervals, self._now_days = None, repurchase_intervals, now_days
        if popularity_I is not None:
            prior_I = (np.asarray(popularity_I) + POPULARITY_FLOOR) ** POPULARITY_POWER
            self._prior_I = prior_I.astype(np.float32)

    def retrieve(self, requests: Requests, k: int, allowed: Mask | None = None) -> Candidates:
        check_k(k)
        histories = requests.histories
        if histories is None or not len(histories.items):
            return Candidates.none(self.source, requests.size)
        interests = decayed_interests(histories, int(histories.items.max()) + 1, HALF_LIFE_DAYS)
        entries = interests.tocoo()
        owners, rows = entries.coords
        eligible = is_bought(histories, owners, rows)
        if allowed is not None:
            eligible &= allowed[rows]
        if self._intervals is not None:
            is_once = self._intervals.repeats_I[rows] == 0
            eligible &= ~is_once | _has_repeated(histories, owners, rows)
        owners, rows, scores = owners[eligible], rows[eligible], entries.data[eligible]
        if self._prior_I is not None:
            scores = scores * self._prior_I[rows]
        if self._intervals is not None:
            now_days = self._now_days if requests.now_days is None else requests.now_days
            scores = scores * repurchase_factors(histories, self._intervals, owners, rows, now_days)
        return Candidates(self.source, *ragged_top_k(owners, rows, scores, requests.size, k))


def _has_repeated(histories: Histories, owners_P: Ints, rows_P: Ints) -> Mask:
    """[P]: whether the user bought the item on more days than one."""
    width = 1 + max(int(histories.items.max(initial=0)), int(rows_P.max(initial=0)))
    pairs_E, _ = _purchase_days(histories, width)
    pairs, counts = np.unique(pairs_E, return_counts=True)
    return np.isin(owners_P.astype(np.int64) * width + rows_P, pairs[counts > 1])


def repurchase_factors(
    histories: Histories,
    repurchase_intervals: RepurchaseIntervals,
    owners_P: Ints,
    rows_P: Ints,
    now_days: float | None,
) -> Floats:
    """[P]: how likely purchased items are due again; without `now_days` from the repeats alone.

    repeats ^ REPEAT_POWER x exp(-INTERVAL_POWER x ln(d / interval)^2), d the days (at least half of
    one) since the user last bought it and interval the geometric mean of their own gaps, shrunk to
    the item's: what was bought just now is not due, what is long overdue was given up."""
    rates_P = repurchase_intervals.repeats_I[rows_P]
    repeats_P = np.where(rates_P > 0, rates_P, OWN_RATE) ** np.float32(REPEAT_POWER)
    # Counted to each user's last event, their last basket would never be due: hits@10/all UCI
    # -.0104, groceries -.0007.
    if now_days is None or not len(rows_P):
        return repeats_P
    items = len(repurchase_intervals.intervals_I)
    pairs_E, days_E = _purchase_days(histories, items)
    pairs, starts, counts = np.unique(pairs_E, return_index=True, return_counts=True)
    logs_E = np.log(np.maximum(np.diff(days_E, prepend=days_E[:1]), 1))
    logs_E[starts] = 0
    last_days, sums, gaps = days_E[starts + counts - 1], np.add.reduceat(logs_E, starts), counts - 1
    item_logs = np.log(np.maximum(repurchase_intervals.intervals_I[pairs % items], 1e-3))
    log_intervals = (sums + USER_PRIOR * item_logs) / (gaps + USER_PRIOR)
    since = np.maximum(now_days - last_days, 0.5)
    factors = np.exp(-INTERVAL_POWER * (np.log(since) - log_intervals) ** 2)
    positions_P = np.searchsorted(pairs, owners_P.astype(np.int64) * items + rows_P)
    return (factors[positions_P] * repeats_P).astype(np.float32)
