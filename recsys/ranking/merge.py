"""Merges the candidates of several sources: the union of their items, one feature column a source.

Legend: B requests, N candidates, F features (one a source)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import Candidates
from recsys.types import Floats, Mask, Rows


@dataclass(frozen=True)
class CandidateTable:
    """The union of what the sources `names` retrieved: rows_BN (ascending, -1 pads), a feature
    column a source in features_BNF, and which of them retrieved the item."""

    names: tuple[str, ...]
    rows_BN: Rows
    features_BNF: Floats
    retrieved_BNF: Mask


def merge(candidates: Sequence[Candidates]) -> tuple[NDArray[np.int32], Floats]:
    """rows_BN int32 (each item once, ascending, -1 pads) and features_BNF: source f's score, 0
    where it was silent.

    Raises ValueError when there are no sources or they answered different numbers of requests.
    """
    sizes = {source.source: len(source.rows_BN) for source in candidates}
    if len(set(sizes.values())) != 1:
        raise ValueError(
            f"the sources answered {sizes or 'no'} requests: merge answers to one block of requests"
        )
    rows_BM = np.concatenate([source.rows_BN for source in candidates], axis=1)
    scores_BM = np.concatenate([source.scores_BN for source in candidates], axis=1)
    sources_M = np.repeat(
        np.arange(len(candidates)), [source.rows_BN.shape[1] for source in candidates]
    )
    owners, columns = np.nonzero(rows_BM >= 0)
    width = 1 + int(rows_BM.max(initial=0))
    keys, places = np.unique(owners * width + rows_BM[owners, columns], return_inverse=True)
    requests, counts_B = keys // width, np.bincount(keys // width, minlength=len(rows_BM))
    positions = np.arange(len(keys)) - (np.cumsum(counts_B) - counts_B)[requests]
    rows_BN = np.full((len(rows_BM), counts_B.max(initial=0)), -1, np.int32)
    features_BNF = np.zeros((*rows_BN.shape, len(candidates)), np.float32)
    rows_BN[requests, positions] = keys % width
    features_BNF[requests[places], positions[places], sources_M[columns]] = scores_BM[
        owners, columns
    ]
    return rows_BN, features_BNF
