"""Every file of a release, described once: its name, what it holds, its dtype and axes, its stage.

A release is a folder of flat files that many replicas of a host map into memory together. Axes are
single letters, and one letter is one length in all files of a release:

    I items      U users        D dimensions of the texts' space, d of the user model's
    N candidates F their sources  S similar items, C by content, B by baskets, L that follow,
    M that go with it
    T event types               P dimensions of projected texts, p of the user model's
    G pictures                  E dimensions of the pictures' space, H of photos' descriptors

A row is an item or a user in the order of `items.arrow` and `users.arrow`; -1 pads rows of items.
Beside the files lie `manifest.json`, written last (a folder without it is no release), and
`report.html` and `run.json` (stage times), which no manifest lists: two nights over the same input
differ in them alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

#: What lies in a release's folder and is not listed in its manifest.
UNLISTED = ("manifest.json", "report.html", "run.json")


@dataclass(frozen=True, kw_only=True)
class ReleaseFile:
    """One file of a release, or one folder where the name ends in "/".

    `stage` of the night writes it. `dtype` and `axes` describe an array. `optional` says when the
    file is missing; `of_users` that it holds something of a single user."""

    name: str
    holds: str
    stage: str
    dtype: str = ""
    axes: str = ""
    optional: str = ""
    of_users: bool = False

    def __str__(self) -> str:
        """The name without its ending, which its parts bear in a night's work folder."""
        return self.name.partition(".")[0]

    def is_in(self, names: Iterable[str]) -> bool:
        """Whether the file, or anything in the folder, is among these names."""
        return any(name.startswith(self.name) for name in names)

    def misfit(self, array: NDArray[Any], lengths: dict[str, int]) -> str:
        """How an array differs from its description, or "". `lengths` of axes are those of the
        arrays before it; an axis seen first is added."""
        if str(array.dtype) != self.dtype or array.ndim != len(self.axes):
            return f"{self.name} is {array.dtype} {array.shape}, not {self.dtype} [{self.axes}]"
        for axis, length in zip(self.axes, array.shape, strict=True):
            if (expected := lengths.setdefault(axis, length)) != length:
                return f"{self.name} is {length:,} long in axis {axis}, not {expected:,}"
        return ""


def _array(
    stem: str, dtype: str, axes: str, stage: str, holds: str, *, optional: str = ""
) -> ReleaseFile:
    return ReleaseFile(
        name=f"{stem}.npy",
        holds=holds,
        stage=stage,
        dtype=dtype,
        axes=axes,
        optional=optional,
        of_users=axes.startswith("U"),
    )


