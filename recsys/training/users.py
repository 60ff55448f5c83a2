"""The user model: self-attention over a history, trained to predict the next item (SASRec, Kang &
McAuley, ICDM 2018) by a softmax over the catalogue."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from recsys.arrays import Histories
from recsys.errors import InputError
from recsys.training.loop import Say, fit, seed_everything
from recsys.training.next_item import NextItemLoss, NextItemNdcg, TrainableUserModel, Windows
from recsys.training.schedule import FitResult
from recsys.training.splits import NextItemTargets
from recsys.training.user_recipe import UserModelRecipe
from recsys.training.workers import from_first, rank
from recsys.types import Floats
from recsys.users.content import ContentFeatures
from recsys.users.sequence import save_sequence_model


def train_user_model(
    histories: Histories,
    valid: NextItemTargets,
    items: pa.Table,
    vectors_ID: Floats,
    *,
    folder: Path,
    recipe: UserModelRecipe,
    say: Say = lambda _: None,
    resume: bool = False,
) -> FitResult:
    """Learns from `histories`, keeps the weights with the best NDCG@10 on `valid` (over all items
    without those bought), and writes what `users.sequence.SequenceModel` opens to `folder`.

    `items` (columns of `tables.ITEMS`) and `vectors_ID`, their encoded texts, are in the order of
    the histories' rows. Every event is a target unless the same user had the item before - repeat
    purchases belong to another source - and counts by its type (EVENT_WEIGHTS). Raises InputError
    where there is no such event."""
    content = ContentFeatures.fit(items, vectors_ID)
    features_IC = content.features(items, vectors_ID)
    windows = _windows(histories, recipe.length)
    seed_everything(recipe.schedule.seed)
    events_I = np.bincount(histories.items, minlength=items.num_rows)
    model = TrainableUserModel(recipe, features_IC, events_I)
    loss, validate = NextItemLoss(windows, recipe, events_I), NextItemNdcg(valid, recipe.length)
    count, schedule = len(windows.starts_W), recipe.schedule
    fitted = fit(model, count, loss, validate, schedule, say=say, resume=resume)
    if rank() == 0:
        save_sequence_model(
            folder,
            model.network,
            content,
            items["item_id"].combine_chunks(),
            features_IC=features_IC,
            residuals_ID=model.residuals(),
            events_I=events_I,
        )
    from_first(None)  # no worker opens it before it is written
    return fitted


def _windows(histories: Histories, length: int) -> Windows:
    windows = Windows.of(histories, length)
    if not len(windows.starts_W):
        raise InputError(
            f"{len(histories):,} histories hold no second item to predict from a first: "
            "wait for more events"
        )
    return windows


def score_recipe(
    values: Mapping[str, float],
    *,
    histories: Histories,
    valid: NextItemTargets,
    items: pa.Table,
    vectors_ID: Floats,
    recipe: UserModelRecipe,
) -> float:
    """NDCG@10 on `valid` of a model trained by the recipe with these values; the model itself is
    discarded."""
    with tempfile.TemporaryDirectory(prefix="nightshelf-user-model-") as folder:
        return train_user_model(
            histories,
            valid,
            items,
            vectors_ID,
            folder=Path(folder),
            recipe=recipe.with_values(values),
        ).best
