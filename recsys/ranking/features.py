"""What a ranker sees of an item: one table, computed by the same functions by day and at night.

A column is one of three things. A signal is what the caller knows of each candidate already (the
sources' scores, a search's lexical and dense scores, the first stage's score). A feature is a
function of FEATURES over what the release knows (`ItemFeatures`) and who asks (`Context`). A vector
block is 16 columns named `query.0`..`query.15`, and `item`, `user` and `taste` alike: the query and
the item in the space of texts, the user and the item in that of the user model.

Every column is finite, float32, and 0 where it is unknown; a pad (row -1) has 0 everywhere. Legend
as in `item_features`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.ranking.item_features import Context, ItemFeatures, Runs, medians
from recsys.ranking.projection import P
from recsys.types import Floats, Ints, Mask, Rows

#: How many events of none weigh against a user's own in his affinities.
EVENTS_OF_NONE = 5.0
#: The newness of an item halves in so many days.
NEW_DAYS = 30.0
#: Logs of price ratios stay within this: a factor of 20.
RATIO = 3.0
BLOCKS = ("query", "item", "user", "taste")

Feature = Callable[[ItemFeatures, Context, Rows], Floats]


def table(
    names: Sequence[str],
    item_features: ItemFeatures,
    context: Context,
    rows_BN: Rows,
    signals: Mapping[str, Floats],
) -> Floats:
    """[B, N, F] float32, the columns `names` in their order; a name that nobody has a value for is
    0 all over.

    `signals` are [B, N] each, by name. One of the name of a feature goes before it. What is not
    finite in them counts as unknown."""
    table_BNF = np.zeros((*rows_BN.shape, len(names)), np.float32)
    blocks = _Blocks(item_features, context, rows_BN)
    for at, name in enumerate(names):
        if name in signals:
            table_BNF[:, :, at] = np.nan_to_num(signals[name], nan=0.0, posinf=0.0, neginf=0.0)
        elif name in FEATURES:
            table_BNF[:, :, at] = FEATURES[name](item_features, context, rows_BN)
        elif (place := _COLUMNS.get(name)) is not None:
            table_BNF[:, :, at] = blocks[place[0]][..., place[1]]
    table_BNF[rows_BN < 0] = 0
    return table_BNF


def names(signals: Sequence[str] | Mapping[str, Any]) -> tuple[str, ...]:
    """The columns of the whole table: the signals, the features, the vector blocks."""
    return (*signals, *(name for name in FEATURES if name not in signals), *_COLUMNS)


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

# The features. Each is [B, N] float32 of a item_features, a context and rows_BN; what it gives for
# a pad means nothing.


def in_stock(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """1 where the item can be bought now, else 0."""
    return item_features.in_stock_I[rows_BN].astype(np.float32)


def log_price(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """log(1 + price), the price in the shop's currency. Unknown, or not above 0: 0."""
    logs_BN = item_features.log_prices_I[rows_BN]
    return np.logaddexp(np.float32(0), np.where(np.isnan(logs_BN), -np.inf, logs_BN)).astype(
        np.float32
    )


