"""Fusion weights of a search's sources, by coordinate ascent on judged queries."""

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
#: Queries that a source retrieves for at once.
BLOCK = 256


@dataclass(frozen=True, kw_only=True)
class SignalTable:
    """Q queries' candidates and judged items in one table: rows_QN (-1 pads), features_QNF by
    `names`, which rows were retrieved, and which were judged (not all of these were retrieved).

    `features_QNF` are as the online path has them; `judged_QNF` are without gaps, to compare the
    judged items by."""

    names: tuple[str, ...]
    rows_QN: Rows
    features_QNF: Floats
    retrieved_QN: Mask
    judged_QN: Mask
    judged_QNF: Floats

    @classmethod
    def collect(
        cls,
        sources: Sequence[Retriever],
        requests: Requests,
        depth: int,
        judged: JudgedPairs | None = None,
    ) -> SignalTable:
        """Each source's best `depth` and the judged items, scored by all sources that are
        `Scorer`s."""
        blocks = [
            range(low, min(low + BLOCK, requests.size)) for low in range(0, requests.size, BLOCK)
        ]
        tables = [
            _collect_block(sources, _request_slice(requests, block), depth, judged, block)
            for block in blocks
        ]
        width = max(table[0].shape[1] for table in tables)
        rows_QN, features_QNF, retrieved_QN, judged_QN = (
            np.concatenate([_pad_columns(part, width, pad) for part in parts])
            for parts, pad in zip(zip(*tables, strict=True), (-1, 0, False, False), strict=True)
        )
        names = tuple(source.source for source in sources)
        return cls(
            names=names,
            rows_QN=rows_QN,
            features_QNF=features_QNF,
            retrieved_QN=retrieved_QN,
            judged_QN=judged_QN,
            judged_QNF=features_QNF,
        )

    def top_rows(self, weights: Mapping[str, float], k: int) -> Rows:
        """[Q, k] the best retrieved rows."""
        retrieved_QN = np.where(self.retrieved_QN, self.rows_QN, -1)
        rows_QK = np.take_along_axis(retrieved_QN, self._best_places(weights, k), axis=1)
        return _pad_columns(rows_QK, k, -1)

    def with_reranker(
        self,
        weights: Mapping[str, float],
        depth: int,
        name: str,
        score: Callable[[Ints, Ints], Floats],
    ) -> SignalTable:
        """With one more signal, a reranker's, for the best `depth` by `weights`. The others have 0
        online; among the judged items all have it.

        `score` gets queries and rows, and gives one score for each."""
        depth_QN = np.zeros(self.rows_QN.shape, bool)
        np.put_along_axis(depth_QN, self._best_places(weights, depth), True, axis=1)
        depth_QN &= self.retrieved_QN
        queries, columns = np.nonzero(depth_QN | self.judged_QN)
        signal_QN = np.zeros(self.rows_QN.shape, np.float32)
        signal_QN[queries, columns] = score(queries, self.rows_QN[queries, columns])
        online_QN = np.where(depth_QN, signal_QN, 0)
        return replace(
            self,
            names=(*self.names, name),
            features_QNF=np.concatenate([self.features_QNF, online_QN[:, :, None]], axis=2),
            judged_QNF=np.concatenate([self.judged_QNF, signal_QN[:, :, None]], axis=2),
        )

    def metrics(self, weights: Mapping[str, float], judged: JudgedPairs) -> dict[str, float]:
        """recall@10 and recall@100 of the retrieved rows, nDCG@10 among the judged items."""
        rows_QK, truth = self.top_rows(weights, 100), judged.relevant()
        return {
            "recall@10": mean(recall_at_k(rows_QK, *truth, 10)),
            "recall@100": mean(recall_at_k(rows_QK, *truth, 100)),
            "ndcg@10": mean(
                graded_ndcg(
                    self._judged_scores(weights, judged),
                    4.0**judged.grades_P - 1,
                    judged.offsets,
                    10,
                )
            ),
        }

    def fit_weights(self, judged: JudgedPairs, start: Mapping[str, float]) -> Weights:
        """The weights of the largest sum of `metrics`."""

        def objective(weights: Weights) -> float:
            return sum(self.metrics(weights, judged).values())

        return coordinate_ascent(objective, {name: start.get(name, 0.0) for name in self.names})

    def _scores(self, weights: Mapping[str, float], features_QNF: Floats) -> Floats:
        return LinearRanker({name: weights.get(name, 0.0) for name in self.names}).score(
            features_QNF
        )

    def _best_places(self, weights: Mapping[str, float], k: int) -> Ints:
        """[Q, k] places of the best retrieved rows."""
        retrieved_QN = np.where(self.retrieved_QN, self.rows_QN, -1)
        return best(retrieved_QN, self._scores(weights, self.features_QNF), k)[0]

    def _judged_scores(self, weights: Mapping[str, float], judged: JudgedPairs) -> Floats:
        """The scores of the judged items, in the order of `judged`."""
        scores_QN = self._scores(weights, self.judged_QNF)
        width = 1 + int(max(self.rows_QN.max(initial=0), judged.rows_P.max(initial=0)))
        queries, columns = np.nonzero(self.rows_QN >= 0)
        # Ascending: rows are, within a query.
        keys = queries * width + self.rows_QN[queries, columns]
        places = np.searchsorted(keys, judged.query_P * width + judged.rows_P)
        return scores_QN[queries[places], columns[places]]


