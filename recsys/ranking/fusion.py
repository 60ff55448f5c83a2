"""The weights of a search's signals, chosen on queries with known answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from recsys.arrays import Candidates, Requests
from recsys.datasets.judgments import JudgedPairs
from recsys.interfaces import Retriever, Scorer
from recsys.metrics import graded_ndcg, mean, recall_at_k
from recsys.ranking.linear import LinearRanker, best
from recsys.ranking.merge import merge
from recsys.types import Floats, Ints, Mask, Rows

Weights = dict[str, float]
#: What a weight may be, beside another that is 1.
GRID = (0.0, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0)
#: Queries asked at once.
BLOCK = 256


@dataclass(frozen=True, kw_only=True)
class Signals:
    """Q queries' candidates in one table: rows_QN (-1 pads), features_QNF by `names`, which of them
    retrieval brought, and which were judged (some of these were not brought).

    `judged_QNF` are the features by which what was judged is compared: without gaps, where
    `features_QNF` has those of the day."""

    names: tuple[str, ...]
    rows_QN: Rows
    features_QNF: Floats
    brought_QN: Mask
    judged_QN: Mask
    judged_QNF: Floats

    @classmethod
    def ask(
        cls,
        sources: Sequence[Retriever],
        requests: Requests,
        depth: int,
        judged: JudgedPairs | None = None,
    ) -> Signals:
        """Each source's best `depth`, what the others think of them, and of what was judged."""
        blocks = [
            range(low, min(low + BLOCK, requests.size)) for low in range(0, requests.size, BLOCK)
        ]
        tables = [_asked(sources, _part(requests, block), depth, judged, block) for block in blocks]
        width = max(table[0].shape[1] for table in tables)
        rows_QN, features_QNF, brought_QN, judged_QN = (
            np.concatenate([_wider(part, width, pad) for part in parts])
            for parts, pad in zip(zip(*tables, strict=True), (-1, 0, False, False), strict=True)
        )
        names = tuple(source.source for source in sources)
        return cls(
            names=names,
            rows_QN=rows_QN,
            features_QNF=features_QNF,
            brought_QN=brought_QN,
            judged_QN=judged_QN,
            judged_QNF=features_QNF,
        )

    def ranked(self, weights: Mapping[str, float], k: int) -> Rows:
        """[Q, k] the best of what retrieval brought."""
        brought_QN = np.where(self.brought_QN, self.rows_QN, -1)
        rows_QK = np.take_along_axis(brought_QN, self._first(weights, k), axis=1)
        return _wider(rows_QK, k, -1)

    def reranked(
        self,
        weights: Mapping[str, float],
        window: int,
        name: str,
        score: Callable[[Ints, Ints], Floats],
    ) -> Signals:
        """With one more signal, for the best `window` by `weights`; 0 for the others, unless they
        were judged and are compared with what else was.

        `score` gets queries and rows, and gives one score for each.
        """
        window_QN = np.zeros(self.rows_QN.shape, bool)
        np.put_along_axis(window_QN, self._first(weights, window), True, axis=1)
        window_QN &= self.brought_QN
        queries, columns = np.nonzero(window_QN | self.judged_QN)
        signal_QN = np.zeros(self.rows_QN.shape, np.float32)
        signal_QN[queries, columns] = score(queries, self.rows_QN[queries, columns])
        by_day_QN = np.where(window_QN, signal_QN, 0)
        return replace(
            self,
            names=(*self.names, name),
            features_QNF=np.concatenate([self.features_QNF, by_day_QN[:, :, None]], axis=2),
            judged_QNF=np.concatenate([self.judged_QNF, signal_QN[:, :, None]], axis=2),
        )

    def measured(self, weights: Mapping[str, float], judged: JudgedPairs) -> dict[str, float]:
        """recall@10 and recall@100 of what is brought, nDCG@10 among what was judged."""
        rows_QK, truth = self.ranked(weights, 100), judged.relevant()
        return {
            "recall@10": mean(recall_at_k(rows_QK, *truth, 10)),
            "recall@100": mean(recall_at_k(rows_QK, *truth, 100)),
            "ndcg@10": mean(
                graded_ndcg(
                    self._of_judged(weights, judged), 4.0**judged.grades_P - 1, judged.offsets, 10
                )
            ),
        }

    def fused(self, judged: JudgedPairs, start: Mapping[str, float]) -> Weights:
        """Weights that make the sum of the measures largest."""

        def objective(weights: Weights) -> float:
            return sum(self.measured(weights, judged).values())

        return ascended(objective, {name: start.get(name, 0.0) for name in self.names})

    def _scores(self, weights: Mapping[str, float], features_QNF: Floats) -> Floats:
        return LinearRanker({name: weights.get(name, 0.0) for name in self.names}).score(
            features_QNF
        )

    def _first(self, weights: Mapping[str, float], k: int) -> Ints:
        """[Q, k] places of the best of what retrieval brought."""
        brought_QN = np.where(self.brought_QN, self.rows_QN, -1)
        return best(brought_QN, self._scores(weights, self.features_QNF), k)[0]

    def _of_judged(self, weights: Mapping[str, float], judged: JudgedPairs) -> Floats:
        """The scores of what was judged, in its order."""
        scores_QN = self._scores(weights, self.judged_QNF)
        width = 1 + int(max(self.rows_QN.max(initial=0), judged.rows_P.max(initial=0)))
        queries, columns = np.nonzero(self.rows_QN >= 0)
        keys = (
            queries * width + self.rows_QN[queries, columns]
        )  # ascending: rows are, within a query
        places = np.searchsorted(keys, judged.query_P * width + judged.rows_P)
        return scores_QN[queries[places], columns[places]]


