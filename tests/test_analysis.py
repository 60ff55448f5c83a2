from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from recsys.events.joins import label_examples
from recsys.experiments.analysis import Row, analyse
from recsys.experiments.assignment import INTERLEAVED, Experiment, assign_arms
from recsys.experiments.hashing import seeded_rng
from recsys.experiments.interleaving import team_draft
from recsys.tables import LIVE_EVENTS
from recsys.types import Impression

NOW = datetime(2026, 1, 2, tzinfo=UTC)
BOOST = Experiment(name="boost", arms={"old": 1, "new": 1})


def shown(request: int, user: str | None, arm: str, **more: Any) -> Impression:
    named: dict[str, Any] = {
        "surface": "search",
        "item_ids": ("a", "b", "c"),
        "arms": {"boost": arm},
        **more,
    }
    return Impression(request_id=f"r{request}", time=NOW, release="v1", user_id=user, **named)


def event(request: int, item: str, kind: str = "click") -> dict[str, Any]:
    return {
        "event_id": f"{request}-{item}-{kind}",
        "user_id": "u",
        "item_id": item,
        "type": kind,
        "time": NOW + timedelta(seconds=5),
        "request_id": f"r{request}",
    }


def analysed(
    impressions: list[Impression], events: list[dict[str, Any]], *more: Any
) -> tuple[list[Row], list[str]]:
    batch = pa.RecordBatch.from_pylist(events, LIVE_EVENTS)
    return analyse("boost", impressions, label_examples(impressions, [batch], NOW), *more)


def of(rows: list[Row], name: str, part: str = "all") -> Row:
    return next(row for row in rows if row["name"] == name and row.get("slice", part) == part)


def test_rates_by_hand() -> None:
    impressions = [
        shown(1, "u1", "old"),
        shown(2, "u1", "old"),
        shown(3, "u2", "new"),
        shown(4, None, "new", item_ids=()),
    ]
    events = [event(1, "a"), event(3, "a"), event(3, "b", "purchase"), event(2, "c", "view")]
    rows, notes = analysed(impressions, events, [BOOST])
    old, new = of(rows, "old"), of(rows, "new")
    assert [(row["requests"], row["users"]) for row in (old, new)] == [(2, 1), (2, 2)]
    assert [(row["clicks"], row["purchases"], row["touched"]) for row in (old, new)] == [
        (0.5, 0, 1),
        (1, 0.5, 0.5),
    ]
    assert new["clicks/difference"] == 0.5
    assert "clicks/difference" not in old
    assert notes == []
    assert of(rows, "sample_ratio")["users/new"] == 2


def traffic(
    lift: float, seed: int, users: int = 400
) -> tuple[list[Impression], list[dict[str, Any]]]:
    rng, impressions, events = np.random.default_rng(seed), [], []
    for number in range(users * 4):
        user = f"u{number % users}"
        arm = assign_arms([BOOST], "search", user)["boost"]
        impressions.append(
            shown(number, user, arm, surface="search" if number % 2 else "recommend")
        )
        if rng.random() < 0.3 + lift * (arm == "new"):
            events.append(event(number, "a"))
    return impressions, events


def test_a_lift_is_found_in_every_slice() -> None:
    rows, notes = analysed(*traffic(0.2, 1), [BOOST])
    assert notes == []
    assert not of(rows, "sample_ratio")["mismatch"]
    for part in ("all", "search", "recommend"):
        new = of(rows, "new", part)
        assert new["clicks/difference/low"] < 0.2 < new["clicks/difference/high"]
        assert new["clicks/p"] < 0.001


def test_of_two_equal_arms_the_interval_holds_zero() -> None:
    """An A/A test over 40 logs: about one in twenty is fooled."""
    fooled = sum(
        of(analysed(*traffic(0, seed, 100), [BOOST])[0], "new")["clicks/p"] < 0.05
        for seed in range(40)
    )
    assert fooled <= 6


def test_a_lopsided_sample_is_called_out() -> None:
    impressions, events = traffic(0, 1)
    kept = [
        each
        for number, each in enumerate(impressions)
        if each.arms["boost"] == "old" or number % 400 < 200
    ]
    rows, notes = analysed(kept, events, [BOOST])
    assert of(rows, "sample_ratio")["mismatch"]
    assert "SAMPLE RATIO MISMATCH" in notes[-1]


def test_the_control_can_be_named() -> None:
    rows, _ = analysed(*traffic(0.2, 1), [BOOST], "new")
    assert of(rows, "old")["clicks/difference"] < 0
    assert rows[0]["name"] == "new"


