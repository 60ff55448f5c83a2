"""Numbers of the user model's recipe: put into it by name, and searched for by Ray Tune on a toy
ring of items."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from jobs import tune_user_model as job
from recsys.batch import user_model_search
from recsys.batch.tune import Trial, _best_first, _report, _TrialLog, search_parameters
from recsys.batch.user_model_search import SPACE, overrides, trial_row, trials_table
from recsys.config import tiny
from recsys.encoders.hashing import HashingEncoder
from recsys.errors import InputError, RecsysError
from recsys.training.schedule import Schedule
from recsys.training.user_recipe import UserModelRecipe
from recsys.training.users import score_recipe
from tests.test_training_users import ITEMS, TRAIN, VALID, VECTORS
from tests.test_training_users import RECIPE as RING_RECIPE

RECIPE = UserModelRecipe(
    schedule=Schedule(epochs=20, batch_size=256, learning_rate=1e-3, seed=7), dim=128
)


def test_values_replace_fields_of_recipe_and_schedule():
    changed = RECIPE.with_values(
        {"dim": 64.0, "shrinkage": 8, "learning_rate": 3e-3, "epochs": 0.5}
    )
    schedule = replace(RECIPE.schedule, learning_rate=3e-3, epochs=0.5)
    assert changed == replace(RECIPE, schedule=schedule, dim=64, shrinkage=8.0)
    assert (type(changed.dim), type(changed.shrinkage)) == (int, float)


def test_the_values_of_a_recipe_give_it_again():
    other = UserModelRecipe(
        schedule=Schedule(epochs=60, batch_size=512, learning_rate=5e-3, seed=7),
        dim=32,
        layers=3,
        heads=4,
        dropout=0.1,
        negatives=9,
    )
    assert RECIPE.with_values(other.values()) == other
    assert RECIPE.with_values({}) == RECIPE == RECIPE.with_values(tiny().user_recipe)


@pytest.mark.parametrize(
    "name", ["dimension", "seed", "schedule", "log_dir", "device", "with_values"]
)
def test_an_unknown_name_is_refused_and_the_known_ones_are_told(name):
    with pytest.raises(
        InputError, match=f"has no {name}: its numbers are dim, layers, .*learning_rate"
    ):
        RECIPE.with_values({name: 1, "dim": 64})


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"dim": 64.5}, "dim is 64.5: give a whole number"),
        ({"layers": float("nan")}, "layers is nan: give a whole number"),
        ({"layers": 0}, "layers is 0: give 1 or more"),
        ({"heads": 3}, "128 dimensions cannot be shared by 3 heads"),
        ({"dropout": 1.5}, "dropout is 1.5: give a share"),
        ({"shrinkage": -1}, "shrinkage is -1.0: give 0 events or more"),
        ({"learning_rate": 0}, "learning_rate is 0.0: give more than 0"),
    ],
)
def test_a_number_that_cannot_be_is_refused(values, sentence):
    with pytest.raises(InputError, match=sentence):
        RECIPE.with_values(values)


def test_validated_is_the_score_of_the_model_with_these_values():
    arguments = {
        "histories": TRAIN,
        "valid": VALID,
        "items": ITEMS,
        "vectors_ID": VECTORS,
        "recipe": RING_RECIPE,
    }
    untrained = score_recipe({"learning_rate": 1e-9, "epochs": 1}, **arguments)
    assert score_recipe({"epochs": 10}, **arguments) > 0.9 > 0.6 > untrained


def test_a_search_of_nothing_is_refused():
    for space, trials in (({}, 3), ({"dim": [1]}, 0), ({"dim": []}, None)):
        with pytest.raises(InputError, match="finds nothing: give at least one"):
            search_parameters(score_recipe, {}, space, trials)


def test_failures_stand_last_and_nothing_but_failures_is_an_error():
    good, bad = Trial({"dim": 1}, 0.5, 1.0), Trial({"dim": 2}, math.nan, 1.0, "the loss is nan")
    assert _best_first([bad, good, replace(good, score=0.7)]) == [
        replace(good, score=0.7),
        good,
        bad,
    ]
    with pytest.raises(RecsysError, match="none of 1 trials came to a score: the loss is nan"):
        _best_first([bad])


def test_an_error_of_ours_is_a_score_that_there_is_not():
    scored = _report(lambda values, base: base + values["dim"], {"dim": 2}, {"base": 1})
    assert scored == {"score": 3, "error": ""}
    failed = _report(lambda values: RECIPE.with_values(values), {"dim": 0}, {})
    assert math.isnan(failed["score"])
    assert failed["error"] == "dim is 0: give 1 or more"
    with pytest.raises(KeyError):
        _report(lambda values: values["layers"], {}, {})


def test_a_line_for_each_trial_that_ends():
    """Trials as Ray Tune hands them over: one ended, one whose process raised, one whose process
    was killed."""
    said = []
    log = _TrialLog(said.append, 3)
    last = {"score": 0.5, "time_total_s": 61.4, "error": ""}
    log.on_trial_complete(
        1, [], SimpleNamespace(config={"dim": 64, "dropout": 0.2}, last_result=last)
    )
    for text in ("Traceback\n  line 1\nKeyError: 'layers'\n", None):
        log.on_trial_error(
            2,
            [],
            SimpleNamespace(config={"dim": 32}, last_result={}, get_error=lambda text=text: text),
        )
    assert said == [
        "trial 1 of 3  0.5000  61 s  dim 64  dropout 0.2",
        "trial 2 of 3  failed: KeyError: 'layers'  0 s  dim 32",
        "trial 3 of 3  failed: its process died  0 s  dim 32",
    ]
    assert [trial.error for trial in log.trials] == ["", "KeyError: 'layers'", "its process died"]


def test_what_a_job_prints_of_trials():
    start = RECIPE.with_values({"epochs": 5})
    now = {name: start.values()[name] for name in SPACE}
    trials = [
        Trial({**now, "dim": 64}, 0.5, 1.26),
        Trial(now, 0.4, 2.0),
        Trial({**now, "dim": 1}, math.nan, 0, "no"),
    ]
    rows = [trial_row(trial, start) for trial in trials]
    assert [row["name"] for row in rows] == ["drawn", "as it is", "drawn"]
    assert (rows[0]["ndcg@10"], rows[0]["seconds"], rows[2]["ndcg@10"], rows[2]["error"]) == (
        0.5,
        1.3,
        None,
        "no",
    )
    assert overrides(RECIPE, start.with_values(trials[0].values)) == {"dim": 64, "epochs": 5.0}
    lines = trials_table(rows).splitlines()
    assert lines[0].split()[:3] == ["ndcg@10", "seconds", "learning_rate"]
    assert lines[3].split()[-1] == "no"
    assert [line.split()[:3] for line in lines[1:]] == [
        ["drawn", "0.5000", "1.3"],
        ["as", "it", "is"],
        ["drawn", "-", "0"],
    ]


def test_every_choice_of_the_job_is_a_recipe():
    for name, choices in SPACE.items():
        assert [RECIPE.with_values({name: choice}).values()[name] for choice in choices] == list(
            choices
        )


def test_the_job_tunes_on_a_folder_without_its_test_items(tmp_path, monkeypatch, capsys):
    """Each user walks three places around the ring; item t00, the last of everybody, is for the
    test."""
    lines = [
        f"u{user} " + " ".join(f"i{(user + place) % 6}" for place in range(4)) + " t00"
        for user in range(30)
    ]
    (tmp_path / "user_sequences.txt").write_text("\n".join(lines))
    (tmp_path / "items.csv").write_text(
        "item_id,title\n" + "".join(f"i{n},word{n}\n" for n in range(6)) + "t00,last\n"
    )
    calls = []

    def search(function, arguments, space, trials, *, seed, first, gpus, say):
        """What `search_parameters` does, in this process."""
        calls.append(arguments)
        draws = [*first, {**first[0], "learning_rate": 1e-9}]
        return _best_first([Trial(values, function(values, **arguments), 0.1) for values in draws])

    monkeypatch.setattr(user_model_search, "search_parameters", search)
    monkeypatch.setattr(user_model_search, "minilm", lambda: HashingEncoder(8))
    monkeypatch.setattr(job.ray, "init", lambda **_: None)
    monkeypatch.setenv("HOME", str(tmp_path))
    words = ["--data", str(tmp_path), "--trials", "2", "--epochs", "8", "--gpus", "0"]
    monkeypatch.setattr(sys, "argv", ["tune_user_model", *words])
    assert job.main() == 0
    assert (
        np.bincount(calls[0]["histories"].items).tolist() == [15] * 6
    )  # neither the last item nor the last but one
    assert calls[0]["valid"].next_B.tolist() == [(user + 3) % 6 for user in range(30)]
    *_, line, last = capsys.readouterr().out.splitlines()
    assert line == "the best of 2 as a setup has it: user_recipe={'epochs': 8.0}"
    summary = json.loads(last)
    assert (summary["job"], summary["user_recipe"], len(summary["rows"])) == (
        "tune_user_model",
        {"epochs": 8.0},
        2,
    )


@pytest.mark.ray
def test_two_trials_on_the_ring(ray_session):
    """The first point is bad on purpose, the other one that there is to draw is good."""
    arguments = {
        "histories": TRAIN,
        "valid": VALID,
        "items": ITEMS,
        "vectors_ID": VECTORS,
        "recipe": RING_RECIPE,
    }
    said, bad = [], {"learning_rate": 1e-9, "dim": 16}
    space = {"learning_rate": [5e-3], "dim": [16]}
    best, worst = search_parameters(
        score_recipe, arguments, space, 2, first=[bad], cpus=0.5, say=said.append
    )
    assert (worst.values, best.values) == (bad, {"learning_rate": 5e-3, "dim": 16})
    assert best.score > 0.9 > 0.6 > worst.score
    assert best.seconds > 0
    assert [line.split("  ")[0] for line in said] == ["trial 1 of 2", "trial 2 of 2"]
