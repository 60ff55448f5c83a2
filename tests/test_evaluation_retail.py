"""A shop small enough to score by hand, then the real one."""

import json
import sys
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from jobs import evaluate_retail
from recsys.encoders.hashing import HashingEncoder
from recsys.errors import NotFoundError
from recsys.evaluation import retail, retail_split
from recsys.interfaces import Chunk
from recsys.pipeline import sources
from recsys.ranking.linear import RETAIL_WEIGHTS
from recsys.ranking.mixer import Mixer

START, STOP = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 8, tzinfo=UTC)
BEFORE, AFTER = START - timedelta(days=7), START + timedelta(days=1)
FILLERS = [f"x{number:02d}" for number in range(20)]

#: Milk has three buyers, jam two of them, lemon four others, tea only ann. zed buys one of
#: everything else.
PAST = {
    "ann": ["milk", "milk", "tea"],
    "ben": ["milk", "jam"],
    "cal": ["milk", "jam"],
    **{user: ["lemon"] for user in ("dee", "eve", "fay", "gus")},
    "zed": FILLERS,
}
FUTURE = {"ann": ["jam", "milk", "milk"], "ben": ["milk"], "new": ["tea"]}
ROWS = {item: row for row, item in enumerate(sorted(["milk", "jam", "lemon", "tea", *FILLERS]))}


def bought(baskets, time):
    return [
        {"user_id": user, "item_id": item, "time": time + timedelta(minutes=at)}
        for user, items in baskets.items()
        for at, item in enumerate(items)
    ]


class Shop:
    """The same as an adapter, in two chunks, with a refund, a cancellation and an unknown customer
    between."""

    name = "corner"
    events = bought(PAST, BEFORE) + bought(FUTURE, AFTER)
    unusable = (
        ("ann", "tea", "purchase", -1.0),
        ("ann", "tea", "cancellation", 1.0),
        (None, "tea", "purchase", 1.0),
    )

    def item_chunks(self):
        return [Chunk("items", 0, len(ROWS))]

    def event_chunks(self):
        return [
            Chunk("events", 0, 20),
            Chunk("events", 20, len(self.events) - 20),
            Chunk("unusable", 0, 3),
        ]

    def read_items(self, chunk):
        """Latest rows first; lemon has no title, and milk is there twice."""
        ids = [*reversed(ROWS), "milk"]
        titles = [None if item == "lemon" else f"fresh {item}" for item in ids[:-1]]
        categories = ["DAIRY" if item == "milk" else None for item in ids]
        return pa.table(
            {"item_id": ids, "title": [*titles, "a second milk"], "category": categories}
        )

    def read_events(self, chunk):
        if chunk.path == "unusable":
            users, items, types, quantities = zip(*self.unusable, strict=True)
            times = pa.array([BEFORE] * 3, pa.timestamp("us", tz="UTC"))
            return pa.table(
                [users, items, types, times, quantities],
                ["user_id", "item_id", "type", "time", "quantity"],
            )
        events = pa.Table.from_pylist(self.events[chunk.start : chunk.start + chunk.rows])
        return events.append_column("type", pa.array(["purchase"] * chunk.rows)).append_column(
            "quantity", pa.array([1.0] * chunk.rows)
        )


@pytest.fixture
def shop():
    return retail_split.split_at(retail_split.usable_purchases(Shop()), START, STOP)


def plain_shelf(items):
    """Items that nothing but their buyers makes alike: a vector of its own each, no words, no
    category."""
    nobody = np.full((items, 1), -1, np.int32), np.full((items, 1), -np.inf, np.float32)
    table = pa.table({"item_id": [str(row) for row in range(items)]})
    return retail_split.RetailItems(
        table, np.eye(items, dtype=np.float32), np.full(items, -1, np.int32), nobody
    )


def contenders(shop):
    return retail.retail_systems(shop, plain_shelf(shop.item_count), Mixer.of(RETAIL_WEIGHTS))


def names(rows):
    names = list(ROWS)
    return [names[row] for row in rows if row >= 0]


def test_only_what_somebody_bought_is_a_purchase():
    log = retail_split.usable_purchases(Shop())
    assert log.select(["user_id", "item_id"]).to_pylist() == [
        {"user_id": event["user_id"], "item_id": event["item_id"]} for event in Shop.events
    ]


