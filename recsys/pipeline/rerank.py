"""Re-ranking and exploration; logs propensities.

A first stage retrieves candidates and orders them by their sources' scores. The reranker scores the
best of them again with the whole feature table: by the serving model, or by that of an experiment's
arm. Exploration then randomises what the `Exploration` policy allows, and every item carries the
probability of its position. Legend: N candidates, M of them in the order to choose from, K
positions, F features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from recsys.arrays import Histories, utc_days
from recsys.errors import InputError
from recsys.experiments.assignment import Experiment, assign_arms
from recsys.experiments.exploration import Exploration, ExploredRanking, explore
from recsys.experiments.hashing import seeded_rng
from recsys.experiments.interleaving import team_draft
from recsys.interfaces import Ranker
from recsys.pipeline import hits
from recsys.pipeline.sources import SOURCES
from recsys.ranking import features
from recsys.ranking.item_features import Context, ItemFeatures
from recsys.ranking.projection import project
from recsys.release.release import Release
from recsys.retrieval import interest
from recsys.types import FeatureTable, Floats, Ints, Item, Mask, Query, Rows, ScoredItem

#: The order of the first stage, as a ranker's name and as a feature.
FIRST = "first"
SIGNALS = (*SOURCES, *hits.FEATURES, interest.SOURCE, FIRST)
#: The columns of the feature log.
TABLE = features.column_names(SIGNALS)
#: The place of each column.
COLUMN = {name: at for at, name in enumerate(TABLE)}
#: Why an item does not stand where its score puts it, unless exploration moved it.
MOVED_BY_RULE = "moved by a rule: diversity, the tail's share, a sort, or one of each group"
#: Prior pseudo-impressions of Thompson sampling: an item that was examined so often has half the
#: score variance of one that never was.
PRIOR_EXPOSURE = 50.0


@dataclass(frozen=True, kw_only=True)
class Pool:
    """One request's candidates in first-stage order: item rows_N, scores_N, the signals of the
    sources `names` (signals_NF), and which of these sources retrieved each (retrieved_NF)."""

    rows_N: Rows
    scores_N: Floats
    names: tuple[str, ...]
    signals_NF: Floats
    retrieved_NF: Mask

    def __len__(self) -> int:
        return len(self.rows_N)

    def at(self, places: Ints | slice) -> Pool:
        """These candidates, in this order."""
        return Pool(
            rows_N=self.rows_N[places],
            scores_N=self.scores_N[places],
            names=self.names,
            signals_NF=self.signals_NF[places],
            retrieved_NF=self.retrieved_NF[places],
        )


@dataclass(frozen=True, kw_only=True)
class Reranked:
    """A pool after re-ranking: `order_N`, its places best first; by place in the pool, scores_N and
    the interleaved team that chose it; the ranker's version; the request's arms; and the feature
    table of the first places of the pool as the ranker saw it (no row where none ranked)."""

    order_N: Ints
    scores_N: Floats
    teams_N: Sequence[str]
    ranker: str
    arms: Mapping[str, str] = field(default_factory=dict)
    features_NF: Floats = field(default_factory=lambda: np.empty((0, len(TABLE)), np.float32))

    @classmethod
    def unchanged(cls, pool: Pool, ranker: str, arms: Mapping[str, str] | None = None) -> Reranked:
        """The first stage's order and scores."""
        teams_N = [""] * len(pool)
        order_N = np.arange(len(pool))
        return cls(
            order_N=order_N,
            scores_N=pool.scores_N,
            teams_N=teams_N,
            ranker=ranker,
            arms=arms or {},
        )

    def with_rest(self, scores_R: Floats) -> Reranked:
        """With candidates behind the re-ranked ones, in the order of the pool."""
        rest_R = np.arange(len(self.order_N), len(self.order_N) + len(scores_R))
        return Reranked(
            order_N=np.concatenate([self.order_N, rest_R]),
            scores_N=np.concatenate([self.scores_N, scores_R]),
            teams_N=[*self.teams_N, *[""] * len(rest_R)],
            ranker=self.ranker,
            arms=self.arms,
            features_NF=self.features_NF,
        )


