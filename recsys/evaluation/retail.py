"""Evaluation of next-basket recommendation: baselines, nightshelf, and their metrics.

"all" scores every item that a user buys after the split; "new" only those that they never bought
before, in lists without those that they did. Legend: U users, B users of a block, I items, N
candidates, K positions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from recsys import metrics
from recsys.arrays import Histories
from recsys.evaluation.retail_split import BasketSplit, RetailItems, split_at
from recsys.interfaces import Ranker, UserModel
from recsys.intervals import bootstrap_mean
from recsys.pipeline import sources
from recsys.pipeline.candidates import candidate_generator, rank_table
from recsys.ranking.linear import RETAIL_WEIGHTS, LinearRanker
from recsys.ranking.mixer import Mixer
from recsys.retrieval.behaviour.sparse import is_bought, sparse_rows
from recsys.types import Floats, Ints
from recsys.users.recency import RecencyMean

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from recsys.training.mixer import MixerExample

K = 10
USERS_PER_BLOCK = 256
#: The number of periods before the test that the mixer is trained on.
PERIODS = 3

#: K rows for each user: of all items, and of those that they never bought.
Lists = tuple[Ints, Ints]
BasketSystem = Callable[[Histories], Lists]


def retail_systems(split: BasketSplit, items: RetailItems, mixer: Mixer) -> dict[str, BasketSystem]:
    """By name: the baselines; `fixed_blend`, four sources of nightshelf with fixed weights; and
    `nightshelf`, all sources and the trained mixer."""
    scores = _baseline_scores(split)
    baselines = {name: partial(_top_lists, score, split) for name, score in scores.items()}
    fitted = fit_sources(split, items)
    rankers: dict[str, Ranker] = {"fixed_blend": LinearRanker(RETAIL_WEIGHTS), "nightshelf": mixer}
    systems = {name: mixed_lists(fitted, each, RecencyMean()) for name, each in rankers.items()}
    return {**baselines, **systems}


def _baseline_scores(split: BasketSplit) -> dict[str, Callable[[csr_array], Floats]]:
    """By name: scores [B, I] of event counts [B, I]."""
    once_UI = _counts(split.histories, split.item_count).sign()
    buyers_I = once_UI.sum(axis=0).astype(np.float32)
    ties_I = buyers_I / (1 + buyers_I.max())
    cosine_UI = once_UI.multiply(1 / np.sqrt(np.maximum(buyers_I, 1))).tocsr()
    noise = np.random.default_rng(0)
    return {
        "random": lambda counts_BI: noise.random(counts_BI.shape, np.float32),
        "popularity": lambda counts_BI: np.tile(buyers_I, (counts_BI.shape[0], 1)),
        "own_frequency": lambda counts_BI: counts_BI.toarray() + ties_I,
        "item_knn": lambda counts_BI: _item_knn(counts_BI.sign(), cosine_UI),
    }


def _item_knn(bought_BI: csr_array, cosine_UI: csr_array) -> Floats:
    """Each item's summed cosines with those of `bought_BI`, without its cosine with itself (1).

    Equal to bought_BI x (items x items), without that matrix's 259 million cosines."""
    buyers_I = cosine_UI.power(2).sum(axis=0)
    return ((bought_BI @ cosine_UI.T) @ cosine_UI).toarray() - bought_BI.toarray() * buyers_I


def _counts(histories: Histories, item_count: int) -> csr_array:
    """[B, I]: events of each user and item."""
    ones = np.ones(len(histories.items))
    return sparse_rows(histories.owners_E, histories.items, ones, len(histories), item_count)


def _top_lists(
    score: Callable[[csr_array], Floats], split: BasketSplit, histories: Histories
) -> Lists:
    counts_BI = _counts(histories, split.item_count)
    scores_BI = score(counts_BI)
    all_BK = _top(scores_BI)
    scores_BI[counts_BI.nonzero()] = -np.inf
    return all_BK, _top(scores_BI)


def _top(scores_BI: Floats) -> Ints:
    top_BK = np.argpartition(-scores_BI, K, axis=1)[:, :K]
    order = np.argsort(-np.take_along_axis(scores_BI, top_BK, axis=1), axis=1, kind="stable")
    return np.take_along_axis(top_BK, order, axis=1)


def fit_sources(split: BasketSplit, items: RetailItems) -> sources.SourceData:
    """Nightshelf's sources, fitted to the histories as in a night."""
    return sources.fit_source_data(
        split.histories,
        split.now_days,
        items_ID=items.vectors_ID,
        content=items.content,
        categories_I=items.categories_I,
    )


def train_retail_mixer(
    log: pa.Table, start: datetime, stop: datetime, items: RetailItems, periods: int = PERIODS
) -> Mixer:
    """A mixer of all sources trained on the `periods` before `start`, each as long as start to
    stop: sources are fitted to the log before a period, and the mixer ranks their candidates for
    what users buy in it. Nothing from `start` on is used."""
    from recsys.training.mixer import fit_mixer  # loads torch

    length = stop - start
    splits = (
        split_at(log, start - number * length, stop - number * length)
        for number in range(1, periods + 1)
    )
    examples = (one for split in splits if len(split.users) for one in _examples(split, items))
    return fit_mixer(examples, sources.SOURCES, RETAIL_WEIGHTS)


def _examples(split: BasketSplit, items: RetailItems) -> Iterator[MixerExample]:
    from recsys.training.mixer import mixer_examples

    generate = candidate_generator(fit_sources(split, items), sources.SOURCES, RecencyMean(), K)
    return mixer_examples(generate, split.users, split.all, USERS_PER_BLOCK)


def mixed_lists(fitted: sources.SourceData, ranker: Ranker, users: UserModel) -> BasketSystem:
    """Nightshelf's lists: candidates of the ranker's sources, ranked; the list of new items is the
    same without those that the user bought."""
    generate = candidate_generator(fitted, ranker.feature_names, users, K)

    def recommend(histories: Histories) -> Lists:
        candidates = generate(histories)
        most = candidates.rows_BN.shape[1]
        rows_BN = rank_table(ranker, candidates, most).rows_BK
        at = np.nonzero(rows_BN >= 0)
        bought_BN = rows_BN < 0
        bought_BN[at] = is_bought(histories, at[0], rows_BN[at])
        new_first = np.argsort(bought_BN, axis=1, kind="stable")
        new_BN = np.take_along_axis(np.where(bought_BN, -1, rows_BN), new_first, axis=1)
        return rows_BN[:, :K], new_BN[:, :K]

    return recommend


def basket_scores(split: BasketSplit, system: BasketSystem) -> dict[str, float | list[float]]:
    """hits@10 and ndcg@10 of "all" and "new", 95 % bootstrap intervals over users, and coverage."""
    users = split.users
    starts = range(0, len(users), USERS_PER_BLOCK)
    blocks = [users.slice(at, min(at + USERS_PER_BLOCK, len(users))) for at in starts]
    lists = [np.concatenate(parts) for parts in zip(*map(system, blocks), strict=True)]
    row: dict[str, float | list[float]] = {}
    for name, rows_UK, truth in zip(("all", "new"), lists, (split.all, split.new), strict=True):
        hits_U = metrics.hits_at_k(rows_UK, *truth, K)
        row[f"hits@{K}/{name}"] = metrics.mean(hits_U)
        row[f"hits@{K}/{name}/interval"] = list(bootstrap_mean(hits_U))
        row[f"ndcg@{K}/{name}"] = metrics.mean(metrics.ndcg_at_k(rows_UK, *truth, K))
    return {**row, "coverage": metrics.coverage(lists[0], split.item_count)}
