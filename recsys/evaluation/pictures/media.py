"""Titles, descriptions and pictures as media of one item: which finds the items of its kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from recsys.encoders import minilm
from recsys.encoders.efficientnet import EfficientNetEncoder
from recsys.evaluation.pictures.data import picture_vectors, read_table, strings
from recsys.evaluation.results import Criterion, Row
from recsys.intervals import bootstrap_mean
from recsys.metrics import mean
from recsys.training.vectors import item_vectors
from recsys.types import Floats, Mask

#: What an item's kind is called in the data sets, the first that there is.
KINDS = ("category2", "product_type")


def _kind(items: pa.Table) -> str:
    return next((name for name in KINDS if name in items.column_names), "")


@dataclass(frozen=True, kw_only=True)
class Media:
    """Items by what they are made of, [I, D] and [I, P], zeros where an item lacks it; and the
    kind of each, as a number."""

    title_ID: Floats
    description_ID: Floats
    picture_IP: Floats
    kind_I: np.ndarray
    measured_I: Mask


def evaluate_media(
    folder: Path, cache: Path, say: Callable[[str], None]
) -> tuple[list[Row], list[Criterion]]:
    """Average precision of the items of its own kind among all others, for each item. Nothing where
    the items have no kind."""
    items = read_table(folder, "items") if (folder / "items.parquet").is_file() else None
    if items is None or not _kind(items):
        return [], []
    media = _media(items, cache)
    rows = []
    systems = {
        "title": media.title_ID,
        "description": media.description_ID,
        "picture": media.picture_IP,
    }
    for name, vectors_ID in systems.items():
        precision_I = _average_precisions(vectors_ID, media)
        low, high = bootstrap_mean(precision_I)
        rows.append({"name": name, "map": mean(precision_I), "map/low": low, "map/high": high})
    say(f"{int(media.measured_I.sum()):,} of {len(media.kind_I):,} items measured")
    return rows, []


def _media(items: pa.Table, cache: Path) -> Media:
    text, picture = minilm(), EfficientNetEncoder()
    split = np.array(strings(items, "split"))
    test_I = split == "test"
    return Media(
        title_ID=item_vectors(text, strings(items, "title"), cache),
        description_ID=item_vectors(text, strings(items, "description"), cache),
        picture_IP=picture_vectors(picture, items["image"].to_pylist(), cache),
        kind_I=np.unique(strings(items, _kind(items)), return_inverse=True)[1],
        measured_I=test_I if test_I.any() else np.ones(len(test_I), bool),
    )


def _average_precisions(vectors_ID: Floats, media: Media) -> Floats:
    """[I] of each measured item among the other measured ones; NaN where none is of its kind."""
    rows = np.flatnonzero(media.measured_I)
    scores_II = vectors_ID[rows] @ vectors_ID[rows].T
    np.fill_diagonal(scores_II, -np.inf)
    kind_I = media.kind_I[rows]
    precision_I = np.full(len(rows), np.nan, np.float32)
    for place in range(len(rows)):
        order = np.argsort(-scores_II[place], kind="stable")[:-1]
        ranks = np.flatnonzero(kind_I[order] == kind_I[place]) + 1
        if len(ranks):
            precision_I[place] = (np.arange(1, len(ranks) + 1) / ranks).mean()
    return precision_I
