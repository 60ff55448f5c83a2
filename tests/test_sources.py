"""Every source out of one small log: users buy what is of their colour, and each leaves out exactly
one thing."""

from dataclasses import fields

import numpy as np
import pyarrow as pa
import pytest

from recsys.arrays import Histories, Requests
from recsys.errors import InputError
from recsys.pipeline import sources
from recsys.pipeline.sources import (
    SOURCES,
    category_codes,
    fit_item_stats,
    fit_source_data,
    make_sources,
    read_source_data,
)
from recsys.types import PURCHASE
from tests.contracts import answers, shoppers

#: Things 0..7 are sold since the log began, even ones red and odd ones blue. Of two paler reds
#: thing 8 came five days ago and thing 9 was bought once, by somebody who bought nothing else.
SOLD, NEW, RARE, NOW = 8, 8, 9, 100.0
ITEMS = SOLD + 2
HUES = np.eye(2)[[*[0, 1] * 4, 0, 0]]
VECTORS = np.concatenate([HUES, np.diag([0.2] * SOLD + [0.4, 0.5])], axis=1).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)
COLOURS = HUES.argmax(axis=1).astype(np.int32)
ADDED = np.array([np.nan] * SOLD + [NOW - 5, np.nan])


def log() -> Histories:
    """User u leaves out thing u; he buys the others of its colour on one day, and the first of them
    again."""
    baskets = [[item for item in range(user % 2, SOLD, 2) if item != user] for user in range(SOLD)]
    items = np.array(
        [item for basket in baskets for item in (*basket, basket[0])] + [RARE], np.int32
    )
    days = np.array([60.0, 60.0, 60.0, 80.0] * SOLD + [60.0])
    offsets = np.array([*range(0, len(items), 4), len(items)])
    return Histories(
        offsets=offsets, items=items, types=np.full(len(items), PURCHASE, np.int8), days=days
    )


def content() -> sources.Neighbours:
    scores_II = VECTORS @ VECTORS.T
    np.fill_diagonal(scores_II, -1)
    rows_IN = np.argsort(-scores_II, axis=1, kind="stable")[:, :5].astype(np.int32)
    return rows_IN, np.take_along_axis(scores_II, rows_IN, axis=1)


@pytest.fixture(scope="module")
def fitted() -> sources.SourceData:
    return fit_source_data(
        log(),
        NOW,
        items_ID=VECTORS,
        content=content(),
        categories_I=COLOURS,
        added_days_I=ADDED,
    )


def requests_of(*users: int) -> Requests:
    histories = log().users(np.array(users))
    sums_BD = np.add.reduceat(VECTORS[histories.items], histories.offsets[:-1])
    vectors_BD = sums_BD / np.linalg.norm(sums_BD, axis=1, keepdims=True)
    return Requests(
        size=len(users), texts=None, vectors_BD=vectors_BD, histories=histories, now_days=NOW
    )


def retrieved_rows(
    of: sources.SourceData, name: str, requests: Requests, k: int = 4
) -> list[list[int]]:
    [source] = make_sources([name], of)
    assert source.source == name
    return answers(source.retrieve(requests, k))


#: Of user 0, who bought 2, 4, 6 and 2 again, where it is not 0 before anything else.
FIRST = {"buy_again": 2, "arrivals": NEW, "tail": RARE, "popularity": None}


@pytest.mark.parametrize("name", SOURCES)
def test_each_source_knows_what_a_user_left_out(fitted, name):
    """What sells is the same for all, and has the left-out thing among it."""
    [rows] = retrieved_rows(fitted, name, requests_of(0))
    best = FIRST.get(name, 0)
    assert rows[0] == best if best is not None else 0 in rows
    bought = {2, 4, 6}
    assert set(rows) == bought if name == "buy_again" else not bought & set(rows)


@pytest.mark.parametrize("name", SOURCES)
def test_a_stranger_hears_what_sells_and_what_is_new(fitted, name):
    nobody = Requests(
        size=1,
        texts=None,
        vectors_BD=np.zeros((1, VECTORS.shape[1]), np.float32),
        histories=Histories.empty(),
        now_days=NOW,
    )
    [rows] = retrieved_rows(fitted, name, nobody)
    assert rows == {"popularity": rows, "arrivals": [NEW]}.get(name, [])
    assert name != "popularity" or len(rows) == 4


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_of_a_shop_without_events_is_silent_or_knows_the_catalogue(name):
    """The day before it opens: only what needs no log speaks, and all that is there is an
    arrival."""
    nothing = np.full((ITEMS, 5), -1, np.int32), np.full((ITEMS, 5), -np.inf, np.float32)
    of = fit_source_data(
        Histories.empty(0), NOW, items_ID=VECTORS, content=nothing, categories_I=COLOURS
    )
    [rows] = retrieved_rows(of, name, requests_of(0))
    speak = ("buy_again", "discovery", "popularity", "category_popularity", "arrivals")
    assert bool(rows) == (name in speak)
    assert len(set(rows)) == len(rows)


def test_only_content_knows_who_is_like_what_nobody_bought(fitted):
    viewed = Histories(
        offsets=np.array([0, 1]),
        items=np.array([NEW], np.int32),
        types=np.zeros(1, np.int8),
        days=np.array([NOW]),
    )
    requests = Requests(
        size=1, texts=None, vectors_BD=VECTORS[[NEW]], histories=viewed, now_days=NOW
    )
    assert [
        retrieved_rows(fitted, name, requests) for name in ("co_occurrence", "peers", "buy_again")
    ] == [[[]]] * 3
    assert retrieved_rows(fitted, "content", requests) == [[0, 2, 4, 6]]


