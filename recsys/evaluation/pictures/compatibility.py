"""What goes together in a room: of its items one is taken out, the others rank all items for it.

An item is new where no room that was learned from has it. Learned from are the rooms of
`data.CHOSEN_ON`, measured the others; without others every fifth room is measured in turn, by what
is learned from the rest. Legend: I items, R rooms, M items of one, X items taken out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from recsys.datasets import data_folder
from recsys.encoders import minilm
from recsys.encoders.efficientnet import EfficientNetEncoder
from recsys.errors import InputError, NotFoundError
from recsys.evaluation.pictures.data import CHOSEN_ON, picture_vectors, read_table, strings
from recsys.evaluation.results import Criterion, Row
from recsys.intervals import cluster_bootstrap_mean
from recsys.metrics import mean
from recsys.retrieval.compatibility import Behaviour, Compatibility, ItemContent
from recsys.training.compatibility import fit_compatibility
from recsys.training.vectors import item_vectors
from recsys.types import Floats, Ints, Mask

if TYPE_CHECKING:
    from scipy.sparse import csr_array

K = 10
FOLDS = 5
#: Floor and goal of hits@10 by which items count.
BOUNDS = {"all": (0.105, 0.13), "new": (0.098, 0.12)}
NAME = "nightshelf"
TEXT_FIELDS = ("title", "product_type", "color", "size", "description")

#: [M, I] of a room's items: how well each item goes with each of them.
PairScores = Callable[[Ints], Floats]


@dataclass(frozen=True, kw_only=True)
class Rooms:
    """Rows of each room's items, two and more; `learned_R` may be learned from."""

    rows: Sequence[Ints]
    learned_R: Mask


@dataclass(frozen=True, kw_only=True)
class _Ranks:
    """[X]: places from 0 of items that were taken out, their rooms, and whether they are new."""

    ranks_X: Ints
    rooms_X: Ints
    new_X: Mask

    def hits(self, which: str) -> tuple[Floats, Ints]:
        """1 where the item is among the best K, and the rooms, from 0."""
        chosen_X = self.new_X if which == "new" else np.ones(len(self.new_X), bool)
        rooms = np.unique(self.rooms_X[chosen_X], return_inverse=True)[1]
        return (self.ranks_X[chosen_X] < K).astype(np.float32), rooms


def evaluate_compatibility(
    folder: Path, cache: Path, say: Callable[[str], None]
) -> tuple[list[Row], list[Criterion]]:
    """Hits and reciprocal ranks. Nothing where there are no scenes."""
    if not (folder / "scenes.parquet").is_file():
        return [], []
    items, rooms = _read(folder, say)
    texts, content = _content(items, cache)
    measured: dict[str, list[_Ranks]] = {}
    for learned_R, measured_R in _splits(rooms, say):
        baskets_RI = _baskets(
            [rooms.rows[room] for room in np.flatnonzero(learned_R).tolist()], items.num_rows
        )
        for name, scores in _systems(baskets_RI, content, texts).items():
            ranks = _ranks(scores, rooms, np.flatnonzero(measured_R), baskets_RI)
            measured.setdefault(name, []).append(ranks)
    return _report({name: _joined(parts) for name, parts in measured.items()})


def _read(folder: Path, say: Callable[[str], None]) -> tuple[pa.Table, Rooms]:
    """Items and rooms of the folder; what it lacks is that of the whole set, where that lies in
    the data folder: items, and rooms to learn from."""
    scenes, whole = read_table(folder, "scenes"), _whole()
    items = read_table(folder if (folder / "items.parquet").is_file() else whole or folder, "items")
    names = [f"{folder.name}/{name}" for name in strings(scenes, "scene")]
    lists, splits = scenes["item_ids"].to_pylist(), strings(scenes, "split")
    if whole and not set(splits) & set(CHOSEN_ON):
        more = read_table(whole, "scenes")
        chosen = [
            place
            for place, name in enumerate(strings(more, "scene"))
            if f"{folder.name}/{name}" not in names
        ]
        say(f"{len(chosen)} rooms of {whole} are learned from: {folder} has none for it")
        more = more.take(chosen)
        lists += more["item_ids"].to_pylist()
        splits += ["train"] * more.num_rows
        items = _with_more(items, read_table(whole, "items"))
    row_of = {item: row for row, item in enumerate(items["item_id"].to_pylist())}
    rows = [np.unique([row_of[item] for item in each if item in row_of]) for each in lists]
    chosen_R = [len(each) > 1 for each in rows]
    return items, Rooms(
        rows=[each.astype(np.int64) for each in rows if len(each) > 1],
        learned_R=np.isin(splits, CHOSEN_ON)[chosen_R],
    )


def _whole() -> Path | None:
    try:
        return data_folder("img_ikea")
    except NotFoundError:
        return None


def _with_more(items: pa.Table, more: pa.Table) -> pa.Table:
    """And those of the other table that the first lacks."""
    lacking = pa.compute.invert(pa.compute.is_in(more["item_id"], items["item_id"]))
    return pa.concat_tables([items, more.filter(lacking)], promote_options="default")


