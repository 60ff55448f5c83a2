"""Titles, descriptions and pictures as media of one item: whether they find the items of its kind,
and items without words by the name of theirs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from recsys.encoders import minilm
from recsys.encoders.efficientnet import EfficientNetEncoder
from recsys.encoders.fusion import (
    Fusion,
    ItemMedia,
    NamedClasses,
    centred_rows,
    named_classes,
    present_mean,
    present_rows,
    unit_length,
)
from recsys.encoders.fusion_weights import WeightChoice, choose_weights, split_titles
from recsys.evaluation.pictures.data import picture_vectors, read_table, strings
from recsys.evaluation.results import Criterion, Row
from recsys.interfaces import Encoder
from recsys.intervals import bootstrap_mean
from recsys.training.vectors import item_vectors
from recsys.types import Floats, Ints, Mask

#: What an item's kind is called in the data sets, the first that there is.
KINDS = ("category2", "product_type")
#: Floor and goal by the kind's column.
BOUNDS = {"category2": (0.72, 0.76), "product_type": (0.45, 0.52)}
#: A kind of fewer items is no query for items without words.
LEAST_OF_KIND = 3
#: Times that half of a medium is taken away.
REMOVALS = 5


@dataclass(frozen=True, kw_only=True)
class MediaShop:
    """A catalogue by its media. `title_halves` are the vectors of `split_titles`; `kind_I` is a
    number a kind."""

    column: str
    media: ItemMedia
    one_text_ID: Floats
    title_halves: tuple[Floats, Floats]
    classes: NamedClasses
    kind_names: Sequence[str]
    kind_names_KD: Floats
    kind_I: Ints
    measured_I: Mask

    def fit(self, media: ItemMedia) -> WeightChoice:
        """As a night does it without clicks."""
        queries_ID, rests_ID = self.title_halves
        # Not the halves of a title that was taken away.
        present_I1 = present_rows(media.titles_ND)
        fusion = Fusion.fit(media, self.classes)
        halved = ItemMedia(
            media.item_ids, rests_ID * present_I1, media.descriptions_ND, media.pictures_NE
        )
        return choose_weights(fusion, queries_ID * present_I1, halved, self.classes)


def evaluate_media(
    folder: Path, cache: Path, say: Callable[[str], None]
) -> tuple[list[Row], list[Criterion]]:
    """Average precision of an item's kind among the other items, of the name of a kind among items
    without words, and what is left where half of a medium is taken away. Nothing where the items
    have no kind."""
    items = read_table(folder, "items") if (folder / "items.parquet").is_file() else None
    column = next((name for name in KINDS if items and name in items.column_names), None)
    if items is None or column is None or "image" not in items.column_names:
        return [], []
    shop = _read(items, column, cache)
    of = "those of split test" if not shop.measured_I.all() else "no split test: all"
    say(f"{int(shop.measured_I.sum()):,} of {len(shop.kind_I):,} items measured ({of})")
    choice = shop.fit(shop.media)
    say(f"fusion: {choice}\n")
    rows, criterion = _same_kind(shop, choice.fusion)
    wordless, wordless_criterion = _items_without_words(shop)
    partial = _half_removed(shop, rows[-1]["map"])
    return [*rows, *wordless], [criterion, wordless_criterion, *partial]


def _read(items: pa.Table, column: str, cache: Path) -> MediaShop:
    text, picture = minilm(), EfficientNetEncoder()
    kind_names, kind_I = np.unique(strings(items, column), return_inverse=True)
    titles, descriptions = _texts(items, column)
    test_I = np.array(strings(items, "split")) == "test"
    one_text = [". ".join(filter(None, pair)) for pair in zip(titles, descriptions, strict=True)]
    queries, rests = split_titles(titles)
    return MediaShop(
        column=column,
        media=ItemMedia(
            strings(items, "item_id"),
            _encode(text, titles, cache),
            _encode(text, descriptions, cache),
            picture_vectors(picture, items["image"].to_pylist(), cache),
        ),
        one_text_ID=_encode(text, one_text, cache),
        title_halves=(_encode(text, queries, cache), _encode(text, rests, cache)),
        classes=named_classes(picture, text) or NamedClasses.none(text.dim, picture.dim),
        kind_names=kind_names.tolist(),
        kind_names_KD=text.encode_queries(list(kind_names)),
        kind_I=kind_I,
        measured_I=test_I if test_I.any() else np.ones(len(test_I), bool),
    )


def _texts(items: pa.Table, column: str) -> tuple[list[str], list[str]]:
    """Titles, with colour and size where these are columns, and descriptions; no text has the
    column of the kind."""
    names = ("title", "color", "size")
    parts = zip(*(strings(items, name) for name in names), strict=True)
    return [". ".join(filter(None, part)) for part in parts], strings(items, "description")


def _encode(encoder: Encoder, texts: Sequence[str], cache: Path) -> Floats:
    """Zeros where there is no text."""
    present_N1 = np.array([bool(text) for text in texts])[:, None]
    return np.asarray(item_vectors(encoder, texts, cache) * present_N1, np.float32)


def _same_kind(shop: MediaShop, fusion: Fusion) -> tuple[list[Row], Criterion]:
    media = shop.media
    picture_IE = centred_rows(media.pictures_NE, present_mean(media.pictures_NE))
    both_ID = unit_length(media.titles_ND + media.descriptions_ND)
    systems = {
        "title": media.titles_ND,
        "title + description in one text": shop.one_text_ID,
        "title + description": both_ID,
        "picture": media.pictures_NE,
        "title + description, .25 picture": np.hstack([both_ID, 0.5 * media.pictures_NE]),
        "concatenation": np.hstack([both_ID, picture_IE]),
        "nightshelf without pictures": fusion.weighted(1.0, 0.0).fuse(media),
        "nightshelf": fusion.fuse(media),
    }
    precisions = {name: same_kind_precisions(each, shop) for name, each in systems.items()}
    rows = [_row(name, precisions[name], precisions["title"]) for name in systems]
    ours = rows[-1]
    floor, goal = BOUNDS[shop.column]
    return rows, Criterion(
        name=f"same {shop.column}, all media, mAP",
        value=ours["map"],
        interval=(ours["map/low"], ours["map/high"]),
        floor=floor,
        goal=goal,
    )


def _row(name: str, precisions: Floats, base: Floats) -> Row:
    low, high = bootstrap_mean(precisions)
    gain_low, gain_high = bootstrap_mean(precisions - base)
    return {
        "name": name,
        "map": float(np.nanmean(precisions)),
        "map/low": low,
        "map/high": high,
        "gain": float(np.nanmean(precisions - base)),
        "gain/low": gain_low,
        "gain/high": gain_high,
    }


def _items_without_words(shop: MediaShop) -> tuple[list[Row], Criterion]:
    """The measured items by the names of their kinds, their words taken from them. Where others
    have words, these are learned from; else each item from all but itself."""
    media = shop.media
    others_I1 = ~shop.measured_I[:, None]
    hidden = ItemMedia(
        media.item_ids,
        media.titles_ND * others_I1,
        media.descriptions_ND * others_I1,
        media.pictures_NE,
    )
    teachers = hidden if others_I1.any() else media
    names_ID = shop.classes.words(media.pictures_NE)
    systems = {
        "words to titles": media.titles_ND,
        "words to pictures, class names": names_ID,
        "words to pictures, regression": Fusion.fit(teachers).picture_words(hidden),
        "words to pictures, nightshelf": Fusion.fit(teachers, shop.classes).fuse(hidden),
    }
    precisions = {name: _name_precisions(each, shop) for name, each in systems.items()}
    base = precisions["words to pictures, regression"]
    rows = [_row(name, precisions[name], base) for name in systems]
    ours = rows[-1]
    criterion = Criterion(
        name="words to items without words, mAP",
        value=ours["map"],
        interval=(ours["map/low"], ours["map/high"]),
        floor=0.42 if shop.column == "category2" else None,
        goal=0.47 if shop.column == "category2" else None,
    )
    return rows, criterion


def _half_removed(shop: MediaShop, whole: float) -> list[Criterion]:
    """The share of mAP that is left without half of the texts, or half of the pictures."""
    media, criteria = shop.media, []
    for name in ("texts", "pictures"):
        shares: list[float] = []
        for seed in range(REMOVALS):
            remaining_I1 = np.random.default_rng(seed).random((len(shop.kind_I), 1)) < 0.5
            words_I1, pictures_I1 = (
                (remaining_I1, True) if name == "texts" else (True, remaining_I1)
            )
            partial = ItemMedia(
                media.item_ids,
                media.titles_ND * words_I1,
                media.descriptions_ND * words_I1,
                media.pictures_NE * pictures_I1,
            )
            vectors_ID = shop.fit(partial).fusion.fuse(partial)
            shares.append(float(np.nanmean(same_kind_precisions(vectors_ID, shop))) / whole)
        criteria.append(
            Criterion(
                name=f"half of the {name} removed, share of mAP",
                value=float(np.mean(shares)),
                interval=(min(shares), max(shares)),
                floor=0.85,
                goal=0.93,
            )
        )
    return criteria


def same_kind_precisions(vectors_ID: Floats, shop: MediaShop) -> Floats:
    """[M] of each measured item among the other measured ones; NaN where none is of its kind."""
    rows = np.flatnonzero(shop.measured_I)
    scores_MM = vectors_ID[rows] @ vectors_ID[rows].T
    np.fill_diagonal(scores_MM, -np.inf)
    kind_M = shop.kind_I[rows]
    relevant_MM = kind_M[:, None] == kind_M[None, :]
    np.fill_diagonal(relevant_MM, False)
    return _average_precisions(scores_MM, relevant_MM)


def _name_precisions(vectors_ID: Floats, shop: MediaShop) -> Floats:
    """[K] of each name of a kind among the measured items."""
    rows = np.flatnonzero(shop.measured_I)
    kinds = np.flatnonzero(np.bincount(shop.kind_I[rows]) >= LEAST_OF_KIND)
    scores_KM = shop.kind_names_KD[kinds] @ vectors_ID[rows].T
    return _average_precisions(scores_KM, kinds[:, None] == shop.kind_I[rows][None, :])


def _average_precisions(scores_QN: Floats, relevant_QN: Mask) -> Floats:
    """[Q], NaN where nothing is relevant."""
    order_QN = np.argsort(-scores_QN, axis=1, kind="stable")
    precisions_Q = np.full(len(scores_QN), np.nan)
    for query, order in enumerate(order_QN):
        ranks = np.flatnonzero(relevant_QN[query, order]) + 1
        if len(ranks):
            precisions_Q[query] = (np.arange(1, len(ranks) + 1) / ranks).mean()
    return precisions_Q
