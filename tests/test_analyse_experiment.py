from __future__ import annotations

import json
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from jobs import analyse_experiment
from recsys.config import Setup
from recsys.experiments.assignment import Experiment
from recsys.experiments.exploration import Exploration, explore
from recsys.ranking import trees
from recsys.types import FeatureTable, Impression, Interaction
from tests.checkerboard import setup

NOW = datetime.now(UTC) - timedelta(hours=1)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NIGHTSHELF_HOME", str(tmp_path))
    return tmp_path


def shop() -> Setup:
    return replace(setup(), experiments=(Experiment(name="boost", arms={"old": 0.5, "new": 0.5}),))


def call(
    monkeypatch: pytest.MonkeyPatch, *words: str, shop: str = "tests.checkerboard:setup"
) -> int:
    monkeypatch.setattr(sys, "argv", ["job", *words, "--setup", shop])
    return analyse_experiment.main()


def traffic(requests: int = 400) -> None:
    """Two arms; `new` gets twice the clicks. The lists swap, and their one feature is what people
    want."""
    store, rng = setup().event_store(), np.random.default_rng(0)
    impressions, clicks = [], []
    for number in range(requests):
        relevance_N = rng.random(6).astype(np.float32)
        scores_N = rng.random(6).astype(np.float32)
        places, propensities, _ = explore(
            scores_N, 6, Exploration("swap", 0.5), rng, tail_N=np.zeros(6, bool)
        )
        arm = ("old", "new")[number % 2]
        impressions.append(
            Impression(
                request_id=f"r{number}",
                time=NOW,
                release="v1",
                surface="recommend",
                item_ids=tuple(f"i{item}" for item in places),
                features=FeatureTable(
                    ("popularity",), np.asarray(relevance_N[places], np.float32)[:, None]
                ),
                user_id=f"u{number % 100}",
                scores=tuple(scores_N[places].tolist()),
                propensities=tuple(propensities.tolist()),
                arms={"boost": arm},
            )
        )
        is_examined_K = rng.random(6) < 1 / np.arange(1, 7)
        for place, item in enumerate(places.tolist()):
            if is_examined_K[place] and rng.random() < relevance_N[item] * (
                0.4 if arm == "old" else 0.8
            ):
                clicks.append(
                    Interaction(
                        event_id=f"{number}-{item}",
                        user_id=f"u{number % 100}",
                        item_id=f"i{item}",
                        type="click",
                        time=NOW,
                        request_id=f"r{number}",
                    )
                )
    store.append_impressions(impressions)
    store.append(clicks)
    store.close()


def summary(capsys: pytest.CaptureFixture[str]) -> tuple[str, dict]:
    out = capsys.readouterr().out
    return out, json.loads(out.splitlines()[-1])


def test_an_experiment_is_analysed(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    traffic()
    assert call(monkeypatch, "boost", "--arm", "old") == 0
    out, result = summary(capsys)
    assert out.splitlines()[0].split() == ["unknown_requests", "0"]
    assert result["sanity"]["unknown_requests"] == 0
    assert (result["job"], result["experiment"]) == ("analyse_experiment", "boost")
    old, new = (row for row in result["rows"] if row["kind"] == "arm")
    assert [(row["name"], row["requests"], row["users"]) for row in (old, new)] == [
        ("old", 200, 50),
        ("new", 200, 50),
    ]
    assert new["clicks/difference/low"] > 0
    assert new["clicks/p"] < 0.001


def test_a_setups_experiment_has_its_shares_checked(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    traffic()
    assert call(monkeypatch, "boost", shop="tests.test_analyse_experiment:shop") == 0
    _, result = summary(capsys)
    assert result["notes"] == []
    ratio = next(row for row in result["rows"] if row["kind"] == "ratio")
    assert (ratio["users/old"], ratio["users/new"], ratio["mismatch"]) == (50, 50, False)


def test_an_empty_log_is_noted(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "boost") == 0
    _, result = summary(capsys)
    assert result["rows"] == []
    assert "no answer was shown in an experiment named 'boost'" in result["notes"][0]


def test_a_candidate_is_estimated(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trees that rank by what is wanted, over lists in random order: the exchanges tell the curve,
    DR the gain."""
    import lightgbm

    traffic(1500)
    x = np.linspace(0, 1, 500)
    booster = lightgbm.train({"verbose": -1, "num_threads": 1}, lightgbm.Dataset(x[:, None], x), 20)
    trees.save_trees(booster, ("popularity",), home / "models" / "ranker_trees")
    assert call(monkeypatch, "boost", "--candidate", str(home / "models")) == 0
    _, result = summary(capsys)
    rows = {row["name"]: row for row in result["rows"] if row["kind"] == "estimate"}
    assert set(rows) == {
        f"ranker_trees/{name}" for name in ("logged", "ips", "snips", "dr", "gain")
    }
    assert rows["ranker_trees/gain"]["clicks/low"] > 0


def test_a_folder_without_rankers_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    traffic(20)
    assert call(monkeypatch, "boost", "--candidate", str(home / "gone")) == 1
    assert "gone holds no ranker: name a folder" in capsys.readouterr().err


def test_a_log_without_exploration_gives_no_estimate(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = setup().event_store()
    store.append_impressions(
        [
            Impression(
                request_id="r1",
                time=NOW,
                release="v1",
                surface="search",
                item_ids=("i1",),
                features=FeatureTable(("popularity",), np.array(((1.0,),), np.float32)),
                arms={"boost": "old"},
            )
        ]
    )
    store.close()
    (home / "ranker_trees").mkdir()
    (home / "ranker_trees" / "features.json").write_text('["popularity"]')
    assert call(monkeypatch, "boost", "--candidate", str(home)) == 0
    _, result = summary(capsys)
    assert any(note.startswith("search: no position") for note in result["notes"])