def ascended(
    objective: Callable[[Weights], float], start: Weights, grid: Sequence[float] = GRID
) -> Weights:
    """Coordinate ascent (Metzler & Croft, Linear feature-based models for IR, 2007): each weight in
    turn is set to the value of the grid that is best beside the others, until none moves. The first
    weight above 0 is not moved: only ratios matter. Ties keep the weight that was there."""
    weights, reached = dict(start), objective(start)
    fixed = next((name for name, weight in start.items() if weight > 0), "")
    moved = True
    while moved:
        moved = False
        for name in weights:
            if name == fixed:
                continue
            for value in grid:
                tried = {**weights, name: value}
                if (gained := objective(tried)) > reached + 1e-9:
                    weights, reached, moved = tried, gained, True
    return weights


def _asked(
    sources: Sequence[Retriever],
    requests: Requests,
    depth: int,
    judged: JudgedPairs | None,
    block: range,
) -> tuple[Rows, Floats, Mask, Mask]:
    answers = [source.retrieve(requests, depth) for source in sources]
    found_BN, _ = merge(answers)
    if judged is not None:
        answers.append(_as_candidates(judged, block))
    rows_BN, features_BNF = merge(answers)
    for place, source in enumerate(sources):
        if isinstance(source, Scorer):
            features_BNF[:, :, place] = np.where(rows_BN < 0, 0, source.score(requests, rows_BN))
    brought_BN = _within(rows_BN, found_BN)
    judged_BN = (
        _within(rows_BN, answers[-1].rows_BN) if judged is not None else np.zeros_like(brought_BN)
    )
    return rows_BN, features_BNF[:, :, : len(sources)], brought_BN, judged_BN


def _within(rows_BN: Rows, some_BM: Rows) -> Mask:
    """[B, N] whether each row is one of its query's `some_BM`; no pad is."""
    width = 1 + int(max(rows_BN.max(initial=0), some_BM.max(initial=0)))
    owners_B1 = np.arange(len(rows_BN))[:, None] * width
    return np.isin(owners_B1 + rows_BN, (owners_B1 + some_BM)[some_BM >= 0]) & (rows_BN >= 0)


def _as_candidates(judged: JudgedPairs, block: range) -> Candidates:
    lists = [
        judged.rows_P[low:high]
        for low, high in pairwise(judged.offsets[block.start : block.stop + 1].tolist())
    ]
    width = max(map(len, lists))
    rows_BN = np.array([[*rows.tolist(), *[-1] * (width - len(rows))] for rows in lists], np.int32)
    return Candidates(
        "judged", rows_BN.reshape(len(lists), width), np.zeros((len(lists), width), np.float32)
    )


def _part(requests: Requests, block: range) -> Requests:
    cut = slice(block.start, block.stop)
    texts = requests.texts[cut] if requests.texts is not None else None
    vectors_BD = requests.vectors_BD[cut] if requests.vectors_BD is not None else None
    return Requests(size=len(block), texts=texts, vectors_BD=vectors_BD)


def _wider(array: np.ndarray, width: int, value: float) -> np.ndarray:
    missing = [(0, 0), (0, width - array.shape[1]), *[(0, 0)] * (array.ndim - 2)]
    return np.pad(array, missing, constant_values=value)
