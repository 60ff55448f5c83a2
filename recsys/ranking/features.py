"""The feature table of rankers, computed by the same functions by day and at night.

A column is one of three things. A signal is what the caller has of each candidate already (the
sources' scores, a search's lexical and dense scores, the first stage's score). A feature is a
function of FEATURES over the items (`ItemFeatures`) and the request (`Context`). A vector block is
16 columns named `query.0`..`query.15`, and `item`, `user` and `taste` alike: the query and
the item in the space of texts, the user and the item in that of the user model.

Every column is finite, float32, and 0 where it is unknown; a pad (row -1) has 0 everywhere. Legend
as in `item_features`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.ranking.item_features import Context, EventGroups, ItemFeatures, medians
from recsys.ranking.projection import P
from recsys.types import Floats, Ints, Mask, Rows

#: Pseudo-events that shrink a user's affinities towards 0.
SMOOTHING_EVENTS = 5.0
#: The newness of an item halves in so many days.
NEW_DAYS = 30.0
#: Logs of price ratios stay within this: a factor of 20.
RATIO = 3.0
BLOCKS = ("query", "item", "user", "taste")

Feature = Callable[[ItemFeatures, Context, Rows], Floats]


def feature_table(
    names: Sequence[str],
    item_features: ItemFeatures,
    context: Context,
    rows_BN: Rows,
    signals: Mapping[str, Floats],
) -> Floats:
    """[B, N, F] float32, the columns `names` in their order; a name that nobody has a value for
    is 0 all over.

    `signals` are [B, N] each, by name; a signal replaces the feature of its name. What is not
    finite in them counts as unknown."""
    table_BNF = np.zeros((*rows_BN.shape, len(names)), np.float32)
    blocks, has_events = _Blocks(item_features, context, rows_BN), len(context.histories.items) > 0
    for block, places in _block_places(tuple(names)).items():
        columns, numbers = zip(*places, strict=True)
        table_BNF[:, :, columns] = blocks[block][..., numbers]
    for column, name in enumerate(names):
        if name in signals:
            table_BNF[:, :, column] = np.nan_to_num(signals[name], nan=0.0, posinf=0.0, neginf=0.0)
        elif name in FEATURES and (has_events or name not in OF_EVENTS):
            table_BNF[:, :, column] = FEATURES[name](item_features, context, rows_BN)
    table_BNF[rows_BN < 0] = 0
    return table_BNF


def column_names(signals: Sequence[str] | Mapping[str, Any]) -> tuple[str, ...]:
    """The columns of the whole table: the signals, the features, the vector blocks."""
    return (*signals, *(name for name in FEATURES if name not in signals), *_COLUMNS)


@lru_cache(64)
def _block_places(names: tuple[str, ...]) -> dict[str, list[tuple[int, int]]]:
    """Of each vector block the columns of the table, and the numbers that stand in them."""
    places: dict[str, list[tuple[int, int]]] = {}
    for column, name in enumerate(names):
        if name in _COLUMNS:
            block, number = _COLUMNS[name]
            places.setdefault(block, []).append((column, number))
    return places


class _Blocks(dict[str, Floats]):
    """The vector blocks, each [B or 1, N or 1, P]; looked up when first needed."""

    def __init__(self, item_features: ItemFeatures, context: Context, rows_BN: Rows) -> None:
        self.of = {
            "query": lambda: context.query_BP[:, None],
            "item": lambda: item_features.item_projected_IP[rows_BN],
            "user": lambda: context.user_BP[:, None],
            "taste": lambda: item_features.taste_projected_IP[rows_BN],
        }

    def __missing__(self, name: str) -> Floats:
        self[name] = self.of[name]()
        return self[name]


_COLUMNS = {f"{block}.{at}": (block, at) for block in BLOCKS for at in range(P)}

# The features. Each is [B, N] float32 of the item features, a context and rows_BN; what it gives
# for a pad means nothing.


def in_stock_feature(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """1 where the item can be bought now, else 0."""
    return item_features.in_stock_I[rows_BN].astype(np.float32)


def log_price_feature(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """log(1 + price), the price in the shop's currency. Unknown, or not above 0: 0."""
    logs_BN = item_features.log_prices_I[rows_BN]
    return np.logaddexp(np.float32(0), np.where(np.isnan(logs_BN), -np.inf, logs_BN)).astype(
        np.float32
    )


def price_to_category_feature(
    item_features: ItemFeatures, context: Context, rows_BN: Rows
) -> Floats:
    """Log of the price over the median price of the item's category, within +-RATIO. No price or no
    category: 0."""
    return _ratio(item_features.log_price_to_category_I[rows_BN])