def test_split_asks_who_bought_on_both_sides(shop):
    """ann and ben: `cal` never came back, `new` was not there before."""
    assert (len(shop.histories), len(shop.users), shop.item_count) == (8, 2, len(ROWS))
    assert names(shop.users.items) == ["milk", "milk", "tea", "milk", "jam"]
    assert shop.users.offsets.tolist() == [0, 3, 5]
    assert (shop.all[0].tolist(), names(shop.all[1])) == ([0, 2, 3], ["jam", "milk", "milk"])
    assert (shop.new[0].tolist(), names(shop.new[1])) == ([0, 1, 1], ["jam"])
    assert shop.histories.days.max() < shop.now_days


def test_truth_is_from_the_start_until_before_the_stop():
    moment = timedelta(microseconds=1)
    times = {"early": START - moment, "first": START, "last": STOP - moment, "late": STOP}
    log = [{"user_id": "ann", "item_id": item, "time": time} for item, time in times.items()]
    shop = retail_split.split_at(pa.Table.from_pylist(log), START, STOP)
    rows = {item: row for row, item in enumerate(sorted(times))}
    assert shop.users.items.tolist() == [rows["early"]]
    assert shop.all[1].tolist() == shop.new[1].tolist() == [rows["first"], rows["last"]]


@pytest.mark.parametrize(
    ("name", "everything", "new"),
    [
        ("popularity", ["lemon", "milk", "jam"], ["lemon", "jam"]),
        ("own_frequency", ["milk", "tea", "lemon", "jam"], ["lemon", "jam"]),
        # jam: 2 / sqrt(2 x 3) with milk; milk and tea: 1 / sqrt(3) with each other; lemon: nothing.
        ("item_knn", ["jam"], ["jam"]),
        ("fixed_blend", ["milk", "tea"], ["jam"]),
        ("nightshelf", ["milk", "tea"], ["jam"]),
    ],
)
def test_what_a_contender_tells_ann(shop, name, everything, new):
    ours = [names(answer[0]) for answer in contenders(shop)[name](shop.users)]
    assert [ours[0][: len(everything)], ours[1][: len(new)]] == [everything, new]


@pytest.mark.parametrize(
    "name", ["random", "popularity", "own_frequency", "item_knn", "fixed_blend", "nightshelf"]
)
def test_lists_repeat_nothing_and_new_ones_hold_nothing_bought(shop, name):
    everything, new = contenders(shop)[name](shop.users)
    for answers in (everything, new):
        assert answers.shape == (2, retail.K)
        assert all(len(set(names(rows))) == len(names(rows)) for rows in answers)
    assert not {"milk", "tea"} & set(names(new[0]))
    assert not {"milk", "jam"} & set(names(new[1]))


def test_scores_of_a_list_told_to_everybody(shop):
    """lemon, milk, jam: both of ann's at places 2 and 3, ben's at 2. New: jam at place 2; ben has
    no truth there."""
    row = retail.basket_scores(shop, contenders(shop)["popularity"])
    second, third = 1 / np.log2(3), 1 / 2
    ideal = 1 + second
    np.testing.assert_allclose(row["ndcg@10/all"], ((second + third) / ideal + second) / 2)
    np.testing.assert_allclose(row["ndcg@10/new"], second)
    assert row["hits@10/all"] == row["hits@10/new"] == 1
    assert row["hits@10/new/interval"] == [1, 1]
    assert row["coverage"] == 10 / len(ROWS)


def test_what_he_bought_before_is_no_new_hit(shop):
    everything = np.array([[ROWS["milk"], ROWS["tea"]], [ROWS["milk"], ROWS["jam"]]])
    row = retail.basket_scores(shop, lambda histories: (everything, everything))
    assert (row["hits@10/all"], row["hits@10/new"]) == (3 / 4, 0)


def test_blocks_of_users_add_up(shop, monkeypatch):
    whole = [retail.basket_scores(shop, contender) for contender in contenders(shop).values()]
    monkeypatch.setattr(retail, "USERS_PER_BLOCK", 1)
    monkeypatch.setattr(sources, "ITEMS_PER_BLOCK", 7)
    assert [
        retail.basket_scores(shop, contender) for contender in contenders(shop).values()
    ] == whole


