"""Tunes the user model's hyperparameters: python -m jobs.tune_user_model --setup tiny --trials 12

Random search around the recipe as it is, which is the first trial. A trial trains a model for
--epochs at most and is scored by ndcg@10 on the validation items alone; no test item is looked at.
The best of many scores is a little lucky: on 5,000 users differences of .003 are noise. Prints what
to write into the setup."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import ray

from recsys.batch.cluster import connect_ray
from recsys.batch.user_model_search import (
    TuningData,
    overrides,
    search_recipes,
    trial_row,
    trials_table,
)
from recsys.config import load
from recsys.datasets import data_folder, sequences
from recsys.errors import RecsysError
from recsys.evaluation.results import say, summary_line
from recsys.training.user_recipe import UserModelRecipe


def main() -> int:
    arguments, started = _parse_arguments(), time.perf_counter()
    seed, name = arguments.seed, arguments.setup or arguments.dataset
    try:
        if arguments.setup:
            setup = load(arguments.setup)
            data, values = TuningData.of_setup(setup, seed), dict(setup.user_recipe)
        else:
            folder = arguments.data or data_folder(arguments.dataset)
            data, values = TuningData.of_dataset(folder), {}
        say(connect_ray())
        gpus = arguments.gpus
        if gpus is None:
            gpus = float(ray.cluster_resources().get("GPU", 0) >= 1)
        usual = (UserModelRecipe.on_gpu if gpus else UserModelRecipe.on_cpu)(seed)
        start = usual.with_values(
            values | ({"epochs": arguments.epochs} if arguments.epochs else {})
        )
        trials = search_recipes(data, start, count=arguments.trials, seed=seed, gpus=gpus, say=say)
    except RecsysError as error:
        print(f"no recipe was tuned: {error}", file=sys.stderr)
        return 1
    rows = [trial_row(trial, start) for trial in trials]
    best = overrides(usual, start.with_values(trials[0].values))
    say(f"\n{trials_table(rows)}\n\nthe best of {len(rows)} as a setup has it: user_recipe={best}")
    fields = {"part": "valid", "seed": seed, "user_recipe": best}
    say(summary_line("tune_user_model", name or folder.resolve().name, started, rows, **fields))
    return 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--setup", help="a setup's name, or my_shop.setups:winter: its release")
    source.add_argument("--dataset", choices=sequences.DATASETS)
    source.add_argument("--data", type=Path, help="a folder: user_sequences.txt and items.csv")
    add = parser.add_argument
    add("--trials", type=int, default=12, metavar="N", help="number of recipes to train (12)")
    add("--epochs", type=float, metavar="N", help="of each trial (the recipe's)")
    add("--gpus", type=float, metavar="SHARE", help="of each trial (1, or 0 where Ray sees none)")
    add("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
