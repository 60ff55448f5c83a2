"""What a job prints in the end: tables, criteria, and a line of JSON."""

from __future__ import annotations

import json
import time

import numpy as np

from recsys.evaluation.results import Column, Criterion, criteria_table, summary_line, text_table


def test_columns_are_as_wide_as_their_widest_cell_and_numbers_stand_to_the_right() -> None:
    rows = [
        {"name": "nightshelf", "rate": 12345.6, "to": "numpy"},
        {"name": "numpy", "rate": 7.0},
        {"name": "none", "rate": float("nan"), "to": None},
    ]
    assert text_table(rows, [Column("rate", ",.1f", "texts/s"), "to"]).splitlines() == [
        "             texts/s  to",
        "nightshelf  12,345.6  numpy",
        "numpy            7.0",
        "none               -  -",
    ]


def test_an_interval_stands_behind_its_value() -> None:
    rows = [
        {"name": "a", "mrr": 0.5, "mrr/low": 0.4, "mrr/high": 0.6},
        {"name": "b", "mrr": 0.25, "mrr/interval": (0.125, 0.375)},
        {"name": "c", "mrr": 0.0, "mrr/interval": None},
    ]
    assert text_table(rows, [Column("mrr", ".3f")]).splitlines()[1:] == [
        "a  0.500 [0.400, 0.600]",
        "b  0.250 [0.125, 0.375]",
        "c                 0.000",
    ]


def test_the_summary_line_is_json_whatever_is_not_finite() -> None:
    rows = [{"name": "a", "value": float("nan"), "pair": (float("inf"), 1.0)}]
    line = summary_line("benchmark_x", "shop", time.perf_counter(), iter(rows), part="test")
    summary = json.loads(line)
    assert list(summary) == ["job", "dataset", "commit", "seconds", "part", "rows"]
    assert (summary["job"], summary["part"]) == ("benchmark_x", "test")
    assert 0 <= summary["seconds"] < 1
    assert summary["rows"] == [{"name": "a", "value": None, "pair": [None, 1.0]}]


def test_floors_are_judged_on_their_side_and_by_interval_where_asked() -> None:
    wide = {"value": 1.5, "interval": (0.5, 2.5)}
    assert Criterion(name="more", floor=1.0, goal=2.0, **wide).verdict == "floor"
    assert Criterion(name="more", floor=1.0, by_interval=True, **wide).verdict == "MISSED"
    assert not Criterion(name="less", floor=1.0, at_most=True, **wide).reached_floor
    below = {"value": 0.5, "interval": (0.4, 0.9)}
    less = Criterion(name="less", floor=1.0, at_most=True, by_interval=True, **below)
    assert less.reached_floor
    assert Criterion(name="no goal", **below).verdict == "goal"


def test_the_table_says_what_was_reached_and_what_was_missed() -> None:
    never = {"value": float("inf"), "interval": (400.0, float("inf"))}
    criteria = [
        Criterion(
            name="an error", floor=0.1, goal=0.05, value=0.04, interval=(0.03, 0.06), at_most=True
        ),
        Criterion(
            name="another", floor=0.1, goal=0.05, value=0.08, interval=(0.03, 0.09), at_most=True
        ),
        Criterion(name="a share", floor=0.9, value=0.8, interval=(0.7, 0.85)),
        Criterion(name="never", floor=500.0, at_most=True, **never),
    ]
    head, *lines = criteria_table(criteria).splitlines()
    assert [line.split()[-1] for line in lines] == ["goal", "floor", "MISSED", "MISSED"]
    assert head.split() == ["floor", "goal", "value", "95", "%", "interval", "reached"]
    assert json.loads(summary_line("j", "d", 0.0, [criteria[-1].as_row()]))["rows"] == [
        {
            "name": "never",
            "floor": 500.0,
            "goal": None,
            "value": None,
            "low": 400.0,
            "high": None,
            "reached_floor": False,
            "reached_goal": True,
        }
    ]


def test_numbers_of_numpy_are_written_too() -> None:
    row = {"name": "a", "value": np.float64(0.25)}
    assert '"value": 0.25' in summary_line("j", "d", 0.0, [row])