def coordinate_ascent(
    objective: Callable[[Weights], float], start: Weights, grid: Sequence[float] = GRID
) -> Weights:
    """Coordinate ascent (Metzler & Croft, Linear feature-based models for IR, 2007): each weight in
    turn is set to the value of the grid that is best beside the others, until none moves. The first
    weight above 0 is not moved: only ratios matter. Ties keep the weight that was there."""
    weights, highest = dict(start), objective(start)
    fixed = next((name for name, weight in start.items() if weight > 0), "")
    moved = True
    while moved:
        moved = False
        for name in weights:
            if name == fixed:
                continue
            for value in grid:
                candidate = {**weights, name: value}
                if (score := objective(candidate)) > highest + 1e-9:
                    weights, highest, moved = candidate, score, True
    return weights


def _collect_block(
    sources: Sequence[Retriever],
    requests: Requests,
    depth: int,
    judged: JudgedPairs | None,
    block: range,
) -> tuple[Rows, Floats, Mask, Mask]:
    """rows_BN, features_BNF, retrieved_BN, and judged_BN of a block of queries."""
    answers = [source.retrieve(requests, depth) for source in sources]
    candidates_BN, _ = merge(answers)
    if judged is not None:
        answers.append(_as_candidates(judged, block))
    rows_BN, features_BNF = merge(answers)
    for place, source in enumerate(sources):
        if isinstance(source, Scorer):
            features_BNF[:, :, place] = np.where(rows_BN < 0, 0, source.score(requests, rows_BN))
    retrieved_BN = _is_among(rows_BN, candidates_BN)
    judged_BN = (
        _is_among(rows_BN, answers[-1].rows_BN)
        if judged is not None
        else np.zeros_like(retrieved_BN)
    )
    return rows_BN, features_BNF[:, :, : len(sources)], retrieved_BN, judged_BN


def _is_among(rows_BN: Rows, some_BM: Rows) -> Mask:
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


def _request_slice(requests: Requests, block: range) -> Requests:
    cut = slice(block.start, block.stop)
    texts = requests.texts[cut] if requests.texts is not None else None
    vectors_BD = requests.vectors_BD[cut] if requests.vectors_BD is not None else None
    return Requests(size=len(block), texts=texts, vectors_BD=vectors_BD)


def _pad_columns(array: np.ndarray, width: int, value: float) -> np.ndarray:
    padding = [(0, 0), (0, width - array.shape[1]), *[(0, 0)] * (array.ndim - 2)]
    return np.pad(array, padding, constant_values=value)
