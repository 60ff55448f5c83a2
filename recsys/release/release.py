"""One night's artifacts, open by day: the manifest, and the files that `files` describes.

A release never changes, but for one thing: users who ask to be forgotten leave it
(`privacy.erasure`). The files of users then lie without them in a folder below, which the
manifest names as `amended`."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.encoders.text import item_texts
from recsys.errors import NotFoundError, RecsysError, ReleaseError, SpaceMismatchError
from recsys.ranking.item_features import ItemFeatures
from recsys.release import files
from recsys.release.files import ReleaseFile
from recsys.release.labels import Labels
from recsys.retrieval.text.bm25 import LexicalIndex
from recsys.storage.artifacts import ArtifactStore
from recsys.types import Filters, Floats, Histories, Ints, Item, Mask
from recsys.understanding.codes import CodeIndex
from recsys.understanding.suggestions import Suggestions

FORMAT = 4


class OtherFormatError(ReleaseError):
    """A release that other code wrote; a night begins anew after it."""


@dataclass(frozen=True)
class Manifest:
    """What a release is. `files` maps each path to its sha256; times are ISO 8601, UTC.

    After `amendments` the files of users lie in the folder `amended`; `replaced` are those that lay
    elsewhere before."""

    version: str
    space: str
    setup: str
    commit: str
    previous: str | None
    created: str
    events_from: str | None
    events_until: str | None
    counts: dict[str, int]
    quarantined: dict[str, int]
    sources: list[str]
    metrics: dict[str, float]
    files: dict[str, str]
    models: str | None = None
    format: int = FORMAT
    amended: str = ""
    amendments: int = 0
    replaced: list[str] = field(default_factory=list)

    def path_of(self, name: str) -> str:
        """A file's path below the release's folder."""
        moved = f"{self.amended}/{name}"
        return moved if moved in self.files else name

    def to_json(self) -> bytes:
        return (
            json.dumps(asdict(self), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        ).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        try:
            fields = json.loads(data)
            if fields["format"] != FORMAT:
                raise OtherFormatError(
                    f"release {fields.get('version')} has format {fields['format']}, this code reads {FORMAT}: "
                    "run jobs.nightly with this code, or serve with the code that wrote it"
                )
            return cls(**fields)
        except (ValueError, TypeError, KeyError) as error:
            raise ReleaseError(
                f"a manifest cannot be read ({error}): promote another release"
            ) from error


class IdMap:
    """Ids outside, rows inside. Ids are sorted within each shard, so a look-up needs no memory of
    its own."""

    def __init__(self, ids: pa.ChunkedArray) -> None:
        self.shards = [chunk for chunk in ids.chunks if len(chunk)]
        self.starts = np.cumsum([0, *map(len, self.shards)]).tolist()

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, row: int) -> str:
        shard = int(np.searchsorted(self.starts, row, side="right")) - 1
        return str(self.shards[shard][row - self.starts[shard]].as_py())

    def row(self, wanted: str) -> int | None:
        """The row of an id, or None."""
        for start, ids in zip(self.starts, self.shards, strict=False):
            place = bisect_left(_Strings(ids), wanted)
            if place < len(ids) and ids[place].as_py() == wanted:
                return int(start + place)
        return None

    def rows(self, wanted: pa.Array | pa.ChunkedArray) -> NDArray[np.int32]:
        """The rows of many ids at once, -1 where there is none."""
        found = pc.index_in(wanted, value_set=pa.chunked_array(self.shards, pa.string()))
        return np.asarray(pc.fill_null(found, -1)).astype(np.int32)


class _Strings(Sequence[str]):
    """An Arrow array of strings as the sequence that bisect wants."""

    def __init__(self, array: pa.Array) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, at: Any) -> Any:
        return self.array[at].as_py()


def read_arrow(path: Path) -> pa.Table:
    """An Arrow file, mapped, not read: replicas of a host share its pages."""
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def histories_of(users: pa.Table | pa.RecordBatch) -> Histories:
    """The history columns of `users.arrow`, or of some rows of it."""
    lists = {}
    for name in ("items", "types", "days", "prices"):
        if name in users.schema.names:
            column = users[name]
            lists[name] = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    lengths = np.asarray(pc.list_value_length(lists["items"]))
    values = {name: np.asarray(column.flatten()) for name, column in lists.items()}
    return Histories(offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), **values)


def added_days(items: pa.Table) -> NDArray[np.float64]:
    """[I]: days since 1970-01-01 UTC, NaN where the shop does not say."""
    return np.asarray(items["added"].cast(pa.int64()).cast(pa.float64()).to_numpy()) / 86_400e6


class Release:
    """An open release. Arrays are read-only and mapped from disk."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        self.items = read_arrow(self.path(files.ITEMS))
        self.item_ids = IdMap(self.items["item_id"])
        self.users = read_arrow(self.path(files.USERS))
        self.user_ids = IdMap(self.users["user_id"])
        self.item_vectors_ID = self.array(files.ITEM_VECTORS)
        own_space = self.path(files.TASTE_VECTORS).exists()
        self.user_space_item_vectors_ID = (
            self.array(files.TASTE_VECTORS) if own_space else self.item_vectors_ID
        )
        self.user_vectors_UD = self.array(files.USER_VECTORS)
        self.candidate_rows_UN = self.array(files.CANDIDATE_ROWS)
        self.candidate_features_UNF = self.array(files.CANDIDATE_FEATURES)
        self.candidate_sources_UN = self.array(files.CANDIDATE_SOURCES)
        self.similar_rows_IS = self.array(files.SIMILAR_ROWS)
        self.similar_scores_IS = self.array(files.SIMILAR_SCORES)
        self.co_occurrence = tuple(self.array(file) for file in files.CO_OCCURRENCE)
        self.popularity_I = self.array(files.POPULARITY)
        self.peers = read_arrow(self.path(files.PEERS))
        self.lexical = LexicalIndex.load(self.path(files.LEXICAL))
        self.suggestions = Suggestions.open(self.path(files.SUGGESTIONS))
        self.codes = CodeIndex.load(folder)

    @classmethod
    def open(
        cls, store: ArtifactStore, version: str | None = None, space: str | None = None
    ) -> Release:
        """Opens `version` (default: current), every checksum compared.

        Raises NotFoundError when it is not there, SpaceMismatchError when its vectors are not of
        `space`, ReleaseError when a file is missing or damaged."""
        version = version or store.current()
        if version is None:
            raise NotFoundError("nothing is published yet: run python -m jobs.nightly")
        manifest = read_manifest(store, version)
        check_space(manifest, space)
        try:
            return cls(store.local_folder(f"releases/{version}", manifest.files), manifest)
        except (RecsysError, FileNotFoundError):
            if read_manifest(store, version) == manifest:
                raise
        return cls.open(store, version, space)  # it was amended meanwhile

    def path(self, file: ReleaseFile) -> Path:
        """Where a file lies: in the release's folder, or in that of its last amendment."""
        return self.folder / self.manifest.path_of(file.name)

    @property
    def version(self) -> str:
        return self.manifest.version

    def array(self, file: ReleaseFile) -> NDArray[Any]:
        try:
            return np.load(self.path(file), mmap_mode="r")
        except FileNotFoundError:
            raise ReleaseError(
                f"release {self.version} has no {file.name}: promote another release"
            ) from None

    def item(self, row: int) -> Item:
        values = self.items.slice(row, 1).to_pylist()[0]
        del values["text_hash"]
        return Item(**{name: value for name, value in values.items() if value is not None})

    def texts(self, rows: Ints) -> list[str]:
        """The texts of these items as they were encoded."""
        return (
            item_texts(pa.concat_tables([self.items.slice(int(row), 1) for row in rows]))
            if len(rows)
            else []
        )

    def history(self, user_row: int) -> Histories:
        return histories_of(self.users.slice(user_row, 1))

    @cached_property
    def in_stock_I(self) -> Mask:
        return np.asarray(pc.fill_null(self.items["in_stock"], True))

    @cached_property
    def prices_I(self) -> NDArray[np.float64]:
        """NaN where the shop has no price; such items pass no price bound."""
        return np.asarray(self.items["price"].cast(pa.float64()).to_numpy())

    @cached_property
    def groups_I(self) -> NDArray[np.int32]:
        """Equal where items are variants of one product; -1 where an item is none."""
        groups = pc.utf8_trim_whitespace(self.items["group_id"])
        groups = pc.if_else(
            pc.equal(groups, ""), pa.scalar(None, pa.string()), groups
        ).combine_chunks()
        return np.asarray(pc.fill_null(groups.dictionary_encode().indices, -1)).astype(np.int32)

    @cached_property
    def item_features(self) -> ItemFeatures:
        """What features are made of. A category or brand has its place among `labels`, below which
        an intent is found: `labels["category"].below([intent])` is a row of `Context.intent_BL`."""
        exposure_I, clicks_I = self.array(files.ATTRACTION)
        return ItemFeatures(
            prices_I=self.prices_I,
            in_stock_I=self.in_stock_I,
            popularity_I=self.popularity_I,
            touches_TI=self.array(files.TOUCHES),
            exposure_I=exposure_I,
            clicks_I=clicks_I,
            first_days_I=self.array(files.FIRST_DAYS),
            categories_I=self._label_codes("category"),
            brands_I=self._label_codes("brand"),
            item_projected_IP=self.array(files.ITEM_PROJECTED),
            taste_projected_IP=self.array(files.TASTE_PROJECTED),
        )

    @cached_property
    def projections(self) -> tuple[Floats, Floats]:
        """[D, P] of the texts' space, and [d, P] of the user model's."""
        return np.array(self.array(files.PROJECTION)), np.array(self.array(files.TASTE_PROJECTION))

    def _label_codes(self, column: str) -> Ints:
        """-1 where the item has no label."""
        none_I = pc.equal(pc.utf8_trim_whitespace(pc.fill_null(self.items[column], "")), "")
        return np.where(np.asarray(none_I), -1, self.labels[column].codes_I)

    @cached_property
    def added_I(self) -> NDArray[np.float64]:
        """When the shop began to sell each item, in days since 1970-01-01 UTC; NaN where it does
        not say."""
        return added_days(self.items)

    @cached_property
    def labels(self) -> dict[str, Labels]:
        return {
            name: Labels.of(self.items[name], nested=name == "category")
            for name in ("category", "brand")
        }

    def allowed(self, filters: Filters) -> Mask | None:
        """Which items pass the filters, or None when nothing is filtered.

        Of several categories or brands one must fit. A category also names everything below it:
        "grocery" passes "GROCERY / FROZEN PIZZA". Case does not matter."""
        masks = list(self.passing(filters, slice(None)).values())
        return np.logical_and.reduce(masks) if masks else None

    def passing(self, filters: Filters, rows: Ints | slice) -> dict[str, Mask]:
        """Which of the rows pass each filter that is set, by its field's name."""
        masks: dict[str, Mask] = {}
        for name, wanted in (("category", filters.category), ("brand", filters.brand)):
            if wanted:
                masks[name] = self.labels[name].below(wanted)[self.labels[name].codes_I[rows]]
        if filters.min_price is not None:
            masks["min_price"] = self.prices_I[rows] >= filters.min_price
        if filters.max_price is not None:
            masks["max_price"] = self.prices_I[rows] <= filters.max_price
        if filters.in_stock is not None:
            masks["in_stock"] = self.in_stock_I[rows] == filters.in_stock
        return masks


def read_manifest(store: ArtifactStore, version: str) -> Manifest:
    """NotFoundError when the version is not published: it lists those that are."""
    try:
        return Manifest.from_json(store.read(f"releases/{version}/manifest.json"))
    except NotFoundError:
        there = ", ".join(store.versions()) or "none"
        raise NotFoundError(
            f"release {version} is not in {store.uri}: choose one of those published ({there})"
        ) from None


def check_space(manifest: Manifest, space: str | None) -> None:
    """Refuses a release whose vectors the running encoder does not share."""
    if space is not None and manifest.space != space:
        raise SpaceMismatchError(
            f"release {manifest.version} holds vectors of space {manifest.space!r} but the encoder makes {space!r}: "
            "load that encoder, or run jobs.nightly with this one"
        )


def write_arrow(batches: Sequence[pa.RecordBatch], schema: pa.Schema) -> pa.Buffer:
    """An uncompressed Arrow file, one record batch a shard."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue()


def row_ranges(total: int, size: int) -> list[range]:
    """0..total-1 in ranges of at most `size`."""
    edges = [*range(0, total, size), total]
    return [range(low, high) for low, high in pairwise(edges)]
