"""The dials of the histories' evaluation: a catalogue with gaps, and nightshelf's answers in
another order."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.arrays import Histories
from recsys.encoders.hashing import HashingEncoder
from recsys.errors import InputError
from recsys.evaluation import item_vectors, leave_one_out, systems
from recsys.ranking.merge import CandidateTable
from recsys.tables import ITEMS_IN
from recsys.types import PURCHASE


def logged(*users):
    offsets, rows = (
        np.cumsum([0, *map(len, users)]),
        np.array([row for user in users for row in user], np.int32),
    )
    return Histories(
        offsets=offsets,
        items=rows,
        types=np.full(len(rows), PURCHASE, np.int8),
        days=np.arange(len(rows)) / 1000,
    )


#: Text, shelf and price of items that have: all three, one of them each, a brand alone, and empty
#: texts.
SHELVES = pa.table(
    {
        **{field.name: pa.nulls(6, field.type) for field in ITEMS_IN},
        "item_id": list("abcdef"),
        "title": ["bolt", "nut", None, None, None, ""],
        "category": ["steel", None, "brass", None, None, None],
        "brand": [None, None, "Ace", None, "Bay", ""],
        "price": [1.0, None, None, 0.0, None, None],
    },
    schema=ITEMS_IN,
)


def test_who_has_one_field_loses_it():
    vectors_ID = np.array([[1], [1], [1], [0], [1], [0]], np.float32)
    left, left_ID = item_vectors.drop_fields(SHELVES, vectors_ID, 1, seed=0)
    remaining = left.select(["title", "category", "brand", "price"]).to_pylist()[1:]
    assert remaining == [
        {"title": empty, "category": None, "brand": empty, "price": None}
        for empty in [None] * 4 + [""]
    ]
    assert left_ID[1:].tolist() == [[0], [1], [0], [1], [0]]
    assert (left.schema, left["item_id"]) == (SHELVES.schema, SHELVES["item_id"])
    same, same_ID = item_vectors.drop_fields(SHELVES, vectors_ID, 0, seed=0)
    assert same.equals(SHELVES)
    assert same_ID.tolist() == vectors_ID.tolist() == [[1], [1], [1], [0], [1], [0]]


@settings(max_examples=20, deadline=None)
@given(st.floats(0.1, 0.9), st.integers(0, 9))
def test_a_share_of_the_items_loses_one_field_each(share, seed):
    whole = SHELVES.take(np.zeros(3000, int))
    left, left_ID = item_vectors.drop_fields(whole, np.ones((3000, 2), np.float32), share, seed)
    lost_3I = np.array(
        [
            [value is None for value in left[name].to_pylist()]
            for name in ("title", "category", "price")
        ]
    )
    assert lost_3I.sum(axis=0).max() == 1
    np.testing.assert_allclose(lost_3I.mean(axis=1), share / 3, atol=0.04)
    assert ((left_ID == 0).all(axis=1) == lost_3I[0]).all()
    assert set(left_ID[~lost_3I[0]].ravel()) == {1}
    assert item_vectors.drop_fields(whole, np.ones((3000, 2), np.float32), share, seed)[0].equals(
        left
    )


def test_a_vector_knows_nothing_of_a_lost_field(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    encoder = HashingEncoder(16)
    left, left_ID = item_vectors.with_dropped_fields(
        SHELVES.set_column(1, "title", SHELVES["item_id"]), encoder, 1
    )
    titled = [row for row, title in enumerate(left["title"].to_pylist()) if title]
    assert 0 < len(titled) < 6
    np.testing.assert_allclose(
        left_ID[titled], encoder.encode_items([left["title"][row].as_py() for row in titled])
    )
    assert not np.delete(left_ID, titled, axis=0).any()


class Falling:
    """Ranks by the one feature."""

    feature_names = ("falling",)
    weights_GFV = np.ones((1, 1, 1))

    def score(self, features_BNF):
        return features_BNF[:, :, 0]


@pytest.fixture
def dialled(monkeypatch):
    """The contenders where everybody is offered items 39 to 0 in this order, and what was fitted
    for them."""
    made = []

    def ask(histories):
        made.append(len(histories))
        rows_BN = np.tile(np.arange(40, dtype=np.int32)[::-1], (len(histories), 1))
        return CandidateTable(
            ("falling",),
            rows_BN,
            rows_BN[:, :, None].astype(np.float32),
            np.ones((*rows_BN.shape, 1), bool),
        )

    def mixture(model, split, items, items_ID, seed):
        made.append(f"seed {seed}")
        return ask, Falling()

    monkeypatch.setattr(systems.TrainedSystems, "_user_model", lambda *histories: None)
    monkeypatch.setattr(systems, "fit_mixture", mixture)
    return systems.next_item_systems(None), made


def test_a_dial_changes_the_order_alone(dialled, monkeypatch):
    """Items 0 to 7 are the tail; those of one ten are alike."""
    monkeypatch.setattr(systems, "USERS_PER_BLOCK", 2)
    contenders, made = dialled
    log = logged(
        *np.arange(40).reshape(20, 2),
        *np.tile(np.arange(8, 40).reshape(16, 2), (3, 1)),
        [39, 38, 37],
    )
    split, items_ID = (
        leave_one_out.leave_one_out(log, 40),
        np.repeat(np.eye(4, dtype=np.float32), 10, axis=0),
    )

    def recommended(name, seed=0):
        rows_UK = contenders[name](split, SHELVES, items_ID, seed, print)(logged([], [], []), 8)
        assert rows_UK.tolist() == [rows_UK[0].tolist()] * 3
        return rows_UK[0].tolist()

    assert (
        recommended("nightshelf")
        == recommended("nightshelf_tail_.1")
        == [39, 38, 37, 36, 35, 34, 33, 32]
    )
    assert recommended("nightshelf_tail_.3") == [39, 38, 37, 7, 36, 35, 6, 34]
    assert recommended("nightshelf_diverse_.5")[:4] == [39, 29, 19, 9]
    assert made == ["seed 0", 2, 1]
    recommended("nightshelf_tail_.3", seed=1)
    assert made[3:] == ["seed 1", 2, 1]


def test_memory_tells_apart_who_asks_and_for_how_many():
    sizes = []
    recall = systems.cached(
        lambda past, k: sizes.append(k) or np.full((len(past), k), past.items.sum())
    )
    later = replace(logged([1, 2]), days=np.array([5.0, 6.0]))
    for past in (logged([1, 2]), logged([1, 2]), logged([2, 1]), logged([1], [2]), later):
        np.testing.assert_array_equal(recall(past, 3), np.full((len(past), 3), 3))
    assert recall(logged([1, 2]), 4).shape == (1, 4)
    assert sizes == [3, 3, 3, 3, 4]


@pytest.mark.parametrize("name", ["nightshelf", *systems.VARIANTS])
def test_no_dial_is_turned_on_what_the_mixer_learned_from(dialled, name):
    split = leave_one_out.leave_one_out(logged([0, 1, 2]), 3, "valid")
    with pytest.raises(InputError, match="evaluate the test items"):
        dialled[0][name](split, SHELVES, None, 0, print)
