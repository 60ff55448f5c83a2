"""The last order of an answer, and what of it is left to chance: the ranker that serves,
experiments, exploration.

A first stage finds candidates and orders them by what their sources said. The reranker looks at the
best of them again, with the whole feature table, and says how likely each item was to come to its
place. What it saw is what is logged. Legend: N candidates, K places, F features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from recsys.errors import InputError
from recsys.experiments.assignment import Experiment, assign_arms
from recsys.experiments.exploration import Exploration, explore
from recsys.experiments.hashing import seeded_rng
from recsys.experiments.interleaving import team_draft
from recsys.interfaces import Ranker
from recsys.pipeline import searcher as search
from recsys.pipeline.sources import SOURCES
from recsys.ranking import features
from recsys.ranking.item_features import Context, ItemFeatures
from recsys.ranking.projection import projected
from recsys.release.release import Release
from recsys.retrieval import interest
from recsys.types import Floats, Histories, Ints, Item, Mask, Query, Rows, ScoredItem, utc_days

#: The order of the first stage, as a ranker's name and as a feature.
FIRST = "first"
SIGNALS = (*SOURCES, *search.FEATURES, interest.SOURCE, FIRST)
#: The columns of the feature log.
TABLE = features.names(SIGNALS)
#: The place of each column.
COLUMN = {name: at for at, name in enumerate(TABLE)}
#: What is said of an item that stands elsewhere than where its score puts it.
RULED = "moved by a rule: diversity, the tail's share, a sort, or one of each group"
#: So often must an item have been looked at before Thompson's sampling doubts it half as much.
KNOWN_AFTER = 50.0


@dataclass(frozen=True)
class Pool:
    """A request's candidates as the first stage ordered them: rows_N, scores_N, and [N] of each
    signal that it has."""

    rows_N: Rows
    scores_N: Floats
    signals: Mapping[str, Floats]

    def __len__(self) -> int:
        return len(self.rows_N)

    def at(self, places: Ints) -> Pool:
        """These candidates, in this order."""
        signals = {name: values_N[places] for name, values_N in self.signals.items()}
        return Pool(self.rows_N[places], self.scores_N[places], signals)


@dataclass(frozen=True)
class Reranked:
    """A pool in its last order: places in the pool, best first; by place in the pool the score of
    the ranker and the ranker that chose the item; the ranker's version; the arms that the request
    is in; and the table of the first of the pool, as the ranker saw it, without a row where no
    ranker looked."""

    order_N: Ints
    scores_N: Floats
    teams_N: Sequence[str]
    ranker: str
    arms: Mapping[str, str] = field(default_factory=dict)
    features_NF: Floats = field(default_factory=lambda: np.empty((0, len(TABLE)), np.float32))


@dataclass(frozen=True)
class Reranker:
    """Over one release. `rankers` by name, `serving` the one without an experiment; `labels` say
    which version of each it is. The first `depth` candidates are ordered again. Raises InputError
    for a ranker that wants a feature that nothing gives."""

    item_features: ItemFeatures
    rankers: Mapping[str, Ranker] = field(default_factory=dict)
    serving: str = FIRST
    labels: Mapping[str, str] = field(default_factory=dict)
    experiments: tuple[Experiment, ...] = ()
    explore: Exploration = field(default_factory=Exploration)
    depth: int = 100

    def __post_init__(self) -> None:
        for name, ranker in self.rankers.items():
            if unknown := sorted(set(ranker.feature_names) - set(TABLE)):
                raise InputError(
                    f"ranker {name} wants {', '.join(unknown)}: the features are {', '.join(TABLE)}"
                )

    def arms(self, query: Query, surface: str) -> Mapping[str, str]:
        """The arm of each experiment that the request is in."""
        return assign_arms(self.experiments, surface, query.user_id or query.request_id)

    def teams(self, arms: Mapping[str, str]) -> dict[str, str]:
        """The ranker that orders the request by its arm, or those of the two arms that share its
        list: of the first experiment that has a word in it, else the one that serves. One that is
        not there leaves the first stage's order."""
        wanted = {"": self.serving}
        for experiment in self.experiments:
            if experiment.name in arms and experiment.rankers:
                shared = experiment.kind == "interleave"
                here = list(experiment.arms) if shared else [arms[experiment.name]]
                wanted = {arm: experiment.ranker(arm) or self.serving for arm in here}
                break
        return {arm: name if name in self.rankers else FIRST for arm, name in wanted.items()}

    def looks(self, query: Query, surface: str) -> bool:
        """Whether a ranker has a word in the request's order."""
        return any(name != FIRST for name in self.teams(self.arms(query, surface)).values())

    def wanted(self, query: Query, surface: str, k: int) -> int:
        """How many candidates the first stage has to give for k places."""
        looks = self.looks(query, surface)
        return max(k, self.depth) if looks or self.explore.kind in ("epsilon", "thompson") else k

    def features(self, pool: Pool, context: Context) -> Floats:
        """[N, F]: the table of the pool, columns as in TABLE."""
        signals = {name: values_N[None] for name, values_N in pool.signals.items()} | {
            FIRST: pool.scores_N[None]
        }
        return features.table(TABLE, self.item_features, context, pool.rows_N[None], signals)[0]

    def look(self, query: Query, surface: str, pool: Pool, context: Context) -> Reranked:
        """The first `depth` by the request's ranker, or by two in turns; the others behind them, as
        they came. All of them as they came where the request is late.

        Their scores go on falling by 1 a place: they say no more than that.
        """
        arms = self.arms(query, surface)
        names = self.teams(arms)
        label = " and ".join(self.labels.get(name, name) for name in names.values())
        if query.past_deadline:
            names, label = {"": FIRST}, FIRST
        if set(names.values()) == {FIRST} or not len(pool):
            return Reranked(np.arange(len(pool)), pool.scores_N, [""] * len(pool), label, arms)
        first = pool.at(np.arange(min(self.depth, len(pool))))
        features_NF = self.features(first, context)
        scored = [self._scores(name, first.scores_N, features_NF) for name in names.values()]
        orders = [np.lexsort((first.rows_N, -scores_N)) for scores_N in scored]
        scores_N, order_N, teams_N = scored[0], orders[0], np.full(len(first), "", object)
        if len(names) > 1:
            order_N, turns_N = team_draft(
                orders[0], orders[1], len(first), seeded_rng(query.request_id, "interleave")
            )
            teams_N[order_N] = np.array([*names, ""], object)[turns_N]
            scores_N = np.where(teams_N == list(names)[1], scored[1], scored[0]).astype(np.float32)
        rest = np.arange(len(first), len(pool))
        below_N = scores_N.min() - 1 - np.arange(len(rest), dtype=np.float32)
        return Reranked(
            np.concatenate([order_N, rest]),
            np.concatenate([scores_N, below_N]),
            [*teams_N.tolist(), *[""] * len(rest)],
            label,
            arms,
            features_NF,
        )

    def chance(
        self, query: Query, rows_N: Rows, scores_N: Floats, k: int, policy: Exploration
    ) -> tuple[Ints, Floats, Sequence[str]]:
        """Which of the candidates, best first, come to the k places; how likely each was to come
        there; and, for those that chance moved, how."""
        spread = float(scores_N[:k].std()) if len(scores_N) else 0.0
        doubt_N = (
            spread / np.sqrt(1 + self.item_features.exposure_I[rows_N] / KNOWN_AFTER)
        ).astype(np.float32)
        falling_N = -np.sort(-scores_N)  # a rule may have changed the order: it is kept
        return explore(
            falling_N,
            k,
            policy,
            seeded_rng(query.request_id, "explore"),
            tail_N=self.item_features.tail_I[rows_N],
            uncertainty_N=doubt_N,
        )

    def shown(
        self,
        query: Query,
        pool: Pool,
        looked: Reranked,
        order_M: Ints,
        context: Context,
        item_of: Callable[[int], Item],
        by_chance: bool = True,
    ) -> list[tuple[int, ScoredItem]]:
        """The k to show, with their places in the pool: the candidates in `order_M`, but for what
        is left to chance."""
        count = min(query.k, len(order_M))
        rows_M, scores_M = pool.rows_N[order_M], looked.scores_N[order_M]
        explore = self.explore if by_chance else Exploration()
        places, chances_K, words_K = self.chance(query, rows_M, scores_M, count, explore)
        shown_K = order_M[places]
        seen = len(looked.features_NF) > shown_K.max(initial=0)
        features_KF = (
            looked.features_NF[shown_K] if seen else self.features(pool.at(shown_K), context)
        )
        ruled_K = order_M[places] != looked.order_N[query.offset + places]
        return [
            (
                place,
                ScoredItem(
                    item=item_of(int(pool.rows_N[place])),
                    score=float(looked.scores_N[place]),
                    sources={},
                    features=dict(zip(TABLE, values, strict=True)),
                    propensity=float(chance),
                    team=looked.teams_N[place],
                    moved=word or (RULED if ruled else ""),
                ),
            )
            for place, values, chance, word, ruled in zip(
                shown_K.tolist(), features_KF.tolist(), chances_K, words_K, ruled_K, strict=True
            )
        ]

    def _scores(self, name: str, first_N: Floats, features_NF: NDArray[np.float32]) -> Floats:
        if name == FIRST:
            return first_N
        ranker = self.rankers[name]
        columns = [COLUMN[column] for column in ranker.feature_names]
        return ranker.score(features_NF[None][:, :, columns])[0]


def context_of(
    release: Release,
    surface: str,
    history: Histories,
    user_D: Floats | None = None,
    query_D: Floats | None = None,
    intent: str | None = None,
    now: datetime | None = None,
) -> Context:
    """Who asks, of one request: what he did, his vector, the query's, the category that it is
    after, and when."""
    of_texts_DP, of_taste_DP = release.projections
    user_1P = None if user_D is None else projected(user_D[None], of_taste_DP)
    query_1P = None if query_D is None else projected(query_D[None], of_texts_DP)
    intent_1L = release.labels["category"].below([intent])[None] if intent else None
    return Context.of(
        surface, utc_days(now or datetime.now(UTC)), history, user_1P, query_1P, intent_1L
    )


def brought(scored: ScoredItem, names: Sequence[str], brought_F: Mask) -> dict[str, float]:
    """What the sources that brought an item said of it."""
    return {
        name: scored.features[name] for name, there in zip(names, brought_F, strict=True) if there
    }