ITEMS = ReleaseFile(
    name="items.arrow",
    holds="tables.ITEMS, sorted by id within each shard; an item's place in it is its row",
    stage="items",
)
ATTRIBUTES = ReleaseFile(
    name="attributes.arrow",
    holds="`attributes.columns`: a typed column an attribute, its declaration as metadata; a row "
    "an item",
    stage="attributes",
    optional="where the setup declares no attributes",
)
RELEVANCE = ReleaseFile(
    name="relevance.json",
    holds="`retrieval.vectors.relevance.DenseRelevance`: from which cosine on an item is relevant "
    "to a text by its vector alone",
    stage="relevance",
    optional="in releases of before it was measured",
)
ITEM_VECTORS = _array(
    "item_vectors", "float32", "ID", "vectors", "unit length; zeros where an item has no text"
)
PICTURES = ReleaseFile(
    name="pictures.arrow",
    holds="tables.PICTURES: those that could be read, in the order of the items, main one first",
    stage="pictures",
    optional="where the setup reads no pictures",
)
PICTURE_VECTORS = _array(
    "picture_vectors",
    "float16",
    "GE",
    "pictures",
    "unit length, in the picture encoder's space; a row a picture",
    optional=PICTURES.optional,
)
THUMBNAILS = ReleaseFile(
    name="thumbnails.arrow",
    holds="tables.THUMBNAILS",
    stage="embed pictures",
    optional="where the setup reads no pictures, or wants no thumbnails",
)
PHOTO_HEAD = ReleaseFile(
    name="photo_head.npz",
    holds="`retrieval.photos.PhotoHead`: how photos are compared with items",
    stage="photo head",
    optional=PICTURES.optional,
)
PHOTO_VECTORS = _array(
    "photo_vectors",
    "float32",
    "IH",
    "photo head",
    "what a photo of each item looks like to the head: unit length; zeros where it has no picture",
    optional=PICTURES.optional,
)
TASTE_VECTORS = _array(
    "taste_vectors",
    "float32",
    "Id",
    "places",
    "the items as a trained user model places them",
    optional="where the user model leaves items where their texts are",
)
USERS = ReleaseFile(
    name="users.arrow",
    holds="user_id and history (items, types, days, prices: lists, oldest first), sorted by id "
    "within each shard",
    stage="embed users",
    of_users=True,
)
USER_VECTORS = _array(
    "user_vectors",
    "float32",
    "Ud",
    "embed users",
    "unit length or zeros, in one space with the taste vectors",
)
CANDIDATE_ROWS = _array("candidates_rows", "int32", "UN", "candidates", "items, best first")
CANDIDATE_FEATURES = _array(
    "candidates_features", "float32", "UNF", "candidates", "what each source gave them"
)
CANDIDATE_SOURCES = _array(
    "candidates_sources", "uint16", "UN", "candidates", "bit f is set where source f brought it"
)
SIMILAR_ROWS = _array(
    "similar_rows", "int32", "IS", "similar", "by baskets and content, best first"
)
SIMILAR_SCORES = _array("similar_scores", "float32", "IS", "similar", "their blended scores")
CONTENT_ROWS = _array("content_rows", "int32", "IC", "similar", "by content alone, best first")
CONTENT_SCORES = _array("content_scores", "float32", "IC", "similar", "their cosines")
CO_OCCURRENCE_ROWS = _array(
    "co_occurrence_rows", "int32", "IB", "co_occurrence", "bought together, best first"
)
CO_OCCURRENCE_SCORES = _array(
    "co_occurrence_scores", "float32", "IB", "co_occurrence", "their shrunk cosines"
)
FOLLOWS_ROWS = _array(
    "follows_rows",
    "int32",
    "IL",
    "follows",
    "what comes next in histories, best first",
    optional="where the ranker of recommendations does not use them",
)
FOLLOWS_SCORES = _array(
    "follows_scores", "float32", "IL", "follows", "their scores", optional=FOLLOWS_ROWS.optional
)
COMPLEMENT_ROWS = _array(
    "complement_rows",
    "int32",
    "IM",
    "complements",
    "what goes with it by a learned compatibility, best first",
    optional="where the setup wants none, or too few baskets were there to learn from",
)
COMPLEMENT_SCORES = _array(
    "complement_scores",
    "float32",
    "IM",
    "complements",
    "by how much their log odds are above those of the first that is not in the list",
    optional=COMPLEMENT_ROWS.optional,
)
POPULARITY = _array("popularity", "float32", "I", "habits", "events, weighted by type and age")
TOUCHES = _array("touches", "int64", "TI", "habits", "events by type: `sources.ItemStats`")
FIRST_DAYS = _array("first_days", "float64", "I", "habits", "the day an item was first sold")
INTERVALS = _array("intervals", "float32", "I", "habits", "days between two purchases by a user")
REPEATS = _array("repeats", "float32", "I", "habits", "how often it is bought again")
PEERS = ReleaseFile(
    name="peers.arrow",
    holds="the users that others are compared with, as in users.arrow",
    stage="habits",
    of_users=True,
)
ATTRACTION = _array(
    "attraction",
    "float32",
    "AI",
    "attraction",
    "exposure and clicks: `item_clicks.count_item_clicks`",
)
PROJECTION = _array(
    "projection",
    "float32",
    "DP",
    "projections",
    "texts' vectors to features; the same from night to night while the space is",
)
TASTE_PROJECTION = _array(
    "taste_projection", "float32", "dp", "projections", "the same of the user model's space"
)
ITEM_PROJECTED = _array("item_projected", "float32", "IP", "projections", "item vectors, projected")
TASTE_PROJECTED = _array(
    "taste_projected", "float32", "Ip", "projections", "taste vectors, projected"
)
LEXICAL = ReleaseFile(name="lexical/", holds="the BM25 index", stage="lexical")
CODES = ReleaseFile(
    name="codes.arrow",
    holds="item ids, GTINs and model numbers, each with its rows",
    stage="codes",
)
SUGGESTIONS = ReleaseFile(
    name="suggestions.arrow",
    holds="completions: tables.SUGGESTIONS, their beginnings, then their inner words, sorted",
    stage="suggestions",
)
ANN = ReleaseFile(
    name="dense.ivf",
    holds="the faiss index",
    stage="dense",
    optional="where the catalogue is smaller than the setup's `ann_above`",
)
QUARANTINE = ReleaseFile(
    name="quarantine.parquet",
    holds="tables.QUARANTINE: every row that could not be used, and why",
    stage="the end",
    of_users=True,
)

#: All of them, in the order above.
FILES = tuple(file for file in globals().values() if isinstance(file, ReleaseFile))
ARRAYS = tuple(file for file in FILES if file.axes)
#: What is written again without a user who leaves the release.
OF_USERS = tuple(file for file in FILES if file.of_users)
#: One row a user, in the order of USERS.
USER_ARRAYS = tuple(file for file in ARRAYS if file.of_users)

ITEM_PICTURES = (PICTURES, PICTURE_VECTORS)
EMBEDDED_USERS = (USERS, USER_VECTORS)
CANDIDATES = (CANDIDATE_ROWS, CANDIDATE_FEATURES, CANDIDATE_SOURCES)
SIMILAR = (SIMILAR_ROWS, SIMILAR_SCORES, CONTENT_ROWS, CONTENT_SCORES)
CO_OCCURRENCE = (CO_OCCURRENCE_ROWS, CO_OCCURRENCE_SCORES)
FOLLOWS = (FOLLOWS_ROWS, FOLLOWS_SCORES)
COMPLEMENTS = (COMPLEMENT_ROWS, COMPLEMENT_SCORES)


def missing(names: Iterable[str]) -> list[str]:
    """Files that a manifest must list and does not."""
    return [file.name for file in FILES if not file.optional and not file.is_in(names)]