def price_to_usual_feature(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """Log of the price over the median price of what the user acted on, within +-RATIO; an event
    counts with what it says one piece cost, else with its item's price now. No price, or a user
    without a priced event: 0."""
    paid_E = np.where(
        np.isnan(context.log_prices_E),
        item_features.log_prices_I[context.histories.items],
        context.log_prices_E,
    )
    usual_B = medians(paid_E, context.owners_E, len(context))
    return _ratio(item_features.log_prices_I[rows_BN] - usual_B[:, None])


def price_level_feature(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """`price_to_category` of the item less the median of that of what the user acted on, at prices
    of now, within +-RATIO: is it dear for someone who buys as cheap as they do? Either unknown:
    0."""
    level_E = item_features.log_price_to_category_I[context.histories.items]
    usual_B = medians(level_E, context.owners_E, len(context))
    return _ratio(item_features.log_price_to_category_I[rows_BN] - usual_B[:, None])


def price_change_feature(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """Log of the price over what one piece cost when this user last acted on it and the event said
    so, within +-RATIO: below 0 it became cheaper. Never, or no price: 0."""
    paid_BN = context.priced.last(rows_BN, context.log_prices_E)
    return _ratio(item_features.log_prices_I[rows_BN] - paid_BN)


def popular_feature(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """log(1 + popularity): events of late by everyone, as `retrieval.popularity` weighs them.
    Nothing yet: 0."""
    return np.log1p(np.maximum(item_features.popularity_I[rows_BN], 0)).astype(np.float32)


def touches_feature(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """log(1 + events with the item, of any type, by everyone, ever). Nothing yet: 0."""
    return np.log1p(item_features.touches_TI[:, rows_BN].sum(axis=0)).astype(np.float32)


def conversion_feature(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """(purchases + m c) / (events of any type + c) with c = SMOOTHING_TOUCHES and m the same
    share in the whole shop: 0 to 1. An item without events has m; a shop without any 0."""
    return item_features.conversion_I[rows_BN]


def attraction_feature(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """(clicks + m c) / (examined impressions + c) with c = SMOOTHING_EXPOSURE and m the same rate
    in the whole shop: what `item_clicks.count_item_clicks` counts, the click rate without the
    effect of the place. An item that nobody was shown has m; a shop that logged none 0."""
    return item_features.attraction_I[rows_BN]


def exposure_feature(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """log(1 + examined impressions), as `item_clicks.count_item_clicks` counts them. Never shown:
    0."""
    return np.log1p(item_features.exposure_I[rows_BN]).astype(np.float32)


def newness_feature(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """2^(-age / NEW_DAYS), the age in days since the item was first seen or added: 1 today,
    falling. Unknown: 0."""
    ages_BN = np.maximum(context.now_days - item_features.first_days_I[rows_BN], 0)
    return _zero_unknown(
        np.where(np.isfinite(item_features.first_days_I[rows_BN]), np.exp2(-ages_BN / NEW_DAYS), 0)
    )


def touched_lately_feature(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """1 / (1 + days since this user last acted on the item): 1 just now, 0.5 yesterday. Never:
    0."""
    days_BN = context.touched.last(rows_BN, context.histories.days)
    return _zero_unknown(1 / (1 + np.maximum(context.now_days - days_BN, 0)))


def times_touched_feature(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """log(1 + this user's events with the item, of any type). Never: 0."""
    return np.log1p(context.touched.count(rows_BN)).astype(np.float32)


def times_bought_feature(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """log(1 + this user's purchases of the item). Never: 0."""
    return np.log1p(context.bought.count(rows_BN)).astype(np.float32)


def brand_affinity_feature(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """This user's events with the item's brand over (all their events + SMOOTHING_EVENTS): 0 to 1.
    No brand: 0."""
    return _share(context, item_features.brands_I, rows_BN, None, SMOOTHING_EVENTS)


def category_affinity_feature(
    item_features: ItemFeatures, context: Context, rows_BN: Rows
) -> Floats:
    """This user's events with the item's category over (all their events + SMOOTHING_EVENTS): 0 to
    1. No category: 0."""
    return _share(context, item_features.categories_I, rows_BN, None, SMOOTHING_EVENTS)


def attribute_affinity_feature(
    item_features: ItemFeatures, context: Context, rows_BN: Rows
) -> Floats:
    """This user's events with the item's value of an attribute over (all their events +
    SMOOTHING_EVENTS), the mean over the attributes that the item has: 0 to 1. None: 0."""
    shares_BN, counts_BN = np.zeros(rows_BN.shape, np.float32), np.zeros(rows_BN.shape, np.float32)
    for codes_I in item_features.attribute_codes:
        shares_BN += _share(context, codes_I, rows_BN, None, SMOOTHING_EVENTS)
        counts_BN += codes_I[rows_BN] >= 0
    return (shares_BN / np.maximum(counts_BN, 1)).astype(np.float32)


def session_category_feature(
    item_features: ItemFeatures, context: Context, rows_BN: Rows
) -> Floats:
    """Of this user's events in the last 30 minutes the share with the item's category, as n /
    (events + 1). None: 0."""
    return _share(context, item_features.categories_I, rows_BN, context.session_E, 1.0)


def session_length_feature(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """log(1 + this user's events in the last 30 minutes): where in their session the request
    stands. None: 0."""
    return _of_request(np.log1p(_per_request(context, context.session_E)), rows_BN)


def searched_feature(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """1 in a search, 0 in a recommendation."""
    return np.full(rows_BN.shape, context.surface == "search", np.float32)


def intent_match_feature(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """1 where the item's category is, or lies below, the one that the search text was taken to ask
    for. No intent or no category: 0."""
    if not context.intent_BL.any():
        return np.zeros(rows_BN.shape, np.float32)
    codes_BN = item_features.categories_I[rows_BN]
    is_labelled_BN = (codes_BN >= 0) & (codes_BN < context.intent_BL.shape[1])
    padded_BL = np.pad(context.intent_BL, ((0, 0), (0, 1)))
    return np.take_along_axis(padded_BL, np.where(is_labelled_BN, codes_BN, -1), axis=1).astype(
        np.float32
    )


def known_user_feature(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """log(1 + this user's events, of the newest EVENTS): how much their features can be
    trusted. Nobody: 0."""
    return _of_request(np.log1p(context.lengths_B), rows_BN)


def text_match_feature(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """Inner product of the projected query and item: their cosine, but for what the projection
    lost. No query: 0."""
    return np.einsum("bp,bnp->bn", context.query_BP, item_features.item_projected_IP[rows_BN])


def taste_match_feature(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """Inner product of the projected user and item in the user model's space. No user vector: 0."""
    return np.einsum("bp,bnp->bn", context.user_BP, item_features.taste_projected_IP[rows_BN])


#: Every feature by name, in the order of the table.
FEATURES: Mapping[str, Feature] = {
    feature.__name__.removesuffix("_feature"): feature
    for feature in (
        in_stock_feature,
        log_price_feature,
        price_to_category_feature,
        price_to_usual_feature,
        price_level_feature,
        price_change_feature,
        popular_feature,
        touches_feature,
        conversion_feature,
        attraction_feature,
        exposure_feature,
        newness_feature,
        touched_lately_feature,
        times_touched_feature,
        times_bought_feature,
        brand_affinity_feature,
        category_affinity_feature,
        session_category_feature,
        session_length_feature,
        searched_feature,
        intent_match_feature,
        known_user_feature,
        text_match_feature,
        taste_match_feature,
        attribute_affinity_feature,
    )
}

#: Those of what the user did: 0 for everybody without an event.
OF_EVENTS = frozenset((
    "price_to_usual", "price_level", "price_change", "touched_lately", "times_touched",
    "times_bought", "brand_affinity", "category_affinity", "attribute_affinity",
    "session_category", "session_length", "known_user",
))  # fmt: skip


def _zero_unknown(values: NDArray[Any]) -> Floats:
    """NaN, which is unknown, to 0."""
    return np.where(np.isnan(values), 0, values).astype(np.float32)


def _ratio(logs: NDArray[Any]) -> Floats:
    return _zero_unknown(np.clip(logs, -RATIO, RATIO))


def _share(
    context: Context, codes_I: Ints, rows_BN: Rows, mask_E: Mask | None, of_none: float
) -> Floats:
    """Of each request's events in `mask_E` the share with the code of each row, with `of_none`
    events of no code more."""
    groups = EventGroups.of(context.owners_E, codes_I[context.histories.items], mask_E)
    events_B = context.lengths_B if mask_E is None else _per_request(context, mask_E)
    return (groups.count(codes_I[rows_BN]) / (events_B[:, None] + of_none)).astype(np.float32)


def _per_request(context: Context, mask_E: Mask) -> Ints:
    return np.bincount(context.owners_E[mask_E], minlength=len(context))


def _of_request(values_B: NDArray[Any], rows_BN: Rows) -> Floats:
    return np.broadcast_to(values_B[:, None], rows_BN.shape).astype(np.float32)
