"""One request at a time over half the bytes: always what all of the bytes say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.arrays import Histories, Requests
from recsys.retrieval.vectors.exact import ExactRetriever
from recsys.retrieval.vectors.fp16 import Fp16Retriever
from recsys.types import Floats
from tests.contracts import ScorerContract, shoppers


class TestFp16Retriever(ScorerContract):
    def make(self) -> Fp16Retriever:
        return Fp16Retriever(
            "near", np.random.default_rng(4).standard_normal((self.ITEMS, 8)).astype(np.float32)
        )

    def requests(self) -> Requests:
        known = shoppers(items=self.ITEMS)
        vectors_BD = np.random.default_rng(5).standard_normal((len(known), 8)).astype(np.float32)
        return Requests(size=len(known), vectors_BD=vectors_BD, histories=known)


def bought(rows: list[int]) -> Histories:
    days = np.zeros(len(rows))
    return Histories(
        offsets=np.array([0, len(rows)]),
        items=np.array(rows, np.int32),
        types=np.full(len(rows), 3, np.int8),
        days=days,
        prices=days.astype(np.float32),
    )


def close(items: int, dim: int, seed: int) -> Floats:
    """Unit vectors, half of them almost the same as another: half precision cannot tell which is
    nearer."""
    random = np.random.default_rng(seed)
    items_ID = random.standard_normal((items, dim))
    items_ID[items // 2 :] = items_ID[: items - items // 2] + 1e-4 * random.standard_normal(
        (items - items // 2, dim)
    )
    return (items_ID / np.linalg.norm(items_ID, axis=1, keepdims=True)).astype(np.float32)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([1, 30, 700]),
    st.integers(1, 40),
    st.sampled_from([0.0, 0.05, 0.6, None]),
)
def test_says_what_all_of_the_bytes_say(seed: int, items: int, k: int, share: float | None) -> None:
    random = np.random.default_rng(seed)
    items_ID, vector_D = close(items, 16, seed), random.standard_normal(16).astype(np.float32)
    allowed = None if share is None else random.random(items) < share
    requests = Requests(
        size=1,
        texts=None,
        vectors_BD=vector_D[None],
        histories=bought(random.integers(0, items, 5).tolist()),
    )
    wanted = ExactRetriever("near", items_ID).retrieve(requests, k, allowed)
    found = Fp16Retriever("near", items_ID).retrieve(requests, k, allowed)
    np.testing.assert_allclose(found.scores_BN, wanted.scores_BN, atol=1e-6)
    rows_N, scores_N = found.rows_BN[0], found.scores_BN[0]
    there = rows_N >= 0
    assert len(set(rows_N[there].tolist())) == there.sum() == (wanted.rows_BN[0] >= 0).sum()
    np.testing.assert_allclose(items_ID[rows_N[there]] @ vector_D, scores_N[there], atol=1e-6)
    assert not set(rows_N[there].tolist()) & set(
        requests.histories.items.tolist() if requests.histories else ()
    )


def test_a_crowd_that_half_precision_cannot_tell_apart_is_left_to_the_whole() -> None:
    random = np.random.default_rng(2)
    items_ID = (np.ones(16) + 1e-4 * random.standard_normal((500, 16))).astype(np.float32)
    request = Requests(
        size=1, texts=None, vectors_BD=random.standard_normal((1, 16)).astype(np.float32)
    )
    wanted, found = (
        kind("near", items_ID).retrieve(request, 5) for kind in (ExactRetriever, Fp16Retriever)
    )
    np.testing.assert_allclose(found.scores_BN, wanted.scores_BN, atol=1e-6)


def test_copies_answer_alone_where_their_error_allows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    source = Fp16Retriever("near", random.standard_normal((5_000, 32)).astype(np.float32))
    asked = list[int]()
    whole = ExactRetriever.retrieve

    def counted(self, requests, k, allowed=None):  # type: ignore[no-untyped-def]
        asked.append(len(source.items_ID) if allowed is None else int(allowed.sum()))
        return whole(self, requests, k, allowed)

    monkeypatch.setattr(ExactRetriever, "retrieve", counted)
    for _ in range(20):
        source.retrieve(
            Requests(
                size=1, texts=None, vectors_BD=random.standard_normal((1, 32)).astype(np.float32)
            ),
            10,
        )
    assert asked == [20] * 20


@pytest.mark.parametrize("number", [1e6, np.nan])
def test_numbers_too_large_for_half_precision_or_none_are_left_to_the_whole(number: float) -> None:
    items_ID = np.eye(4, dtype=np.float32)
    items_ID[2, 2] = number
    source, request = (
        Fp16Retriever("near", items_ID),
        Requests(size=1, texts=None, vectors_BD=np.ones((1, 4), np.float32)),
    )
    if np.isnan(number):
        with pytest.raises(ValueError, match="an item vector holds NaN"):
            source.retrieve(request, 1)
    else:
        assert source.retrieve(request, 1).rows_BN.tolist() == [[2]]


def test_a_wrong_dimension_is_a_sentence() -> None:
    source = Fp16Retriever("near", np.eye(4, dtype=np.float32))
    with pytest.raises(ValueError, match="encode both with the same encoder"):
        source.retrieve(Requests(size=1, texts=None, vectors_BD=np.ones((1, 3), np.float32)), 1)


def test_an_empty_catalogue_has_nothing() -> None:
    source = Fp16Retriever("near", np.empty((0, 4), np.float32))
    assert source.retrieve(
        Requests(size=1, texts=None, vectors_BD=np.ones((1, 4), np.float32)), 2
    ).rows_BN.tolist() == [[-1, -1]]
