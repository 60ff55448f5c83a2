import sys

import numpy as np
import pytest

from recsys.arrays import Histories, Requests
from recsys.retrieval.vectors import ivf
from recsys.retrieval.vectors.exact import ExactRetriever, top_k
from recsys.types import PURCHASE
from tests.contracts import ScorerContract, shoppers

pytest.importorskip("faiss", reason="faiss is not installed: pip install faiss-cpu")


class TestIvfRetriever(ScorerContract):
    """10 lists, 2 of them read: most answers are completed exactly."""

    ITEMS = 400

    def make(self):
        items_ID = clusters(self.ITEMS, 8)
        return ivf.IvfRetriever("near", ivf.build_ivf(items_ID), items_ID, probes=2)

    def requests(self):
        known = shoppers(items=self.ITEMS)
        return Requests(
            size=len(known), vectors_BD=clusters(len(known), 8, seed=5), histories=known
        )


def clusters(items=20_000, dim=32, seed=0):
    """Unit vectors around 200 centres."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((200, dim))
    vectors = centres[random.integers(0, 200, items)] + 0.5 * random.standard_normal((items, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def items_ID():
    return clusters()


@pytest.fixture(scope="module")
def retriever(items_ID):
    return ivf.IvfRetriever("near", ivf.build_ivf(items_ID, seed=1), items_ID)


def asked(vectors_BD, histories=None):
    return Requests(size=len(vectors_BD), vectors_BD=vectors_BD, histories=histories)


def bought(users, *rows):
    """Every user bought these rows."""
    everything = np.tile(np.array(rows, np.int32), users)
    types = np.full(len(everything), PURCHASE, np.int8)
    return Histories(
        offsets=np.arange(users + 1) * len(rows),
        items=everything,
        types=types,
        days=np.zeros(len(everything)),
    )


def test_recall_against_exact(retriever, items_ID):
    vectors_BD = clusters(200, seed=7)
    wanted, _ = top_k(vectors_BD, items_ID, 100)
    found = retriever.retrieve(asked(vectors_BD), 100).rows_BN
    recall = np.mean(
        [np.isin(ours, truth).mean() for ours, truth in zip(found, wanted, strict=True)]
    )
    print(f"\nrecall@100 {recall:.3f} reading {retriever.probes} of {retriever.index.nlist} lists")  # noqa: T201
    assert recall >= 0.95


@pytest.mark.parametrize("allowed_rows", [3, 150, 4_000, 20_000])
def test_a_filter_never_leaves_an_answer_short(retriever, items_ID, allowed_rows):
    vectors_BD = clusters(5, seed=3)
    # The allowed rows are those farthest from the first request: its probed lists hold almost none
    # of them.
    allowed = np.zeros(len(items_ID), bool)
    allowed[np.argsort(items_ID @ vectors_BD[0])[:allowed_rows]] = True
    found = retriever.retrieve(
        asked(vectors_BD, bought(5, *np.flatnonzero(allowed)[:2])), 200, allowed
    )
    counts = (found.rows_BN >= 0).sum(axis=1)
    assert counts.tolist() == [min(200, allowed_rows - 2)] * 5
    assert allowed[found.rows_BN[found.rows_BN >= 0]].all()
    assert not np.isin(found.rows_BN, np.flatnonzero(allowed)[:2]).any()


def test_bought_items_make_room(retriever, items_ID):
    vector = items_ID[[11]]
    nearest = ExactRetriever("near", items_ID).retrieve(asked(vector), 30).rows_BN[0]
    found = retriever.retrieve(asked(vector, bought(1, *nearest[:20])), 10)
    assert found.rows_BN[0].tolist() == nearest[20:].tolist()
    assert (np.diff(found.scores_BN[0]) <= 0).all()


def test_an_item_that_is_gone_hides_no_other(retriever, items_ID):
    last = len(items_ID) - 1
    found = retriever.retrieve(asked(items_ID[[last, last]], bought(2, -1)), 1)
    assert found.rows_BN.tolist() == [[last], [last]]


def test_zero_vectors_and_no_vectors_get_nothing(retriever):
    assert (retriever.retrieve(asked(np.zeros((2, 32), np.float32)), 5).rows_BN == -1).all()
    assert retriever.retrieve(Requests(size=2), 5).rows_BN.shape == (2, 0)
    with pytest.raises(ValueError, match="k is 0"):
        retriever.retrieve(Requests(size=2), 0)


def test_saved_twice_the_same_and_found_again(tmp_path, items_ID, retriever):
    ivf.write_ivf(retriever.index, tmp_path / "a.faiss")
    ivf.write_ivf(ivf.build_ivf(items_ID, seed=1), tmp_path / "b.faiss")
    assert (tmp_path / "a.faiss").read_bytes() == (tmp_path / "b.faiss").read_bytes()
    mapped = ivf.IvfRetriever("near", ivf.open_ivf(tmp_path / "a.faiss"), items_ID)
    vectors_BD = clusters(20, seed=5)
    allowed = np.arange(len(items_ID)) % 2 == 0
    for mask in (None, allowed):
        ours, theirs = (
            each.retrieve(asked(vectors_BD), 10, mask).rows_BN for each in (mapped, retriever)
        )
        np.testing.assert_array_equal(ours, theirs)


def test_an_index_of_other_items_is_refused(retriever, items_ID):
    with pytest.raises(ValueError, match="build the index from this release"):
        ivf.IvfRetriever("near", retriever.index, items_ID[:-1])


def test_a_tiny_catalogue_has_one_list():
    index = ivf.build_ivf(np.eye(5, dtype=np.float32))
    found = ivf.IvfRetriever("near", index, np.eye(5, dtype=np.float32)).retrieve(
        asked(np.eye(5, dtype=np.float32)), 9
    )
    assert found.rows_BN[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert (found.rows_BN >= 0).sum(axis=1).tolist() == [5] * 5


def test_missing_faiss_is_said(monkeypatch, items_ID):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match="IvfRetriever needs faiss: pip install faiss-cpu"):
        ivf.build_ivf(items_ID)


def test_lists_and_probes_follow_the_catalogue(retriever):
    """4 sqrt(20,000) = 565 lists, but 39 training points each leave 512; one in twelve is read."""
    assert (retriever.index.nlist, retriever.probes) == (512, 42)
    few = clusters(400, 8)
    assert ivf.IvfRetriever("near", ivf.build_ivf(few), few).probes == 8
