"""Two families of items in two colours: baskets hold both kinds of one family, in one colour."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from scipy.sparse import csr_array

from recsys.arrays import Histories
from recsys.errors import InputError
from recsys.retrieval import complements
from recsys.retrieval.compatibility import (
    CHANNELS,
    Behaviour,
    Compatibility,
    ItemContent,
    ListedBehaviour,
)
from recsys.training.compatibility import fit_compatibility, sample_baskets
from recsys.types import EVENT_TYPES, PURCHASE

ITEMS = 80
#: Lamps are even, tables odd; colours are of four, in the pictures alone.
KINDS_I = np.arange(ITEMS) % 2
COLOURS_I = np.arange(ITEMS) // 2 % 4


def content(*, pictures: bool = True) -> ItemContent:
    rng = np.random.default_rng(0)
    texts_ID = np.eye(2, 16)[KINDS_I] + 0.05 * rng.normal(size=(ITEMS, 16))
    pictures_IE = np.eye(8)[COLOURS_I + 4 * KINDS_I] + 0.05 * rng.normal(size=(ITEMS, 8))
    titles = pa.table({"title": [["lamp", "table"][kind] for kind in KINDS_I]})
    return ItemContent.of(
        titles,
        texts_ID.astype(np.float32),
        KINDS_I.astype(np.int32),
        pictures_IE.astype(np.float32) if pictures else None,
    )


def baskets(count: int = 120, of: int = 40) -> csr_array:
    """A lamp and a table of one colour, of the first `of` items."""
    rng = np.random.default_rng(1)
    matrix_RI = np.zeros((count, ITEMS), np.float32)
    for row in range(count):
        colour = rng.integers(4)
        for kind in (0, 1):
            fitting = np.flatnonzero((KINDS_I[:of] == kind) & (COLOURS_I[:of] == colour))
            matrix_RI[row, rng.choice(fitting)] = 1
    return csr_array(matrix_RI)


def test_what_goes_together_is_learned_from_pictures_that_are_not_alike() -> None:
    """The pictures of a lamp and a table of one colour are orthogonal; items 40 to 79 are new."""
    made, rows_RI = content(), baskets()
    behaviour = Behaviour.of(rows_RI)
    model = fit_compatibility(made, behaviour, rows_RI)
    new = np.arange(40, ITEMS)
    scores = model.score(made, behaviour, new, new)
    best = new[scores.argmax(axis=1)]
    assert (KINDS_I[best] != KINDS_I[new]).all()
    assert (COLOURS_I[best] == COLOURS_I[new]).all()


def test_without_pictures_the_kind_is_still_learned() -> None:
    made, rows_RI = content(pictures=False), baskets()
    behaviour = Behaviour.of(rows_RI)
    model = fit_compatibility(made, behaviour, rows_RI)
    new = np.arange(40, ITEMS)
    best = new[model.score(made, behaviour, new, new).argmax(axis=1)]
    assert (KINDS_I[best] != KINDS_I[new]).all()
    assert model.weights_F[CHANNELS.index("picture")] == 0


def test_an_items_own_basket_does_not_count() -> None:
    behaviour = Behaviour.of(csr_array(np.array([[1, 1, 0], [1, 0, 1]], np.float32)))
    left, right = np.array([0, 1]), np.array([2, 0, 1])
    own = np.isin(right, left)
    cosines, popular, new = np.moveaxis(behaviour.channels(left, right, own), 2, 0)
    assert cosines[0, 2] == cosines[1, 1] == 0  # they meet in this basket alone
    assert cosines[0, 0] == pytest.approx(1 / 6)  # 1 / sqrt((1 + 5) (1 + 5))
    assert new[0].tolist() == [False, False, True]
    assert popular[0] == pytest.approx(np.log1p([1, 1, 0]))


def test_too_few_baskets_are_refused() -> None:
    rows_RI = baskets(20)
    with pytest.raises(InputError, match="hold 40 items"):
        fit_compatibility(content(), Behaviour.of(rows_RI), rows_RI)


def test_the_same_baskets_give_the_same_model() -> None:
    made, rows_RI = content(), baskets()
    behaviour = Behaviour.of(rows_RI)
    one, two = (fit_compatibility(made, behaviour, rows_RI) for _ in range(2))
    assert np.array_equal(one.form_SS, two.form_SS)
    assert np.array_equal(one.weights_F, two.weights_F)


def test_lists_leave_out_the_item_its_variants_and_what_is_not_sold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, rows_RI = content(), baskets()
    behaviour = Behaviour.of(rows_RI)
    model = fit_compatibility(made, behaviour, rows_RI)
    pairs = behaviour.pairs_II.toarray()
    near_IN = np.argsort(-pairs, axis=1, kind="stable")[:, :30].astype(np.int32)
    cosines_IN = np.take_along_axis(pairs, near_IN, axis=1) / 10
    listed = ListedBehaviour.of(behaviour.counts_I, near_IN, cosines_IN)
    sellable_I = np.ones(ITEMS, bool)
    sellable_I[:4] = False
    groups_I = np.where(np.arange(ITEMS) // 2 == 5, 0, -1)

    def lists() -> tuple[np.ndarray, np.ndarray]:
        return complements.complement_lists(
            model,
            made,
            listed,
            range(8, 20),
            5,
            content_rows_IC=near_IN[:, ::-1],
            sellable_I=sellable_I,
            groups_I=groups_I,
        )

    rows_bK, margins_bK = lists()
    for row, others in zip(range(8, 20), rows_bK.tolist(), strict=True):
        assert row not in others
        assert min(others) >= 4
        assert row not in (10, 11) or not {10, 11} & set(others)
        assert (KINDS_I[others] != KINDS_I[row]).all()
    assert (np.diff(margins_bK, axis=1) <= 0).all()
    monkeypatch.setattr(complements, "ALL_BELOW", 0)
    pooled_bK, _ = lists()
    assert (pooled_bK[:, 0] == rows_bK[:, 0]).mean() > 0.8  # the best are among the candidates


def test_lists_of_an_item_that_nothing_is_like_are_empty() -> None:
    model = Compatibility(
        weights_F=np.ones(len(CHANNELS), np.float32), form_SS=np.zeros((24, 24), np.float32)
    )
    nothing = np.full((ITEMS, 3), -1, np.int32)
    rows_bK, margins_bK = complements.complement_lists(
        model,
        content(),
        ListedBehaviour.of(np.zeros(ITEMS, np.float32), nothing, np.zeros((ITEMS, 3), np.float32)),
        range(2),
        5,
        content_rows_IC=nothing,
        sellable_I=np.zeros(ITEMS, bool),
        groups_I=np.full(ITEMS, -1),
    )
    assert (rows_bK == -1).all()
    assert np.isneginf(margins_bK).all()


def test_baskets_are_purchases_of_a_day_and_else_what_there_is() -> None:
    """60 users buy two things on one day and view a third; one more only views."""
    purchase, view = PURCHASE, EVENT_TYPES.index("view")
    users = 61
    log = Histories(
        offsets=np.arange(users + 1, dtype=np.int64) * 3,
        items=np.tile(np.array([0, 1, 2], np.int32), users),
        types=np.tile(np.array([purchase, purchase, view], np.int8), users),
        days=np.full(3 * users, 20_000.5),
    )
    log.types[-3:] = view
    assert sample_baskets([log.slice(0, 30), log.slice(30, users)], 3).toarray().tolist() == (
        [[1, 1, 0]] * 60
    )
    views = Histories(
        offsets=log.offsets, items=log.items, types=np.full_like(log.types, view), days=log.days
    )
    assert sample_baskets([views], 3).toarray().tolist() == [[1, 1, 1]] * users
    assert sample_baskets([], 3).shape == (0, 3)
