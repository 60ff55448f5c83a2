"""The benchmark of the night's lists, small: its rows, its exit code, and that it detects a wrong
list."""

from __future__ import annotations

import json
import shutil
import sys
from collections import namedtuple
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from jobs import benchmark_night
from recsys.batch import nearest, synthetic
from recsys.batch.benchmarks import night as night_benchmark
from recsys.batch.stages import run_stages
from recsys.config import tiny
from recsys.encoders.hashing import HashingEncoder
from recsys.release import files
from recsys.storage.streams import npy_pieces
from tests.test_nearest import CANDIDATES, shop

pytestmark = pytest.mark.ray
SMALL = "--items 3_000 --users 500 --dim 16 --n 10 --resident 1_000 --texts 50"


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["job", *SMALL.split(), *words])
    monkeypatch.setattr(
        night_benchmark, "tiny", lambda: replace(tiny(), encoder=partial(HashingEncoder, 64))
    )
    return benchmark_night.main()


def test_a_small_night_is_measured_and_its_lists_are_right(
    ray_session: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(monkeypatch, "--home", str(tmp_path / "home")) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (summary["job"], summary["dataset"]) == ("benchmark_night", "generated")
    rows = {row["name"]: row for row in summary["rows"]}
    assert [row["users"] for row in summary["rows"] if row["name"] == "nightshelf"] == [256, 500]
    assert (rows["check"]["wrong"], rows["check"]["recall"]) == (0, 1.0)
    assert (rows["resume"]["same_bytes"], rows["resume"]["kept"], rows["resume"]["shards"]) == (
        True,
        6,
        12,
    )
    assert rows["embed items"]["texts"] == 50
    assert rows["driver"]["rss_mib"] > 0
    assert rows["worker/nearest"]["rss_mib"] > 0
    assert not (tmp_path / "home").exists()


def test_too_small_a_disk_and_a_folder_in_use_are_refused_first(
    ray_session: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    disk = namedtuple("disk", "total used free")(1 << 20, 0, 1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: disk)
    assert call(monkeypatch, "--home", str(tmp_path / "home"), "--items", "1_000_000") == 1
    assert "1,000,000 items and 500 users need 0." in capsys.readouterr().err
    (tmp_path / "mine").touch()
    assert call(monkeypatch, "--home", str(tmp_path)) == 1
    assert "is not empty, and would be emptied" in capsys.readouterr().err
    assert (tmp_path / "mine").exists()


@pytest.mark.parametrize("wrong", ["repeated", "bought", "sold out", "missing", "worse"])
def test_a_wrong_list_is_detected(ray_session: None, tmp_path: Path, wrong: str) -> None:
    night = shop(tmp_path, 250)
    run_stages(night, nearest.stage(night))
    run_stages(night, CANDIDATES)
    assert synthetic.check_lists(night, 0).counts["wrong"] == 0
    rows_UN = np.array(night.open_array(files.CANDIDATE_ROWS))
    histories, _ = synthetic.draw_users(night.dataset(), 0)
    sold_out = np.flatnonzero(~np.asarray(night.open_table(files.ITEMS)["in_stock"]))[0]
    for user in range(len(histories)):
        if rows_UN[user, 0] >= 0:
            first, last = rows_UN[user, 0], int(histories.slice(user, user + 1).items[0])
            changed = {"repeated": first, "bought": last, "sold out": sold_out, "missing": -1}
            rows_UN[user, 1] = changed.get(
                wrong, next(row for row in range(600) if row not in rows_UN[user])
            )
    night.assemble(files.CANDIDATE_ROWS.name, npy_pieces([rows_UN]))
    assert synthetic.check_lists(night, 0).counts["wrong"] > 10