def test_a_shelf_stands_in_the_order_of_rows():
    """The first of milk's two rows counts; lemon, without a text, has no vector and is like
    nothing."""
    encoder = HashingEncoder(64)
    shelf = retail_split.retail_items(Shop(), retail_split.usable_purchases(Shop()), encoder)
    expected = encoder.encode_items(
        [f"fresh {item}. DAIRY" if item == "milk" else f"fresh {item}" for item in ROWS]
    )
    expected[ROWS["lemon"]] = 0
    assert shelf.items["item_id"].to_pylist() == list(ROWS)
    np.testing.assert_array_equal(shelf.vectors_ID, expected)
    assert np.flatnonzero(shelf.categories_I >= 0).tolist() == [ROWS["milk"]]
    rows_IN, scores_IN = shelf.content
    assert (rows_IN[ROWS["lemon"]] == -1).all()
    others = len(ROWS) - 1  # all but itself; lemon comes last, with nothing to say for it
    assert names(rows_IN[ROWS["milk"]][:others])[-1] == "lemon"
    assert scores_IN[ROWS["milk"]][others - 1] == 0 < scores_IN[ROWS["milk"]][others - 2]


@pytest.mark.slow
def test_the_mixer_learns_from_earlier_periods_and_sees_nothing_later():
    """Three weeks in which everybody buys milk again, and whatever comes after them."""
    weeks = [
        bought({"ann": ["milk", "tea"], "ben": ["milk", "jam"]}, START - timedelta(days=7 * n))
        for n in (1, 2, 3)
    ]
    past = pa.Table.from_pylist([event for week in weeks for event in week])
    later = pa.Table.from_pylist(bought({"ann": ["jam"] * 3, "ben": ["tea"] * 3}, AFTER))
    shelf = plain_shelf(3)
    whole, past_only = (
        retail.train_retail_mixer(log, START, STOP, shelf)
        for log in (pa.concat_tables([past, later]), past)
    )
    np.testing.assert_array_equal(whole.weights_GFV, past_only.weights_GFV)
    assert whole.feature_names == sources.SOURCES
    assert (
        whole.bias
        == past_only.bias
        > retail.train_retail_mixer(later, START, STOP, shelf).bias
        == 0
    )


def run(monkeypatch, capsys, *flags):
    monkeypatch.setattr(sys, "argv", ["evaluate_retail", *flags])
    evaluate_retail.main()
    return capsys.readouterr().out.splitlines()


@pytest.fixture
def corner_shop(monkeypatch):
    monkeypatch.setattr(evaluate_retail, "DATASETS", {"corner": Shop})
    monkeypatch.setattr(evaluate_retail, "minilm", lambda: HashingEncoder(64))
    monkeypatch.setitem(retail_split.TEST, "corner", (START, STOP))


def test_the_job_s_last_line(corner_shop, monkeypatch, capsys):
    lines = run(monkeypatch, capsys, "--dataset", "corner")
    summary = json.loads(lines[-1])
    assert (summary["job"], summary["dataset"], summary["validation"]) == (
        "evaluate_retail",
        "corner",
        False,
    )
    assert summary["commit"]
    assert summary["seconds"] >= 0
    rows = summary["rows"]
    floors = ["random", "popularity", "own_frequency", "item_knn"]
    assert [row["name"] for row in rows] == [*floors, "fixed_blend", "nightshelf"]
    for row in rows:
        assert set(row) >= {"hits@10/all", "hits@10/new", "ndcg@10/all", "ndcg@10/new", "coverage"}
        for name in ("all", "new"):
            low, high = row[f"hits@10/{name}/interval"]
            assert 0 <= low <= row[f"hits@10/{name}"] <= high <= 1
    assert "2 users" in lines[0]


def test_validation_is_the_week_before(corner_shop, monkeypatch, capsys):
    """Truth that ends where the test begins: with the test a week later, it is the test of
    above."""
    monkeypatch.setitem(retail_split.TEST, "corner", (STOP, STOP + (STOP - START)))
    lines = run(monkeypatch, capsys, "--dataset", "corner", "--validation")
    assert lines[0] == "corner, truth from 2026-03-01 to 2026-03-08: 2 users"
    assert json.loads(lines[-1])["validation"] is True


@pytest.mark.realdata
def test_the_order_of_contenders_in_a_real_shop(monkeypatch, capsys):
    """Vectors of hashed words, to be quick: hits@10/all .009 < .079 < .339 < .376, hits@10/new .072
    < .128."""
    monkeypatch.setattr(evaluate_retail, "minilm", HashingEncoder)
    try:
        lines = run(monkeypatch, capsys, "--dataset", "uci_online_retail")
    except NotFoundError as missing:
        pytest.skip(str(missing))
    rows = {row["name"]: row for row in json.loads(lines[-1])["rows"]}
    on_all = [
        rows[name]["hits@10/all"]
        for name in ("random", "popularity", "own_frequency", "nightshelf")
    ]
    assert on_all == sorted(set(on_all))
    assert rows["item_knn"]["hits@10/new"] < rows["nightshelf"]["hits@10/new"]
