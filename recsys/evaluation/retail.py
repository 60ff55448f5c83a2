"""How well histories foretell baskets: the split, the contenders and the scores of the retail
evaluation.

A shop's log is cut at a date. Before it lie the histories; from it on, the truth. "all" scores
every item that a user bought from then on; "new" only those he had never bought before, in lists
without those that he had. Legend: U users, B users of a block, I items, K places."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys import metrics
from recsys.datasets.validate import check_items, deduplicate
from recsys.encoders.text import item_texts
from recsys.interfaces import DatasetAdapter, Encoder, Ranker, UserModel
from recsys.intervals import bootstrap_mean
from recsys.pipeline import sources
from recsys.pipeline.candidates import ranked
from recsys.pipeline.mixing import asking
from recsys.ranking.linear import RETAIL_WEIGHTS, LinearRanker
from recsys.ranking.mixer import Mixer
from recsys.retrieval.behaviour.sparse import is_bought, sparse_rows
from recsys.retrieval.similar import content_neighbours
from recsys.types import PURCHASE, Floats, Histories, Ints, utc_days
from recsys.users.recency import RecencyMean

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from recsys.training.mixer import MixerExample

K = 10
#: Neighbours by content of an item.
CONTENT = 50
USERS_PER_BLOCK = 256
#: How many periods before the truth the mixer learns from.
PERIODS = 3

#: Histories end at the first date, the truth at the second. Validation is as long as the test and
#: ends where it begins.
TEST = {
    "completejourney": (datetime(2017, 12, 25, tzinfo=UTC), datetime(2018, 1, 2, tzinfo=UTC)),
    "uci_online_retail": (datetime(2011, 11, 10, tzinfo=UTC), datetime(2011, 12, 10, tzinfo=UTC)),
}

Truth = tuple[NDArray[np.int64], NDArray[np.int32]]
#: K rows for each user: of all items, and of those he never bought.
Answers = tuple[Ints, Ints]
Contender = Callable[[Histories], Answers]


@dataclass(frozen=True)
class Split:
    """All histories before a date; of the users who bought on both sides of it (`asked`), histories
    and truths.

    A truth is offsets [U + 1] and distinct item rows, as `metrics` takes it.
    """

    histories: Histories
    asked: Histories
    all: Truth
    new: Truth
    item_count: int
    now_days: float


def purchases(adapter: DatasetAdapter) -> pa.Table:
    """The usable rows of a log: purchases by somebody of more than nothing, as user_id, item_id,
    time."""
    kept = []
    for chunk in adapter.event_chunks():
        raw = adapter.read_events(chunk)
        usable = pc.and_(pc.equal(raw["type"], "purchase"), pc.is_valid(raw["user_id"]))
        kept.append(
            raw.filter(pc.and_(usable, pc.greater(raw["quantity"], 0))).select(
                ["user_id", "item_id", "time"]
            )
        )
    return pa.concat_tables(kept)


def split(log: pa.Table, start: datetime, stop: datetime) -> Split:
    """Histories before `start`, truth in start <= time < stop."""
    users, items = (_numbered(log[name]) for name in ("user_id", "item_id"))
    days = np.asarray(log["time"].cast(pa.int64())) / 86_400e6
    past, future = days < utc_days(start), (days >= utc_days(start)) & (days < utc_days(stop))
    known = np.intersect1d(users[past], users[future])
    asked_past, asked_future = past & np.isin(users, known), future & np.isin(users, known)
    asked = _histories(users[asked_past], items[asked_past], days[asked_past])
    everything = np.unique(
        np.stack([np.searchsorted(known, users[asked_future]), items[asked_future]]), axis=1
    )
    unseen = everything[:, ~is_bought(asked, *everything)]
    return Split(
        _histories(users[past], items[past], days[past]),
        asked,
        _truth(everything, len(known)),
        _truth(unseen, len(known)),
        int(items.max()) + 1,
        utc_days(start),
    )


@dataclass(frozen=True)
class Shelf:
    """The log's items in the order of `Split`'s rows: their table, encoded texts, categories, and
    likeness."""

    items: pa.Table
    vectors_ID: Floats
    categories_I: Ints
    content: sources.Neighbours


def shelf(adapter: DatasetAdapter, log: pa.Table, encoder: Encoder) -> Shelf:
    """Each distinct text is encoded once; an item without one has zeros."""
    ids = pc.unique(log["item_id"]).sort()
    raw = pa.concat_tables(
        [check_items(adapter.read_items(c), c.path, c.start).good for c in adapter.item_chunks()]
    )
    known = deduplicate(raw, "item_id").good
    places = pc.index_in(ids, value_set=known["item_id"].combine_chunks())
    items = known.take(places).set_column(known.schema.get_field_index("item_id"), "item_id", ids)
    texts = pa.array(item_texts(items)).dictionary_encode()
    texts_I, distinct = np.asarray(texts.indices).astype(np.int64), texts.dictionary.to_pylist()
    vectors_TD = encoder.encode_items(distinct)
    vectors_TD[[not text for text in distinct]] = 0
    vectors_ID, everything = vectors_TD[texts_I], range(len(texts_I))
    near = content_neighbours(
        items, texts_I, vectors_ID, everything, CONTENT, allowed_I=np.ones(len(texts_I), bool)
    )
    return Shelf(items, vectors_ID, sources.categories(items), (near.rows_BN, near.scores_BN))


def _numbered(ids: pa.ChunkedArray) -> NDArray[np.int64]:
    """0, 1, 2 ... for each distinct id, in the ids' order."""
    return np.asarray(pc.rank(ids, tiebreaker="dense")).astype(np.int64) - 1


