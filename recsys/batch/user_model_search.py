"""Random search for the hyperparameters of the user model, from a release or from a data set."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from recsys.arrays import Histories
from recsys.batch.tune import Say, Trial, search_parameters
from recsys.config import Setup
from recsys.datasets import sequences
from recsys.encoders import minilm
from recsys.evaluation.item_vectors import encoded_items
from recsys.evaluation.leave_one_out import leave_one_out
from recsys.evaluation.results import Column, Row, text_table
from recsys.models.composition import catalogue_vectors, next_setup
from recsys.release.arrow import histories_of
from recsys.release.release import Release
from recsys.storage.artifacts import ArtifactStore
from recsys.training.splits import NextItemTargets, leave_last_out
from recsys.training.user_recipe import UserModelRecipe
from recsys.training.users import score_recipe
from recsys.types import Floats

SPACE: dict[str, tuple[float, ...]] = {
    "learning_rate": (3e-4, 5e-4, 1e-3, 2e-3, 3e-3),
    "dropout": (0.2, 0.35, 0.5, 0.65),
    "residual_dropout": (0.0, 0.2, 0.4),
    "shrinkage": (0.5, 2.0, 8.0),
    "layers": (1, 2, 3),
    "dim": (64, 128, 256),
}


@dataclass(frozen=True)
class TuningData:
    """What every trial trains on and is scored by; no test item is among it."""

    histories: Histories
    valid: NextItemTargets
    items: pa.Table
    vectors_ID: Floats

    @classmethod
    def of_setup(cls, setup: Setup, seed: int) -> TuningData:
        """What jobs.train_models would train the user model of this setup with now."""
        release = Release.open(ArtifactStore(setup.home))
        histories, valid = leave_last_out(histories_of(release.users), seed)
        with tempfile.TemporaryDirectory(prefix="nightshelf-tune-") as name:
            encoder = next_setup(setup, Path(name)).encoder()
            vectors_ID = np.array(catalogue_vectors(release, encoder, Path(name)))
        return cls(histories, valid, release.items, vectors_ID)

    @classmethod
    def of_dataset(cls, folder: Path) -> TuningData:
        """A data set without its test items, cut as jobs.evaluate_histories --valid cuts it."""
        log = sequences.read_histories(folder)
        split = leave_one_out(log.histories, log.items.num_rows, "valid")
        valid = NextItemTargets(split.valid.histories, split.valid.targets_U)
        return cls(split.train, valid, log.items, encoded_items(log.items, minilm()))


def search_recipes(
    data: TuningData, start: UserModelRecipe, *, count: int, seed: int, gpus: float, say: Say
) -> list[Trial]:
    """`count` trials of `SPACE` around the recipe `start`, which is the first; best first."""
    current = {name: start.values()[name] for name in SPACE}
    space = {name: sorted({*choices, current[name]}) for name, choices in SPACE.items()}
    events, users = len(data.histories.items), len(data.valid.next_B)
    epochs = start.schedule.epochs
    say(f"{count} trials of {epochs:g} epochs on {events:,} events, {users:,} users to predict")
    arguments = {**vars(data), "recipe": start}
    return search_parameters(
        score_recipe, arguments, space, count, seed=seed, first=[current], gpus=gpus, say=say
    )


def trial_row(trial: Trial, start: UserModelRecipe) -> Row:
    """A trial as a row of results; a failed one has no score but its error."""
    unchanged = all(start.values()[name] == value for name, value in trial.values.items())
    row: dict[str, Any] = {
        "name": "as it is" if unchanged else "drawn",
        "ndcg@10": None if trial.error else trial.score,
        "seconds": round(trial.seconds, 1),
        **trial.values,
    }
    return row | ({"error": trial.error} if trial.error else {})


def trials_table(rows: Sequence[Mapping[str, Any]]) -> str:
    values = (Column(name, "g") for name in ("seconds", *SPACE))
    return text_table(rows, (Column("ndcg@10", ".4f"), *values, "error"))


def overrides(usual: UserModelRecipe, recipe: UserModelRecipe) -> dict[str, float]:
    """The values of a recipe that differ from the usual one's: what `Setup.user_recipe` holds."""
    return {name: value for name, value in recipe.values().items() if value != usual.values()[name]}