def test_sources_stand_in_the_ranker_s_order(fitted):
    names = ("tail", "popularity", "buy_again")
    assert tuple(source.source for source in make_sources(names, fitted)) == names
    assert make_sources((), fitted) == ()


def test_an_unknown_source_is_named_beside_those_there_are(fitted):
    with pytest.raises(
        InputError,
        match="the ranker wants horoscope, dice: the sources are buy_again, co_occurrence",
    ):
        make_sources(["horoscope", "popularity", "dice"], fitted)


def test_a_faiss_index_takes_the_place_of_exact_search(fitted):
    [exact] = make_sources(["discovery"], fitted)
    [source] = make_sources(
        ["discovery"], sources.SourceData(**{**vars(fitted), "discovery": exact})
    )
    assert source is exact


def saved(of, folder) -> sources.SourceData:
    """Written as a release's arrays and opened again."""
    arrays = {
        "popularity": of.popularity_I,
        "intervals": of.item_stats.repurchase_intervals.intervals_I,
        "repeats": of.item_stats.repurchase_intervals.repeats_I,
        "first_days": of.item_stats.first_days_I,
        "touches": of.item_stats.touches_TI,
    }
    for field in fields(of):
        if isinstance(pair := getattr(of, field.name), tuple):
            arrays[f"{field.name}_rows"], arrays[f"{field.name}_scores"] = pair
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return read_source_data(
        sources.SOURCES,
        lambda name: np.load(folder / f"{name}.npy", mmap_mode="r"),
        items_ID=of.items_ID,
        now_days=NOW,
        categories_I=of.categories_I,
        peers=of.peers,
    )


@pytest.mark.parametrize("name", SOURCES)
def test_what_is_read_answers_as_what_was_fitted(fitted, name, tmp_path):
    requests = requests_of(*range(SOLD))
    [made] = make_sources([name], fitted)
    [opened] = make_sources([name], saved(fitted, tmp_path))
    for left, right in zip(
        *(vars(source.retrieve(requests, 4)).values() for source in (made, opened)), strict=True
    ):
        np.testing.assert_array_equal(left, right)


def test_neighbours_in_blocks_are_neighbours_at_once(fitted, monkeypatch):
    monkeypatch.setattr(sources, "ITEMS_PER_BLOCK", 4)
    again = fit_source_data(
        log(),
        NOW,
        items_ID=VECTORS,
        content=content(),
        categories_I=COLOURS,
        added_days_I=ADDED,
    )
    for name in (
        field.name for field in fields(again) if isinstance(getattr(again, field.name), tuple)
    ):
        for left, right in zip(getattr(again, name), getattr(fitted, name), strict=True):
            np.testing.assert_array_equal(left, right, err_msg=name)


def test_habits_are_counted_from_the_log(fitted):
    """Thing 2: bought by 0, 4 and 6, and again by 0. An event of an item that is gone is
    nobody's."""
    stats = fitted.item_stats
    assert stats.counts_I.tolist() == [6, 6, 4, 4, 3, 3, 3, 3, 0, 1]
    assert stats.first_days_I.tolist() == [60.0] * SOLD + [NOW - 5, 60.0]
    np.testing.assert_allclose(stats.repurchase_intervals.intervals_I, 20, rtol=1e-6)
    gone = Histories(
        offsets=np.array([0, 2]),
        items=np.array([-1, 1], np.int32),
        types=np.zeros(2, np.int8),
        days=np.array([3.0, 4.0]),
    )
    without = fit_item_stats(lambda: [gone], 2)
    assert (without.counts_I.tolist(), without.first_days_I.tolist()) == ([0, 1], [np.inf, 4.0])


def test_habits_of_two_parts_are_those_of_one():
    log = shoppers(users=9)
    added = np.where(np.arange(60) % 3, np.nan, -5.0)
    whole = fit_item_stats(lambda: [log], 60, added)
    parts = fit_item_stats(lambda: iter([log.slice(0, 4), log.slice(4, 9)]), 60, added)
    np.testing.assert_array_equal(parts.counts_I, whole.counts_I)
    np.testing.assert_array_equal(parts.first_days_I, whole.first_days_I)
    np.testing.assert_allclose(
        parts.repurchase_intervals.intervals_I, whole.repurchase_intervals.intervals_I, rtol=1e-6
    )
    np.testing.assert_allclose(
        parts.repurchase_intervals.repeats_I, whole.repurchase_intervals.repeats_I, rtol=1e-6
    )


def test_a_category_is_one_in_any_case_and_blank_ones_are_none():
    labels = ["Garden ", " garden", None, "", "  ", "HOME", "home / chair", "home"]
    expected = [0, 0, -1, -1, -1, 1, 2, 1]
    column = pa.array(labels, pa.string())
    assert category_codes(pa.table({"category": column})).tolist() == expected
    in_shards = pa.chunked_array([column[:3], column[3:3], column[3:]])
    codes = category_codes(pa.table({"category": in_shards}))
    assert (codes.tolist(), codes.dtype) == (expected, np.int32)


def test_a_shop_without_categories_has_none():
    assert category_codes(pa.table({"category": pa.array([None, None], pa.string())})).tolist() == [
        -1,
        -1,
    ]
    assert category_codes(pa.table({"category": pa.array([], pa.string())})).tolist() == []
