"""Isolation of the inputs that an encoder fails on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.batch.failures import MAX_DEATHS, FailureIsolator, bisect, pieces
from recsys.storage.artifacts import ArtifactStore
from recsys.types import Floats


class DiedError(BaseException):
    """The process has been killed."""


def vectors(start: int, stop: int) -> Floats:
    return np.arange(start, stop, dtype=np.float32)[:, None] + 1


@given(st.integers(0, 50), st.integers(1, 1000))
def test_pieces_cover_the_range_once(start: int, size: int) -> None:
    cut = pieces(start, start + size)
    assert [at for first, last in cut for at in range(first, last)] == list(
        range(start, start + size)
    )
    assert all(first < last for first, last in cut)


@given(st.integers(1, 200), st.sets(st.integers(0, 199)))
def test_what_raises_is_named_and_nothing_else(size: int, bad: set[int]) -> None:
    processed: list[int] = []

    def work(start: int, stop: int) -> None:
        if bad & set(range(start, stop)):
            raise ValueError("bad")
        processed.extend(range(start, stop))

    failed = bisect(work, 0, size)[1]
    assert failed == dict.fromkeys(sorted(at for at in bad if at < size), "ValueError: bad")
    assert sorted(processed) == [at for at in range(size) if at not in bad]


@pytest.mark.parametrize("bad", [0, 57, 299])
def test_what_kills_the_process_is_refused_by_one_of_its_successors(
    tmp_path: Path, bad: int
) -> None:
    store = ArtifactStore(str(tmp_path))

    def work(start: int, stop: int) -> Floats:
        if start <= bad < stop:
            raise DiedError
        return vectors(start, stop)

    for _ in range(4 + MAX_DEATHS):
        try:
            vectors_ND, errors = FailureIsolator(store, "notes.json").encode(work, 300, 1)
            break
        except DiedError:
            continue
    assert list(errors) == [bad]
    assert vectors_ND[bad, 0] == 0
    assert np.delete(vectors_ND, bad).tolist() == np.delete(vectors(0, 300), bad).tolist()


def test_an_innocent_text_outlives_one_that_was_killed_with_it(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))

    def killed(start: int, stop: int) -> Floats:
        raise DiedError

    with pytest.raises(DiedError):
        FailureIsolator(store, "notes.json").encode(killed, 1, 1)
    vectors_ND, errors = FailureIsolator(store, "notes.json").encode(vectors, 1, 1)
    assert (vectors_ND.tolist(), errors) == ([[1.0]], {})


def test_a_vector_that_is_not_finite_is_none(tmp_path: Path) -> None:
    vectors_ND, errors = FailureIsolator(ArtifactStore(str(tmp_path)), "notes.json").encode(
        lambda start, stop: np.where(
            vectors(start, stop) == 3, np.nan, vectors(start, stop)
        ).astype(np.float32),
        5,
        1,
    )
    assert vectors_ND[:, 0].tolist() == [1, 2, 0, 4, 5]
    assert errors == {2: "ValueError: its vector is not finite"}