def _content(items: pa.Table, cache: Path) -> tuple[ItemContent, ItemContent]:
    """Without and with pictures."""
    fields = [strings(items, name) for name in TEXT_FIELDS]
    texts = [". ".join(filter(None, each)) for each in zip(*fields, strict=True)]
    texts_ID = item_vectors(minilm(), texts, cache)
    pictures_IE = picture_vectors(EfficientNetEncoder(), items["image"].to_pylist(), cache)
    types_I = np.unique(strings(items, "product_type"), return_inverse=True)[1]
    titles = pa.table({"title": strings(items, "title")})
    return (
        ItemContent.of(titles, texts_ID, types_I, None),
        ItemContent.of(titles, texts_ID, types_I, pictures_IE),
    )


def _splits(rooms: Rooms, say: Callable[[str], None]) -> list[tuple[Mask, Mask]]:
    """Which rooms are learned from, and which are measured."""
    learned_R = rooms.learned_R
    if not learned_R.any():
        raise InputError("no room to learn from: give scenes of the splits train and valid too")
    if not learned_R.all():
        say(f"{int(learned_R.sum())} rooms learned from, {int((~learned_R).sum())} measured")
        return [(learned_R, ~learned_R)]
    say(f"no rooms are kept back: {len(learned_R)} rooms in {FOLDS} folds")
    folds_R = np.random.default_rng(0).permutation(len(learned_R)) % FOLDS
    return [(folds_R != fold, folds_R == fold) for fold in range(FOLDS)]


def _baskets(rows: Sequence[Ints], items: int) -> csr_array:
    from scipy.sparse import csr_array

    offsets = np.cumsum([0, *map(len, rows)])
    columns = np.concatenate(rows)
    return csr_array((np.ones(len(columns), np.float32), columns, offsets), (len(rows), items))


def _systems(
    baskets_RI: csr_array, content: ItemContent, texts: ItemContent
) -> dict[str, PairScores]:
    behaviour = Behaviour.of(baskets_RI)
    every_I = np.arange(baskets_RI.shape[1])

    def baskets(rows_M: Ints) -> Floats:
        return behaviour.channels(rows_M, every_I)[:, :, 0]

    def likeness(channel: int) -> PairScores:
        return lambda rows_M: content.likeness(rows_M, every_I)[:, :, channel]

    def learned(of: ItemContent) -> PairScores:
        model: Compatibility = fit_compatibility(of, behaviour, baskets_RI)
        return lambda rows_M: model.score(of, behaviour, rows_M, every_I)

    text, picture = likeness(0), likeness(2)
    return {
        "co-occurrence": baskets,
        "text": text,
        "picture": picture,
        "text + picture": lambda rows_M: text(rows_M) + picture(rows_M),
        "co-occurrence + text": lambda rows_M: baskets(rows_M) + text(rows_M),
        f"{NAME} without pictures": learned(texts),
        NAME: learned(content),
    }


def _ranks(scores: PairScores, rooms: Rooms, measured: Ints, baskets_RI: csr_array) -> _Ranks:
    """Of equal scores the item that was taken out comes last."""
    is_learned_I = np.asarray(baskets_RI.sum(axis=0)).ravel() > 0
    ranks: list[Ints] = []
    for room in measured:
        rows_M = rooms.rows[room]
        scores_MI = scores(rows_M).astype(np.float64)
        rest_MI = scores_MI.sum(axis=0) - scores_MI
        own_M = rest_MI[np.arange(len(rows_M)), rows_M].copy()
        rest_MI[:, rows_M] = -np.inf
        ranks.append((rest_MI >= own_M[:, None]).sum(axis=1))
    sizes = [len(rooms.rows[room]) for room in measured]
    items_X = np.concatenate([rooms.rows[room] for room in measured])
    return _Ranks(
        ranks_X=np.concatenate(ranks),
        rooms_X=np.repeat(measured, sizes),
        new_X=~is_learned_I[items_X],
    )


def _joined(parts: Sequence[_Ranks]) -> _Ranks:
    return _Ranks(
        ranks_X=np.concatenate([part.ranks_X for part in parts]),
        rooms_X=np.concatenate([part.rooms_X for part in parts]),
        new_X=np.concatenate([part.new_X for part in parts]),
    )


def _report(measured: dict[str, _Ranks]) -> tuple[list[Row], list[Criterion]]:
    """Intervals are over rooms; `gain` is what ours has above the row's."""
    rows: list[Row] = []
    for name, ranks in measured.items():
        row: Row = {"name": name, "items": len(ranks.ranks_X), "new": int(ranks.new_X.sum())}
        for which in BOUNDS:
            hits_X, rooms_X = ranks.hits(which)
            row |= _mean(f"hits@{K}/{which}", hits_X, rooms_X)
            if name != NAME:
                ours_X = measured[NAME].hits(which)[0]
                row |= _mean(f"gain/{which}", ours_X - hits_X, rooms_X)
        rows.append(row | {"mrr": mean(1 / (1 + ranks.ranks_X))})
    criteria = []
    for which, (floor, goal) in BOUNDS.items():
        key = f"hits@{K}/{which}"
        name = f"goes with: {key}"
        value, interval = rows[-1][key], (rows[-1][f"{key}/low"], rows[-1][f"{key}/high"])
        criteria.append(
            Criterion(
                name=f"goes with: {key}", value=value, interval=interval, floor=floor, goal=goal
            )
        )
    return rows, criteria


def _mean(key: str, values_X: Floats, rooms_X: Ints) -> Row:
    low, high = cluster_bootstrap_mean(values_X, rooms_X)
    return {key: mean(values_X), f"{key}/low": low, f"{key}/high": high}