def _histories(users_E: Ints, items_E: Ints, days_E: NDArray[np.float64]) -> Histories:
    order = np.lexsort((items_E, days_E, users_E))
    counts = np.unique(users_E, return_counts=True)[1]
    types_E = np.full(len(order), PURCHASE, np.int8)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return Histories(
        offsets=offsets, items=items_E[order].astype(np.int32), types=types_E, days=days_E[order]
    )


def _truth(pairs_2E: Ints, users: int) -> Truth:
    counts = np.bincount(pairs_2E[0], minlength=users)
    return np.concatenate([[0], np.cumsum(counts)]), pairs_2E[1].astype(np.int32)


def contenders(shop: Split, shelf: Shelf, mixer: Mixer) -> dict[str, Contender]:
    """The floors and rivals by name, four of the product's sources blended by fixed weights
    (`fixed_blend`), and `nightshelf`: all of them, mixed."""
    past = shop.histories
    counts_UI = sparse_rows(
        past.owners_E, past.items, np.ones(len(past.items)), len(past), shop.item_count
    )
    once_UI = counts_UI.sign()
    buyers_I = once_UI.sum(axis=0).astype(np.float32)
    ties_I = buyers_I / (1 + buyers_I.max())
    cosine_UI = once_UI.multiply(1 / np.sqrt(np.maximum(buyers_I, 1))).tocsr()
    noise = np.random.default_rng(0)
    scored: dict[str, Callable[[csr_array], Floats]] = {
        "random": lambda mine_BI: noise.random(mine_BI.shape, np.float32),
        "popularity": lambda mine_BI: np.tile(buyers_I, (mine_BI.shape[0], 1)),
        "own_frequency": lambda mine_BI: mine_BI.toarray() + ties_I,
        # The same as mine x (items x items), without that matrix's 259 million cosines.
        "item_knn": lambda mine_BI: _without_itself(mine_BI.sign(), cosine_UI),
    }
    lists = {name: partial(_by_scores, score, shop.item_count) for name, score in scored.items()}
    of = fitted(shop, shelf)
    rankers: dict[str, Ranker] = {"fixed_blend": LinearRanker(RETAIL_WEIGHTS), "nightshelf": mixer}
    return {**lists, **{name: blend(of, ranker, RecencyMean()) for name, ranker in rankers.items()}}


def _without_itself(mine_BI: csr_array, cosine_UI: csr_array) -> Floats:
    """Summed cosines of each item with those of `mine`, its cosine with itself (1) left out."""
    buyers_I = cosine_UI.power(2).sum(axis=0)
    return ((mine_BI @ cosine_UI.T) @ cosine_UI).toarray() - mine_BI.toarray() * buyers_I