@dataclass(frozen=True, kw_only=True)
class Reranker:
    """Re-ranks the requests of one release. `rankers` by name; `serving` is the one outside of
    experiments; `labels` are their versions. The first `depth` candidates are re-ranked. Raises
    InputError for a ranker with a feature that does not exist."""

    item_features: ItemFeatures
    rankers: Mapping[str, Ranker] = field(default_factory=dict)
    serving: str = FIRST
    labels: Mapping[str, str] = field(default_factory=dict)
    experiments: tuple[Experiment, ...] = ()
    exploration: Exploration = field(default_factory=Exploration)
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

    def rankers_by_team(self, arms: Mapping[str, str]) -> dict[str, str]:
        """The ranker of the request's arm (under the team ""), or those of both arms where they are
        interleaved: of the first experiment that names rankers, else the serving one. A ranker that
        is not loaded leaves the first stage's order."""
        names = {"": self.serving}
        for experiment in self.experiments:
            if experiment.name in arms and experiment.rankers:
                interleaved = experiment.kind == "interleave"
                teams = list(experiment.arms) if interleaved else [arms[experiment.name]]
                names = {arm: experiment.ranker(arm) or self.serving for arm in teams}
                break
        return {team: name if name in self.rankers else FIRST for team, name in names.items()}

    def needs_rerank(self, query: Query, surface: str) -> bool:
        """Whether any ranker re-ranks the request."""
        names = self.rankers_by_team(self.arms(query, surface))
        return any(name != FIRST for name in names.values())

    def pool_size(self, query: Query, surface: str, k: int) -> int:
        """How many candidates the first stage has to give for k positions."""
        explores = self.exploration.kind in ("epsilon", "thompson")
        return max(k, self.depth) if explores or self.needs_rerank(query, surface) else k

    def feature_table(self, pool: Pool, context: Context) -> Floats:
        """[N, F]: the features of the pool, columns as in TABLE."""
        signals = {FIRST: pool.scores_N[None]}
        for column, name in enumerate(pool.names):
            signals[name] = pool.signals_NF[None, :, column]
        return features.feature_table(
            TABLE, self.item_features, context, pool.rows_N[None], signals
        )[0]

    def rerank(self, query: Query, surface: str, pool: Pool, context: Context) -> Reranked:
        """The first `depth` by the request's ranker, or by two interleaved ones; the others behind
        them in first-stage order, with scores that fall by 1 a place and mean nothing else. After
        the deadline, and without a ranker, the first stage's order."""
        arms = self.arms(query, surface)
        names = {"": FIRST} if query.past_deadline else self.rankers_by_team(arms)
        label = " and ".join(self.labels.get(name, name) for name in names.values())
        if set(names.values()) == {FIRST} or not len(pool):
            return Reranked.unchanged(pool, label, arms)
        first = pool.at(slice(0, self.depth))
        features_NF = self.feature_table(first, context)
        scores_TN = [self._scores(name, first.scores_N, features_NF) for name in names.values()]
        orders_TN = [np.lexsort((first.rows_N, -scores_N)) for scores_N in scores_TN]
        scores_N, order_N, teams_N = scores_TN[0], orders_TN[0], np.full(len(first), "", object)
        if len(names) > 1:
            rng = seeded_rng(query.request_id, "interleave")
            order_N, turns_N = team_draft(orders_TN[0], orders_TN[1], len(first), rng)
            teams_N[order_N] = np.array([*names, ""], object)[turns_N]
            from_second_N = teams_N == list(names)[1]
            scores_N = np.where(from_second_N, scores_TN[1], scores_TN[0]).astype(np.float32)
        below_R = scores_N.min() - 1 - np.arange(len(pool) - len(first), dtype=np.float32)
        return Reranked(
            order_N=order_N,
            scores_N=scores_N,
            teams_N=teams_N.tolist(),
            ranker=label,
            arms=arms,
            features_NF=features_NF,
        ).with_rest(below_R)

    def explore(
        self, query: Query, rows_M: Rows, scores_M: Floats, k: int, exploration: Exploration
    ) -> ExploredRanking:
        """Which of the candidates, best first, come to the k positions.

        Thompson sampling's standard deviation is that of the k scores for an item without
        impressions, and falls with its examined impressions as a posterior's does."""
        spread = float(scores_M[:k].std()) if len(scores_M) else 0.0
        observed_M = self.item_features.exposure_I[rows_M] / PRIOR_EXPOSURE
        deviation_M = (spread / np.sqrt(1 + observed_M)).astype(np.float32)
        falling_M = -np.sort(-scores_M)  # a rule may have changed the order: it is kept
        return explore(
            falling_M,
            k,
            exploration,
            seeded_rng(query.request_id, "explore"),
            tail_N=self.item_features.tail_I[rows_M],
            uncertainty_N=deviation_M,
        )

    def select(
        self,
        query: Query,
        pool: Pool,
        reranked: Reranked,
        order_M: Ints,
        *,
        context: Context,
        item_of: Callable[[int], Item],
        explore: bool = True,
    ) -> tuple[tuple[ScoredItem, ...], FeatureTable]:
        """The k items of the answer, and the features to log: the first candidates of `order_M`
        (places in the pool), but for what exploration moves."""
        k, exploration = min(query.k, len(order_M)), self.exploration if explore else Exploration()
        rows_M, scores_M = pool.rows_N[order_M], reranked.scores_N[order_M]
        places_K, propensities_K, moved_K = self.explore(query, rows_M, scores_M, k, exploration)
        chosen_K = order_M[places_K]
        if not len(chosen_K):
            return (), FeatureTable()
        if len(reranked.features_NF) > chosen_K.max():
            features_KF = reranked.features_NF[chosen_K]
        else:
            features_KF = self.feature_table(pool.at(chosen_K), context)
        ruled_K = chosen_K != reranked.order_N[query.offset + places_K]
        items = tuple(
            ScoredItem(
                item=item_of(int(pool.rows_N[place])),
                score=float(reranked.scores_N[place]),
                sources=source_scores(pool.names, pool.retrieved_NF[place], features_F),
                propensity=float(propensity),
                team=reranked.teams_N[place],
                moved=reason or (MOVED_BY_RULE if ruled else ""),
            )
            for place, features_F, propensity, reason, ruled in zip(
                chosen_K.tolist(), features_KF, propensities_K, moved_K, ruled_K, strict=True
            )
        )
        return items, FeatureTable(TABLE, features_KF)

    def _scores(self, name: str, first_N: Floats, features_NF: Floats) -> Floats:
        if name == FIRST:
            return first_N
        ranker = self.rankers[name]
        columns = [COLUMN[column] for column in ranker.feature_names]
        return ranker.score(features_NF[None][:, :, columns])[0]


def request_context(
    release: Release,
    surface: str,
    history: Histories,
    *,
    user_D: Floats | None = None,
    query_D: Floats | None = None,
    intent: str | None = None,
    now: datetime | None = None,
) -> Context:
    """The ranking context of one request: the user's history and vector, the query's vector and
    intended category, and the time."""
    text_DP, user_space_DP = release.projections
    user_BP = None if user_D is None else project(user_D[None], user_space_DP)
    query_BP = None if query_D is None else project(query_D[None], text_DP)
    intent_BL = release.labels["category"].below([intent])[None] if intent else None
    return Context.of(
        surface,
        utc_days(now or datetime.now(UTC)),
        history,
        user_BP=user_BP,
        query_BP=query_BP,
        intent_BL=intent_BL,
    )


def source_scores(names: Sequence[str], retrieved_F: Mask, features_F: Floats) -> dict[str, float]:
    """The scores of the sources that retrieved an item, from its row of the feature table."""
    hits = zip(names, retrieved_F.tolist(), strict=True)
    return {name: float(features_F[COLUMN[name]]) for name, hit in hits if hit}
