"""Completions of a small catalogue by heart, and the laws of the look-up against counting by
hand."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.datasets import data_folder
from recsys.errors import NotFoundError, ReleaseError
from recsys.tables import QUERIES
from recsys.types import Impression
from recsys.understanding.phrases import mine_phrases
from recsys.understanding.suggestion_builder import (
    KINDS,
    MIN_USERS,
    FrequentQueries,
    build_suggestion_file,
)
from recsys.understanding.suggestions import Suggestion, Suggestions, completion_key

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CATALOGUE = [
    ("Red Chair, 2 pack", "ACME", "Home / Chairs"),
    ("Red Chair with arms", "Acme", "Home / Chairs"),
    ("Blue chair", "Acme", "Home / Chairs"),
    ("Redwood table", "Globex™", "Home / Tables"),
    (None, None, None),
]


def opened(
    rows: list[tuple[str | None, str | None, str | None]], queries: dict[str, int] | None = None
) -> Suggestions:
    titles, brands, categories = (
        pa.array(values, pa.string()) for values in zip(*rows, strict=True)
    )
    past = pa.table([list(queries or {}), list((queries or {}).values())], schema=QUERIES)
    buffer = build_suggestion_file(
        pa.table({"title": titles, "brand": brands, "category": categories}), past
    )
    file = pa.ipc.open_file(buffer)
    return Suggestions(file.get_batch(0), file.get_batch(1))


SHOP = opened(CATALOGUE, {"red armchair": 4})


def texts(found: list[Suggestion]) -> list[str]:
    return [each.text for each in found]


def test_what_begins_so_comes_first_by_weight_then_what_has_a_word_that_does() -> None:
    assert texts(SHOP.complete("re"))[:4] == [
        "red armchair",
        "red",
        "red chair",
        "red chair with arms",
    ]
    assert texts(SHOP.complete("re"))[4:] == ["redwood table"]
    inside = ["red chair", "blue chair", "red chair with arms"]
    assert texts(SHOP.complete("chair")) == ["Chairs", "chair", *inside]
    assert SHOP.complete("red a") == [Suggestion("red armchair", "query", 4 * KINDS["query"])]


def test_a_space_ends_a_word() -> None:
    assert texts(SHOP.complete(" Red  ")) == ["red armchair", "red chair", "red chair with arms"]


def test_brands_and_categories_stand_as_the_catalogue_spells_them() -> None:
    assert SHOP.complete("AC") == [Suggestion("Acme", "brand", 3 * KINDS["brand"])]
    assert SHOP.complete("glob")[0].text == "Globex™"
    assert SHOP.complete("home") == [Suggestion("Home", "category", 4 * KINDS["category"])]


def test_no_phrase_hangs_on_a_loose_word_a_number_or_a_comma() -> None:
    found = mine_phrases(
        {
            "Red Chair, 2 pack of 3 in. x 4 in.": 1,
            "red chair with arms": 2,
            "pack of wipes": 5,
            "2 in": 9,
        }
    )
    chairs = {
        "red": 3,
        "red chair": 3,
        "chair": 3,
        "arms": 2,
        "chair with arms": 2,
        "red chair with arms": 2,
    }
    assert found == {**chairs, "pack": 6, "wipes": 5, "pack of wipes": 5}


def test_a_stroke_parts_words_but_not_a_fraction() -> None:
    found = mine_phrases({"pizza/premium": 1, "pizza": 1, "3/4 in. bolt": 2})
    assert found == {"pizza": 2, "pizza/premium": 1, "bolt": 2, "3/4 in. bolt": 2}


def test_a_run_of_korean_or_japanese_is_one_word() -> None:
    found = mine_phrases({"무선 이어폰": 2, "ワイヤレスイヤホン": 1})
    assert found == {"무선 이어폰": 2, "이어폰": 2, "ワイヤレスイヤホン": 1}


def test_a_phrase_that_always_goes_on_is_not_left_half_said() -> None:
    found = mine_phrases({"steel kitchen sink": 2, "steel": 1, "kitchen sinks": 6})
    kitchens = {"kitchen": 8, "kitchen sink": 2, "kitchen sinks": 6, "sink": 2, "sinks": 6}
    assert found == {"steel": 3, "steel kitchen sink": 2, **kitchens}


def test_chinese_phrases_end_where_words_do() -> None:
    found = mine_phrases({"无线蓝牙耳机（黑色）": 1, "蓝牙耳机 高音质": 1})
    assert found["蓝牙耳机"] == 2
    assert "牙耳" not in found
    shop = opened(
        [("无线蓝牙耳机", "网易", "数码 / 耳机"), ("蓝牙耳机 Hi-Fi", "网易", "数码 / 耳机")]
    )
    assert texts(shop.complete("耳"))[0] == "耳机"
    assert "蓝牙耳机" in texts(shop.complete("蓝"))
    assert "蓝牙耳机" in texts(shop.complete("耳机"))
    assert texts(shop.complete("hi")) == ["蓝牙耳机 hi-fi"]


@pytest.mark.parametrize(
    "slip", ["rde ch", "redd ch", "rd chai", "rrd cha", "red ahair", "red chiar"]
)
def test_one_slip_is_forgiven_where_nothing_begins_so(slip: str) -> None:
    assert texts(SHOP.complete(slip))[0] == "red chair"


def test_a_slip_is_not_looked_for_in_a_short_prefix_nor_two_in_a_long_one() -> None:
    assert SHOP.complete("rde") == SHOP.complete("der chair") == SHOP.complete("rde chiar") == []


@pytest.mark.parametrize("prefix", ["zzz", "\U0001f600", "?", "\u200b", "x" * 10_000])
def test_what_nothing_begins_with_completes_to_nothing(prefix: str) -> None:
    assert SHOP.complete(prefix) == []


def test_an_empty_catalogue_completes_to_nothing() -> None:
    assert opened([(None, None, None)]).complete("a") == []


def shown(
    user: str | None, query: str | None, days: float = 1, items: tuple[str, ...] = ("i",)
) -> Impression:
    time = NOW - timedelta(days=days)
    return Impression(
        request_id=f"{user}-{query}-{days}",
        time=time,
        release="v",
        surface="search",
        item_ids=items,
        user_id=user,
        query=query,
    )


def test_only_what_several_known_users_asked_and_found_is_told() -> None:
    enough = [shown(f"u{n}", "Red  Chair ") for n in range(MIN_USERS)]
    again = [shown("u1", "red chair", 2), shown("u1", "red chair", 3)]
    private = [shown(f"u{n % 2}", "my diagnosis", n) for n in range(1, 9)] + [
        shown(None, "my diagnosis")
    ] * 9
    nothing = [shown(f"u{n}", "unicorn", items=()) for n in range(9)]
    other = [shown(f"u{n}", None) for n in range(9)] + [shown(f"u{n}", "x" * 61) for n in range(9)]
    old = [shown(f"u{n}", "sleigh", 91) for n in range(9)] + [
        shown(f"u{n}", "tomorrow", -1) for n in range(9)
    ]
    queries = FrequentQueries(NOW - timedelta(days=90), NOW)
    for impression in [*enough, *again, *private, *nothing, *other, *old]:
        queries.add(impression)
    assert queries.table().to_pylist() == [{"query": "red chair", "users": MIN_USERS}]


def test_counting_forgets_the_rarest_and_keeps_the_frequent() -> None:
    titles = {f"steel w{n:04d}": 1 for n in range(500)} | {"steel pipe": 50}
    found = mine_phrases(titles, limit=100)
    assert found["steel"] == 550
    assert found["steel pipe"] == 50
    assert len(found) <= 200


def test_the_same_tables_make_the_same_bytes_and_only_the_heaviest_are_kept() -> None:
    columns = [pa.array(values, pa.string()) for values in zip(*CATALOGUE, strict=True)]
    items = pa.table(columns, ["title", "brand", "category"])
    assert build_suggestion_file(items, QUERIES.empty_table()).equals(
        build_suggestion_file(items.take(pa.array([4, 2, 0, 3, 1])), QUERIES.empty_table())
    )
    file = pa.ipc.open_file(build_suggestion_file(items, QUERIES.empty_table(), limit=2))
    assert file.get_batch(0)["text"].to_pylist() == ["Acme", "Home"]


def test_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"there is no .*none\.arrow: promote another release"):
        Suggestions.open(tmp_path / "none.arrow")


words = st.text("ab耳 ", min_size=2, max_size=8).filter(
    lambda text: len(completion_key(text).strip()) > 1
)
brands = st.dictionaries(words, st.integers(1, 5), min_size=1, max_size=60)


@settings(max_examples=100, deadline=None)
@given(brands, st.text("ab耳 ", max_size=3), st.integers(1, 9), st.integers(1, 4))
def test_the_best_of_all_that_match_are_found_whatever_the_block(
    counts: dict[str, int], prefix: str, k: int, block: int
) -> None:
    rows = [(None, brand, None) for brand, count in counts.items() for _ in range(count)]
    everything = opened(rows).complete("", 999)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recsys.understanding.suggestions._BLOCK", block)
        found = opened(rows).complete(prefix, k)
    starting = [
        each for each in everything if completion_key(each.text).startswith(completion_key(prefix))
    ]
    best = sorted(starting, key=lambda each: (-each.weight, completion_key(each.text)))[:k]
    assert found[: len(best)] == best
    assert all(completion_key(prefix) in completion_key(each.text) for each in found)
    assert len(set(found)) == len(found) <= k


@pytest.mark.realdata
def test_completions_of_a_real_catalogue_take_well_under_ten_milliseconds() -> None:
    import pyarrow.parquet as pq

    try:
        titles = pq.read_table(data_folder("home_depot") / "items.parquet")["title"][:10_000]
    except NotFoundError as error:
        pytest.skip(str(error))
    shop = opened([(title, None, None) for title in titles.to_pylist()])
    assert "stainless steel" in texts(shop.complete("stainl"))
    times = []
    for prefix in ["s", "e", "st", "drill", "led li", "zz"] * 20:
        started = time.perf_counter()
        shop.complete(prefix)
        times.append(time.perf_counter() - started)
    assert np.median(times) < 0.002


def test_weights_are_two_an_item_of_a_brand_or_category_and_ten_a_user() -> None:
    weights = {each.text: each.weight for each in SHOP.complete("", 99)}
    assert (weights["Acme"], weights["Home"], weights["red armchair"]) == (6.0, 8.0, 40.0)
    assert weights["redwood table"] == 1.0


@pytest.mark.parametrize(("users", "texts"), [(2, []), (3, ["lamp"])])
def test_a_query_of_three_users_is_suggested(users: int, texts: list[str]) -> None:
    queries = FrequentQueries(NOW - timedelta(days=90), NOW)
    for user in range(users):
        queries.add(shown(f"u{user}", "lamp"))
    assert queries.table()["query"].to_pylist() == texts


def test_phrases_have_four_words_and_whole_segments_six() -> None:
    assert max(len(p.split()) for p in mine_phrases({"a1b c1d e1f g1h i1j k1l m1n": 2})) == 4
    six, seven = "one two three four five six", "one two three four five six seven"
    assert six in mine_phrases({six: 1})
    assert seven not in mine_phrases({seven: 1})


def test_a_typo_is_forgiven_from_four_characters_on() -> None:
    assert texts(SHOP.complete("bleu"))[0] == "blue chair"
    assert SHOP.complete("ble") == []