def price_to_category(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """Log of the price over the median price of the item's category, within +-RATIO. No price or no
    category: 0."""
    return _ratio(item_features.log_price_to_category_I[rows_BN])


def price_to_usual(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
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


def price_level(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """`price_to_category` of the item less the median of that of what the user acted on, at prices
    of now, within +-RATIO: is it dear for someone who buys as cheap as he does? Either unknown:
    0."""
    level_E = item_features.log_price_to_category_I[context.histories.items]
    usual_B = medians(level_E, context.owners_E, len(context))
    return _ratio(item_features.log_price_to_category_I[rows_BN] - usual_B[:, None])


def price_change(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """Log of the price over what one piece cost when this user last acted on it and the event said
    so, within +-RATIO: below 0 it became cheaper. Never, or no price: 0."""
    seen_BN = context.priced.last(rows_BN, context.log_prices_E)
    return _ratio(item_features.log_prices_I[rows_BN] - seen_BN)


def popular(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """log(1 + popularity): events of late by everyone, as `retrieval.popularity` weighs them.
    Nothing yet: 0."""
    return np.log1p(np.maximum(item_features.popularity_I[rows_BN], 0)).astype(np.float32)


def touches(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """log(1 + events with the item, of any type, by everyone, ever). Nothing yet: 0."""
    return np.log1p(item_features.touches_TI[:, rows_BN].sum(axis=0)).astype(np.float32)


def conversion(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """(purchases + m c) / (events of any type + c) with c = TOUCHES_OF_THE_MEAN and m the same
    share in the whole shop: 0 to 1. An item without events has m; a shop without any 0."""
    return item_features.conversion_I[rows_BN]


def attraction(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """(clicks + m c) / (examined impressions + c) with c = EXPOSURE_OF_THE_MEAN and m the same rate
    in the whole shop: what `item_clicks.count_item_clicks` counts, the click rate without the
    effect of the place. An item that nobody was shown has m; a shop that logged none 0."""
    return item_features.attraction_I[rows_BN]


def exposure(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """log(1 + examined impressions), as `item_clicks.count_item_clicks` counts them. Never shown:
    0."""
    return np.log1p(item_features.exposure_I[rows_BN]).astype(np.float32)


def newness(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """2^(-age / NEW_DAYS), the age in days since the item was first seen or added: 1 today,
    falling. Unknown: 0."""
    ages_BN = np.maximum(context.now_days - item_features.first_days_I[rows_BN], 0)
    return _known(
        np.where(np.isfinite(item_features.first_days_I[rows_BN]), np.exp2(-ages_BN / NEW_DAYS), 0)
    )


def touched_lately(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """1 / (1 + days since this user last acted on the item): 1 just now, 0.5 yesterday. Never:
    0."""
    days_BN = context.touched.last(rows_BN, context.histories.days)
    return _known(1 / (1 + np.maximum(context.now_days - days_BN, 0)))


def times_touched(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """log(1 + this user's events with the item, of any type). Never: 0."""
    return np.log1p(context.touched.count(rows_BN)).astype(np.float32)


def times_bought(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """log(1 + this user's purchases of the item). Never: 0."""
    return np.log1p(context.bought.count(rows_BN)).astype(np.float32)


def brand_affinity(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """This user's events with the item's brand over (all his events + EVENTS_OF_NONE): 0 to 1. No
    brand: 0."""
    return _share(context, item_features.brands_I, rows_BN, None, EVENTS_OF_NONE)


def category_affinity(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """This user's events with the item's category over (all his events + EVENTS_OF_NONE): 0 to 1.
    No category: 0."""
    return _share(context, item_features.categories_I, rows_BN, None, EVENTS_OF_NONE)


def session_category(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """Of this user's events in the last 30 minutes the share with the item's category, as n /
    (events + 1). None: 0."""
    return _share(context, item_features.categories_I, rows_BN, context.session_E, 1.0)


def session_length(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """log(1 + this user's events in the last 30 minutes): where in his session the request stands.
    None: 0."""
    return _of_request(np.log1p(_per_request(context, context.session_E)), rows_BN)


def searched(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """1 in a search, 0 in a recommendation."""
    return np.full(rows_BN.shape, context.surface == "search", np.float32)


def intent_match(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """1 where the item's category is, or lies below, the one that the search text was taken to ask
    for. No intent or no category: 0."""
    codes_BN = item_features.categories_I[rows_BN]
    known_BN = (codes_BN >= 0) & (codes_BN < context.intent_BL.shape[1])
    padded_BL = np.pad(context.intent_BL, ((0, 0), (0, 1)))
    return np.take_along_axis(padded_BL, np.where(known_BN, codes_BN, -1), axis=1).astype(
        np.float32
    )


def known_user(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """log(1 + this user's events, of the newest EVENTS): how much the features of his can be
    trusted. Nobody: 0."""
    return _of_request(np.log1p(context.lengths_B), rows_BN)


def text_match(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """Inner product of the projected query and item: their cosine, but for what the projection
    lost. No query: 0."""
    return np.einsum("bp,bnp->bn", context.query_BP, item_features.item_projected_IP[rows_BN])


def taste_match(item_features: ItemFeatures, context: Context, rows_BN: Rows) -> Floats:
    """Inner product of the projected user and item in the user model's space. No user vector: 0."""
    return np.einsum("bp,bnp->bn", context.user_BP, item_features.taste_projected_IP[rows_BN])


#: Every feature by name, in the order of the table.
FEATURES: Mapping[str, Feature] = {
    feature.__name__: feature
    for feature in (
        in_stock, log_price, price_to_category, price_to_usual, price_level, price_change, popular, touches,
        conversion, attraction, exposure, newness, touched_lately, times_touched, times_bought, brand_affinity,
        category_affinity, session_category, session_length, searched, intent_match, known_user, text_match,
        taste_match,
    )
}  # fmt: skip


def _known(values: NDArray[Any]) -> Floats:
    """NaN, which is unknown, to 0."""
    return np.where(np.isnan(values), 0, values).astype(np.float32)


def _ratio(logs: NDArray[Any]) -> Floats:
    return _known(np.clip(logs, -RATIO, RATIO))


def _share(
    context: Context, codes_I: Ints, rows_BN: Rows, kept_E: Mask | None, of_none: float
) -> Floats:
    """Of each request's kept events the share with the code of each row, with `of_none` events of
    no code more."""
    runs = Runs.of(context.owners_E, codes_I[context.histories.items], kept_E)
    events_B = context.lengths_B if kept_E is None else _per_request(context, kept_E)
    return (runs.count(codes_I[rows_BN]) / (events_B[:, None] + of_none)).astype(np.float32)


def _per_request(context: Context, kept_E: Mask) -> Ints:
    return np.bincount(context.owners_E[kept_E], minlength=len(context))


def _of_request(values_B: NDArray[Any], rows_BN: Rows) -> Floats:
    return np.broadcast_to(values_B[:, None], rows_BN.shape).astype(np.float32)
