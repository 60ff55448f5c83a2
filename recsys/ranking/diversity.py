"""Diversification (maximal marginal relevance), and a guaranteed share of the long tail.

Both take candidates best first and return the places of the k chosen among their request's
candidates, as `linear.best` does. Legend: B requests, N candidates, K answers, I items, D
dimensions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.types import Floats, Mask, Rows

Places = NDArray[np.int64]


def diversify(rows_BN: Rows, items_ID: Floats, diversity: float, k: int) -> Places:
    """places_BK, K = min(k, N): one after another the candidate of the largest (1 - diversity) x
    relevance - diversity x similarity to the nearest that was chosen before (maximal marginal
    relevance, Carbonell & Goldstein 1998).

    Relevance falls evenly from 1 at a request's first candidate to 0 behind its last. Similarity is
    the cosine of the item vectors, between that of the two candidates least alike (0) and 1, so
    that a dial means the same for encoders that put everything near everything; an item without a
    vector is as similar to each as two are on average. With diversity 0 the order stays, with 1
    relevance counts for the first place only; equals stay in order, pads (row -1) last. Raises
    ValueError for a diversity not within 0..1 and for k < 1."""
    # Places, not scores: behind bought-again items the scores lie within .05, and a diversity of .1
    # replaced 71 % of the small shop's answers. A DPP's greedy MAP (Chen, Zhang & Zhou 2018) is as
    # good at equal relevance (similarity within an answer .35, nearest pair .60 at .92 of the
    # scores, both), but longer and its dial has no upper end.
    _check("diversity", diversity, k)
    places_BK = _first_places(rows_BN, k)
    if diversity == 0 or not rows_BN.size:
        return places_BK
    filled_BN = rows_BN >= 0
    counts_B1 = np.maximum(filled_BN.sum(axis=1, keepdims=True), 1)
    relevance_BN = (1 - diversity) * (1 - np.arange(rows_BN.shape[1]) / counts_B1)
    similar_BNN = diversity * _similarity(rows_BN, items_ID)
    gain_BN = np.where(filled_BN, relevance_BN, -2)  # below what any candidate can have
    nearest_BN, requests = np.zeros(rows_BN.shape), np.arange(len(rows_BN))
    for place in range(places_BK.shape[1]):
        chosen_B = np.argmax(gain_BN - nearest_BN, axis=1)
        places_BK[:, place] = chosen_B
        gain_BN[requests, chosen_B] = -np.inf
        np.maximum(nearest_BN, similar_BNN[requests, chosen_B], out=nearest_BN)
    return places_BK


def _similarity(rows_BN: Rows, items_ID: Floats) -> Floats:
    """[B, N, N]: 0 for the two of a request least alike, 1 for equal ones, and an item with
    itself."""
    vectors_BND = items_ID[rows_BN]
    lengths_BN = np.linalg.norm(vectors_BND, axis=2)
    has_vector_BN = (rows_BN >= 0) & (lengths_BN > 0)
    vectors_BND = np.where(
        has_vector_BN[:, :, None], vectors_BND / np.maximum(lengths_BN, 1e-12)[:, :, None], 0
    )
    cosines_BNN = vectors_BND @ vectors_BND.transpose(0, 2, 1)
    has_both_BNN = has_vector_BN[:, :, None] & has_vector_BN[:, None, :]
    lowest_B = np.where(has_both_BNN, cosines_BNN, 1).min(axis=(1, 2))[:, None, None]
    similar_BNN = np.clip((cosines_BNN - lowest_B) / np.maximum(1 - lowest_B, 1e-6), 0, 1)
    means_B = similar_BNN.sum(axis=(1, 2), where=has_both_BNN) / np.maximum(
        has_both_BNN.sum(axis=(1, 2)), 1
    )
    return np.where(has_both_BNN, similar_BNN, means_B[:, None, None]).astype(np.float32)


def with_tail(rows_BN: Rows, tail_I: Mask, share: float, k: int) -> Places:
    """places_BK, K = min(k, N): the given order, but of every first n places at least floor(share x
    n) hold items of the tail while there are any among the candidates.

    The place that would fall short gets the best of the tail that is left (the fair prefixes of
    FA*IR, Zehlike et al. 2017, with a fixed number in place of their test; DetGreedy of Geyik,
    Ambler & Kenthapadi 2019). With share 0 the order stays; pads (row -1) stay last. Raises
    ValueError for a share not within 0..1 and for k < 1."""
    _check("tail_share", share, k)
    places_BK = _first_places(rows_BN, k)
    if share == 0 or not rows_BN.size:
        return places_BK
    tail_BN = tail_I[rows_BN] & (rows_BN >= 0)
    open_BN, requests = np.ones(rows_BN.shape, bool), np.arange(len(rows_BN))
    filled_B = np.zeros(len(rows_BN), np.int64)
    for place in range(places_BK.shape[1]):
        owed_B = filled_B < int(share * (place + 1) + 1e-9)  # .29 x 100 is 28.999999999999996
        owed_B &= (open_BN & tail_BN).any(axis=1)
        chosen_B = np.argmax(open_BN & (tail_BN | ~owed_B[:, None]), axis=1)
        places_BK[:, place] = chosen_B
        open_BN[requests, chosen_B] = False
        filled_B += tail_BN[requests, chosen_B]
    return places_BK


def diversify_with_tail(
    rows_BN: Rows,
    items_ID: Floats,
    k: int,
    *,
    diversity: float,
    tail_I: Mask,
    tail_share: float,
) -> Places:
    """places_BK, K = min(k, N): diversified candidates, of them the k that `with_tail` chooses."""
    if tail_share == 0:
        return diversify(rows_BN, items_ID, diversity, k)
    places_BN = diversify(rows_BN, items_ID, diversity, max(k, rows_BN.shape[1]))
    chosen_BK = with_tail(np.take_along_axis(rows_BN, places_BN, axis=1), tail_I, tail_share, k)
    return np.take_along_axis(places_BN, chosen_BK, axis=1)


def _check(name: str, dial: float, k: int) -> None:
    if not 0 <= dial <= 1:
        raise ValueError(f"{name} is {dial}: give a number from 0 to 1")
    if k < 1:
        raise ValueError(f"k is {k}: ask for at least 1 item")


def _first_places(rows_BN: Rows, k: int) -> Places:
    return np.tile(np.arange(min(k, rows_BN.shape[1])), (len(rows_BN), 1))