def test_bad_logs_are_told_never_fatal() -> None:
    rows, notes = analysed([], [], [BOOST])
    assert (rows, notes) == (
        [],
        ["no answer was shown in an experiment named 'boost': the setup has boost"],
    )
    _, notes = analysed([shown(1, "u1", "old"), shown(2, "u2", "old")], [], [BOOST])
    assert "nothing to compare" in notes[0]
    rows, notes = analysed([shown(1, "u1", "old"), shown(2, "u2", "gone")], [], [BOOST])
    assert [row["name"] for row in rows if row["kind"] == "arm"] == ["old"]
    assert "1 answers are of an arm 'gone'" in notes[0]
    _, notes = analysed([shown(1, "u1", "gone")], [], [BOOST])
    assert "no answer is of an arm" in notes[-1]
    rows, notes = analysed([shown(1, "u1", "x"), shown(2, "u2", "y"), shown(3, "u3", "y")], [])
    assert rows[0]["name"] == "y"
    assert "the setup has no experiment 'boost'" in notes[0]
    _, notes = analysed([shown(1, "u1", "old"), shown(2, "u1", "new")], [], [BOOST])
    assert "1 users were in more than one arm" in notes[0]
    _, notes = analysed([shown(1, "u1", "old"), shown(2, "u2", "new")], [], [BOOST], "gone")
    assert "'old' stands in" in notes[0]


def test_a_request_logged_twice_counts_once() -> None:
    rows, _ = analysed(
        [shown(1, "u1", "old"), shown(1, "u1", "old"), shown(2, "u2", "new")],
        [event(1, "a")],
        [BOOST],
    )
    assert (of(rows, "old")["requests"], of(rows, "old")["clicks"]) == (1, 1)


def shared(lift: float, requests: int = 600) -> tuple[list[Impression], list[dict[str, Any]]]:
    """Lists drafted by `old`, which ranks the wanted item last of five, and `new`, which has it
    second."""
    rng, impressions, events = np.random.default_rng(5), [], []
    for number in range(requests):
        items, teams = team_draft(
            np.array([0, 1, 2, 3, 4]),
            np.array([1, 4, 0, 2, 3]),
            4,
            seeded_rng(f"r{number}", "teams"),
        )
        names = tuple(("old", "new")[team] if team >= 0 else "" for team in teams)
        ids = tuple(f"i{item}" for item in items)
        impressions.append(shown(number, f"u{number % 90}", INTERLEAVED, item_ids=ids, teams=names))
        chances = 0.2 + lift * (items == 4)
        events += [
            event(number, item) for item, p in zip(ids, chances, strict=True) if rng.random() < p
        ]
    return impressions, events


def test_a_shared_list_says_who_is_liked() -> None:
    interleaved = Experiment(name="boost", arms={"old": 1, "new": 1}, kind="interleave")
    for experiments in ([interleaved], []):
        rows, _ = analysed(*shared(0.4), experiments)
        row = rows[-1]
        assert row["requests"] == row["wins"] + row["losses"] + row["ties"] == 600
        assert row["kind"] == "preference"
        sign = 1 if row["name"] == "new over old" else -1
        assert sign * row["preference"] > 0.1
        assert max(row["p"], row["p/sign"]) < 0.001


def test_two_that_are_liked_alike_are_not_told_apart() -> None:
    row = analysed(
        *shared(0.0), [Experiment(name="boost", arms={"old": 1, "new": 1}, kind="interleave")]
    )[0][-1]
    assert row["preference/low"] < 0 < row["preference/high"]
    assert row["p/sign"] > 0.01


def test_nothing_clicked_prefers_nobody() -> None:
    impressions, _ = shared(0.0, 20)
    rows, notes = analysed(
        impressions, [], [Experiment(name="boost", arms={"old": 1, "new": 1}, kind="interleave")]
    )
    assert math.isnan(rows[-1]["p/sign"])
    assert "no request prefers" in notes[0]


def test_a_preference_is_of_the_second_arm_over_the_control() -> None:
    impressions, events = shared(0.4)
    interleaved = Experiment(name="boost", arms={"old": 1, "new": 1}, kind="interleave")
    row = analysed(impressions, events, [interleaved])[0][-1]
    assert row["name"] == "new over old"
    assert row["wins"] > row["losses"]
    row = analysed(impressions, events)[0][-1]  # without the experiment, by name
    assert row["name"] == "old over new"
    assert row["wins"] < row["losses"]


def test_without_the_experiment_the_two_teams_of_most_lists_are_compared() -> None:
    lists = [("z", "y", ""), ("z", "y", ""), ("a", "y", "")]
    impressions = [
        shown(number, f"u{number}", INTERLEAVED, teams=teams) for number, teams in enumerate(lists)
    ]
    events = [event(0, "a"), event(1, "a"), event(2, "a"), event(2, "b", "view")]
    row = analysed(impressions, events)[0][-1]
    assert row["name"] == "z over y"
    assert (row["wins"], row["losses"], row["ties"], row["requests"]) == (2, 0, 1, 3)


def test_a_view_touches_and_is_no_click_and_a_purchase_is_one() -> None:
    impressions = [shown(number, f"u{number}", "old") for number in range(5)]
    events = [event(0, "a", "view"), event(1, "a", "cart"), event(2, "a", "purchase")]
    events += [event(3, "a"), event(3, "b"), event(3, "c", "view")]
    old = of(analysed(impressions, events, [BOOST])[0], "old")
    assert (old["clicks"], old["purchases"], old["touched"]) == (4 / 5, 1 / 5, 4 / 5)
    assert (old["requests"], old["users"]) == (5, 5)