def _by_scores(score: Callable[[csr_array], Floats], item_count: int, asked: Histories) -> Answers:
    mine_BI = sparse_rows(
        asked.owners_E, asked.items, np.ones(len(asked.items)), len(asked), item_count
    )
    scores_BI = score(mine_BI)
    everything = _top(scores_BI)
    scores_BI[mine_BI.nonzero()] = -np.inf
    return everything, _top(scores_BI)


def _top(scores_BI: Floats) -> Ints:
    top_BK = np.argpartition(-scores_BI, K, axis=1)[:, :K]
    order = np.argsort(-np.take_along_axis(scores_BI, top_BK, axis=1), axis=1, kind="stable")
    return np.take_along_axis(top_BK, order, axis=1)


def fitted(shop: Split, shelf: Shelf) -> sources.Fitted:
    """The product's sources, fitted to the histories as a night does it."""
    return sources.fit(
        shop.histories, shop.now_days, shelf.vectors_ID, shelf.content, shelf.categories_I
    )


def learned(
    log: pa.Table, start: datetime, stop: datetime, shelf: Shelf, periods: int = PERIODS
) -> Mixer:
    """A mixer of all sources that learned from the `periods` before `start`, each as long as start
    to stop: sources fitted to the log before a period, asked for its buyers, and what they bought
    in it. Nothing from `start` on is seen."""
    from recsys.training.mixer import fit_mixer  # loads torch

    length = stop - start
    shops = (
        split(log, start - number * length, stop - number * length)
        for number in range(1, periods + 1)
    )
    made = (example for shop in shops if len(shop.asked) for example in _examples(shop, shelf))
    return fit_mixer(made, sources.SOURCES, RETAIL_WEIGHTS)


def _examples(shop: Split, shelf: Shelf) -> Iterator[MixerExample]:
    from recsys.training.mixer import mixer_examples

    ask = asking(fitted(shop, shelf), sources.SOURCES, RecencyMean(), K)
    return mixer_examples(lambda asked: ask(asked)[:2], shop.asked, shop.all, USERS_PER_BLOCK)


def blend(of: sources.Fitted, ranker: Ranker, users: UserModel) -> Contender:
    """The product's own list. For new items only, what was bought is left out of it."""
    ask = asking(of, ranker.feature_names, users, K)

    def answer(asked: Histories) -> Answers:
        gathered = ask(asked)
        rows_BN = ranked(ranker, ranker.feature_names, *gathered, gathered[0].shape[1]).rows_BK
        owners, places = np.nonzero(rows_BN >= 0)
        bought_BN = rows_BN < 0
        bought_BN[owners, places] = is_bought(asked, owners, rows_BN[owners, places])
        new_first = np.argsort(bought_BN, axis=1, kind="stable")
        new_BN = np.take_along_axis(np.where(bought_BN, -1, rows_BN), new_first, axis=1)
        return rows_BN[:, :K], new_BN[:, :K]

    return answer


def evaluate(shop: Split, contender: Contender) -> dict[str, float | list[float]]:
    """hits@10 and ndcg@10 of "all" and "new", 95 % bootstrap intervals over users, and coverage."""
    starts = range(0, len(shop.asked), USERS_PER_BLOCK)
    blocks = [
        shop.asked.slice(start, min(start + USERS_PER_BLOCK, len(shop.asked))) for start in starts
    ]
    answers = [np.concatenate(parts) for parts in zip(*map(contender, blocks), strict=True)]
    row: dict[str, float | list[float]] = {}
    for name, rows_UK, truth in zip(("all", "new"), answers, (shop.all, shop.new), strict=True):
        hits_U = metrics.hits_at_k(rows_UK, *truth, K)
        row[f"hits@{K}/{name}"] = metrics.mean(hits_U)
        row[f"hits@{K}/{name}/interval"] = list(bootstrap_mean(hits_U))
        row[f"ndcg@{K}/{name}"] = metrics.mean(metrics.ndcg_at_k(rows_UK, *truth, K))
    return {**row, "coverage": metrics.coverage(answers[0], shop.item_count)}
