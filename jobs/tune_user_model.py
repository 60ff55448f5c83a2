"""Better numbers for the user model's recipe: python -m jobs.tune_user_model --setup tiny --trials
12

Random search around the recipe as it is, which is the first trial. A trial trains a model for
--epochs at most and is scored by ndcg@10 on the validation items alone; no test item is looked at.
The best of many scores is a little lucky: on 5,000 users differences of .003 are noise. Prints what
to write into the setup."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import ray

from recsys.batch.tune import Trial, search_parameters
from recsys.config import load
from recsys.datasets import data_folder, sequences
from recsys.encoders import minilm
from recsys.errors import RecsysError
from recsys.evaluation.item_vectors import encoded_items
from recsys.evaluation.leave_one_out import leave_one_out
from recsys.evaluation.results import say
from recsys.models.composition import catalogue_vectors, next_setup
from recsys.release.arrow import histories_of
from recsys.release.release import Release
from recsys.storage.artifacts import ArtifactStore
from recsys.storage.version import code_commit
from recsys.training.splits import NextItemTargets, leave_last_out
from recsys.training.user_recipe import UserModelRecipe
from recsys.training.users import score_recipe

SPACE: dict[str, tuple[float, ...]] = {
    "learning_rate": (3e-4, 5e-4, 1e-3, 2e-3, 3e-3),
    "dropout": (0.2, 0.35, 0.5, 0.65),
    "residual_dropout": (0.0, 0.2, 0.4),
    "shrinkage": (0.5, 2.0, 8.0),
    "layers": (1, 2, 3),
    "dim": (64, 128, 256),
}


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--setup", help="a setup's name, or my_shop.setups:winter: the histories of its release"
    )
    source.add_argument("--dataset", choices=sequences.DATASETS)
    source.add_argument(
        "--data", type=Path, metavar="DIR", help="a folder with user_sequences.txt and items.csv"
    )
    parser.add_argument(
        "--trials", type=int, default=12, metavar="N", help="how many recipes are tried (12)"
    )
    parser.add_argument("--epochs", type=float, metavar="N", help="of each trial (the recipe's)")
    parser.add_argument(
        "--gpus", type=float, metavar="SHARE", help="of each trial (1, or 0 where Ray sees none)"
    )
    parser.add_argument("--seed", type=int, default=0)
    return parser


def main() -> int:
    arguments = parser().parse_args()
    begun = time.perf_counter()
    try:
        data, values = (
            of_setup(arguments.setup, arguments.seed)
            if arguments.setup
            else of_data(arguments.data or data_folder(arguments.dataset))
        )
        ray.init(ignore_reinit_error=True)
        gpus = share_of_gpu(arguments.gpus)
        usual = (UserModelRecipe.on_gpu if gpus else UserModelRecipe.on_cpu)(arguments.seed)
        start = usual.with_values(
            values | ({"epochs": arguments.epochs} if arguments.epochs else {})
        )
        trials = search_recipes(data, start, count=arguments.trials, seed=arguments.seed, gpus=gpus)
    except RecsysError as error:
        print(f"no recipe was tuned: {error}", file=sys.stderr)
        return 1
    rows = [row(trial, start) for trial in trials]
    table(rows)
    best = changed(usual, start.with_values(trials[0].values))
    print(f"\nthe best of {len(rows)} as a setup has it: user_recipe={best}")
    name = arguments.setup or arguments.dataset or arguments.data.resolve().name
    summary = {
        "job": "tune_user_model",
        "dataset": name,
        "commit": code_commit(),
        "part": "valid",
        "seed": arguments.seed,
    }
    seconds = round(time.perf_counter() - begun, 1)
    print(json.dumps({**summary, "seconds": seconds, "user_recipe": best, "rows": rows}))
    return 0


def of_setup(name: str, seed: int) -> tuple[dict[str, Any], dict[str, float]]:
    """What jobs.train_models would train the user model with now, and the setup's numbers for its
    recipe."""
    setup = load(name)
    release = Release.open(ArtifactStore(setup.home))
    histories, valid = leave_last_out(histories_of(release.users), seed)
    with tempfile.TemporaryDirectory(prefix="nightshelf-tune-") as folder:
        vectors_ID = np.array(
            catalogue_vectors(release, next_setup(setup, Path(folder)).encoder(), Path(folder))
        )
    data = {
        "histories": histories,
        "valid": valid,
        "items": release.items,
        "vectors_ID": vectors_ID,
    }
    return data, dict(setup.user_recipe)


def of_data(folder: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """A data set without its test items, cut as jobs.evaluate_histories --valid cuts it; there is
    no recipe with it."""
    log = sequences.read_histories(folder)
    split = leave_one_out(log.histories, log.items.num_rows, "valid")
    valid = NextItemTargets(split.valid.histories, split.valid.targets_U)
    vectors_ID = encoded_items(log.items, minilm())
    return {
        "histories": split.train,
        "valid": valid,
        "items": log.items,
        "vectors_ID": vectors_ID,
    }, {}


def share_of_gpu(share: float | None) -> float:
    """Of each trial: a whole one where Ray has any."""
    return share if share is not None else float(ray.cluster_resources().get("GPU", 0) >= 1)


def search_recipes(
    data: dict[str, Any], start: UserModelRecipe, *, count: int, seed: int, gpus: float
) -> list[Trial]:
    """The trials, the recipe as it is among them."""
    now = {name: start.values()[name] for name in SPACE}
    space = {name: sorted({*choices, now[name]}) for name, choices in SPACE.items()}
    events, users = len(data["histories"].items), len(data["valid"].next_B)
    epochs = start.schedule.epochs
    say(f"{count} trials of {epochs:g} epochs on {events:,} events, {users:,} users to predict")
    data = {**data, "recipe": start}
    return search_parameters(
        score_recipe,
        data,
        space,
        count,
        seed=seed,
        first=[now],
        gpus=gpus,
        say=say,
    )


def row(trial: Trial, start: UserModelRecipe) -> dict[str, Any]:
    """A trial as the table and the last line have it."""
    as_it_is = all(start.values()[name] == value for name, value in trial.values.items())
    score = None if trial.error else trial.score
    values = {"ndcg@10": score, "seconds": round(trial.seconds, 1), **trial.values}
    return {
        "name": "as it is" if as_it_is else "drawn",
        **values,
        **({"error": trial.error} if trial.error else {}),
    }


def changed(usual: UserModelRecipe, recipe: UserModelRecipe) -> dict[str, float]:
    """The numbers of a recipe that are not this machine's usual ones."""
    return {name: value for name, value in recipe.values().items() if value != usual.values()[name]}


def table(rows: list[dict[str, Any]]) -> None:
    columns = ("seconds", *SPACE)
    print(
        f"\n{'':10}{'ndcg@10':>9}" + "".join(f"{column:>{len(column) + 2}}" for column in columns)
    )
    for row in rows:
        score = "failed" if row["ndcg@10"] is None else f"{row['ndcg@10']:.4f}"
        cells = "".join(f"{row[column]:>{len(column) + 2}g}" for column in columns)
        print(f"{row['name']:10}{score:>9}{cells}")


if __name__ == "__main__":
    sys.exit(main())
