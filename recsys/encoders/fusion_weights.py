"""How much description and picture weigh in an item's vector: chosen on pairs of a query and the
item it is of. Where a shop has no clicks, half of a title is the query, and its item has the other
half, the description and the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from recsys.encoders.fusion import Fusion, ItemMedia, NamedClasses
from recsys.intervals import bootstrap_mean
from recsys.types import Floats

DESCRIPTION_GRID = (0.5, 1.0, 2.0)
#: Not less than the default: a title's half asks for the very item, and says little of how much
#: looks find of its kind.
PICTURE_GRID = (0.5, 1.0, 1.5)
#: Fewer pairs choose nothing.
MIN_PAIRS = 40


@dataclass(frozen=True)
class WeightChoice:
    """The fusion with its weights, and what its picture adds to the reciprocal rank of the right
    item on pairs that chose nothing; NaN without such pairs."""

    fusion: Fusion
    gain: float
    interval: tuple[float, float]

    def __str__(self) -> str:
        weights = self.fusion.description_weight, self.fusion.picture_weight
        head = "title 1, description {:g}, picture {:g}".format(*weights)
        if self.gain != self.gain:
            return f"{head} (too few pairs to choose by)"
        low, high = self.interval
        return f"{head}; the picture adds {self.gain:.4f} [{low:.4f}, {high:.4f}] to MRR"


def choose_weights(
    fusion: Fusion, queries_ND: Floats, media: ItemMedia, classes: NamedClasses | None = None
) -> WeightChoice:
    """By the mean reciprocal rank of each query's item, row n of `media`; rows without a query are
    only found. Every second item teaches a fusion, whose weights are tried on the others: on one
    half of these they stay as they are unless others are surely better, on the other half the gain
    is measured."""
    items = np.arange(len(queries_ND))
    trial = Fusion.fit(media.take(items[::2]), classes)
    queries_ND, media = queries_ND[1::2], media.take(items[1::2])
    pairs = np.flatnonzero(queries_ND.any(axis=1))
    if len(pairs) < MIN_PAIRS:
        return WeightChoice(fusion, np.nan, (np.nan, np.nan))
    chosen_on, measured_on = pairs[::2], pairs[1::2]

    def ranks(description: float, picture: float) -> Floats:
        return reciprocal_ranks(trial.weighted(description, picture), queries_ND, media)

    own = ranks(fusion.description_weight, fusion.picture_weight)
    best, best_gain = (fusion.description_weight, fusion.picture_weight), 0.0
    for weights in product(DESCRIPTION_GRID, PICTURE_GRID if trial.reads_pictures else (0.0,)):
        gains = (ranks(*weights) - own)[chosen_on]
        if gains.mean() > best_gain and bootstrap_mean(gains, draws=200)[0] > 0:
            best, best_gain = weights, float(gains.mean())
    gains = (ranks(*best) - ranks(best[0], 0.0))[measured_on]
    return WeightChoice(fusion.weighted(*best), float(gains.mean()), bootstrap_mean(gains))


def reciprocal_ranks(fusion: Fusion, queries_ND: Floats, media: ItemMedia) -> Floats:
    """[N] of row n of the items for query n."""
    scores_NN = queries_ND @ fusion.fuse(media).T
    better_N = (scores_NN > np.diag(scores_NN)[:, None]).sum(axis=1)
    return np.asarray(1 / (1 + better_N), np.float32)


def split_titles(titles: Sequence[str], seed: int = 0) -> tuple[list[str], list[str]]:
    """Every title as two: half of its words, drawn with the seed, and the others in their order;
    of one word the query is empty."""
    rng = np.random.default_rng(seed)
    queries, rests = [], []
    for title in titles:
        words = title.split()
        in_query = rng.permutation(len(words)) < len(words) // 2
        halves = [
            " ".join(word for word, is_in in zip(words, in_query, strict=True) if is_in == half)
            for half in (True, False)
        ]
        queries.append(halves[0])
        rests.append(halves[1] if halves[0] else title)
    return queries, rests
