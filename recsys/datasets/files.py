"""A shop's own Parquet, CSV or JSON files as canonical tables."""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import PurePosixPath
from urllib.parse import unquote

import pyarrow as pa
from pyarrow import fs

from recsys.datasets.columns import (
    ColumnPath,
    extract_field,
    has_column,
    mend_float_ids,
    plain_column,
    resolve_columns,
)
from recsys.datasets.image_cells import NUMBERED
from recsys.datasets.json_files import JsonFile
from recsys.datasets.parquet import ParquetRows
from recsys.datasets.text_files import CsvFile, RowFile
from recsys.datasets.text_format import TextOptions, decode_file, detect_dialect
from recsys.datasets.validate import LINE
from recsys.errors import InputError, NotFoundError
from recsys.interfaces import Chunk
from recsys.tables import EVENTS_RAW, ITEMS_RAW, REQUIRED

CHUNK_ROWS = 250_000
#: Of a Parquet file that a chunk is about: a worker holds all of it, pictures too.
CHUNK_BYTES = 512 << 20
_KINDS = {
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    **dict.fromkeys((".csv", ".tsv", ".txt"), "csv"),
    **dict.fromkeys((".json", ".jsonl", ".ndjson"), "json"),
}
_ENDINGS = ", ".join(_KINDS)
_NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"


#: From the path and the names of a file's columns to those that are read, by new names.
Selection = Callable[[str, Sequence[str]], Mapping[str, ColumnPath]]


def _select_all(path: str, names: Sequence[str]) -> Mapping[str, ColumnPath]:
    for name in names:
        if list(names).count(name) > 1:
            raise InputError(f"{path} has the column {name!r} twice: rename or remove one")
    return {name: ColumnPath(place) for place, name in enumerate(names)}


@dataclass(frozen=True)
class FileSource:
    """One file, or one folder of files, whose columns have the shop's names.

    Parquet is read in chunks of at most `CHUNK_ROWS` rows and about `CHUNK_BYTES`, other files in
    one. Folders named `name=value` add a column. `names` are of columns that are looked for: they
    decide between two delimiters, and between two lists in a JSON file."""

    root: str
    options: TextOptions = field(default_factory=TextOptions)
    names: frozenset[str] = frozenset()

    def chunks(self) -> list[Chunk]:
        filesystem, path = resolve_path(self.root)
        chunks = []
        for file in _files(filesystem, path):
            with read_errors(file):
                rows = self._open(file).num_rows
            step = max(rows, 1)
            if _kind(file) == "parquet":
                size = max(1, filesystem.get_file_info(file).size)
                step = max(1, min(CHUNK_ROWS, rows * CHUNK_BYTES // size))
            chunks += [
                Chunk(file, start, min(step, rows - start)) for start in range(0, rows, step)
            ]
        return chunks

    def fingerprint(self) -> str:
        """Differs when a file is added, removed or written again."""
        filesystem, path = resolve_path(self.root)
        infos = filesystem.get_file_info(_files(filesystem, path))
        return repr([(info.path, info.size, info.mtime_ns) for info in infos])

    def times(self) -> dict[str, datetime]:
        """When each of its files was last written, by the paths of its chunks; without those of
        which the file system does not say it."""
        filesystem, path = resolve_path(self.root)
        infos = filesystem.get_file_info(_files(filesystem, path))
        return {info.path: info.mtime for info in infos if info.mtime is not None}

    def column_names(self, path: str) -> list[str]:
        """Of one of its files, as they stand there, and of the folders that it lies in."""
        with read_errors(path):
            names = self._open(path).names
        return [*names, *self._partitions(path, names)]

    def read(self, chunk: Chunk, select: Selection = _select_all) -> pa.Table:
        """The chunk's rows: the columns that `select` chooses from the names of the file's, under
        its names for them; then `validate.LINE` where a line is malformed."""
        with read_errors(chunk.path):
            file = self._open(chunk.path)
            partitions = self._partitions(chunk.path, file.names)
            paths = select(chunk.path, [*file.names, *partitions])
            own = len(file.names)
            places = sorted({each.place for each in paths.values() if each.place < own})
            table = file.read(places, chunk.start, chunk.rows)
            columns = [
                plain_column(
                    extract_field(table.column(places.index(each.place)), each.fields, chunk.path)
                )
                if each.place < own
                else pa.array([list(partitions.values())[each.place - own]] * chunk.rows)
                for each in paths.values()
            ]
        lines = [table[LINE]] if LINE in table.column_names else []
        return pa.table([*columns, *lines], names=[*paths, *[LINE] * len(lines)])

    def _open(self, path: str) -> RowFile:
        filesystem, _ = resolve_path(self.root)
        kind = _kind(path)
        if kind == "parquet":
            return ParquetRows(filesystem, path)
        text, written = decode_file(filesystem, path, self.options.encoding)
        if kind == "json":
            return JsonFile(
                text.decode(),
                path,
                records=self.options.records,
                names=self.names,
                damaged=written.damaged,
            )
        return CsvFile(text, detect_dialect(text, written, self.options.delimiter, self.names))

    def _partitions(self, path: str, names: Collection[str]) -> dict[str, str | None]:
        """The columns that folders named `name=value` add to a file with `names`."""
        _, root = resolve_path(self.root)
        parts = PurePosixPath(path.removeprefix(root)).parent.parts
        pairs = (part.split("=", 1) for part in parts if re.match("[^=]+=", part))
        return {
            name: None if value == _NO_PARTITION else unquote(value)
            for name, value in pairs
            if name not in names
        }


class FilesAdapter:
    """A `DatasetAdapter` over one file, or one folder of files, for items and one for events.

    Paths are local or URIs that pyarrow knows (`s3://bucket/items`). Files are Parquet, CSV or
    JSON, by their suffix; text files may be compressed. `item_columns` and `event_columns` map a
    canonical column name to the shop's, with dots into nested columns (`price.amount`); a column
    that is not mapped has its canonical name, in any case. `attribute_columns` are the items' other
    columns that the setup declares as attributes. CSV values stay strings. Delimiter and
    encoding are detected where they are not given; `records` names the list of rows in a JSON
    object. A line that cannot be split into columns is a row of nulls with its text in
    `validate.LINE`, for quarantine. Without a path there are no items, or no events yet. In a log
    without a column for it every event is of `event_type`: a table of order lines is of purchases.

    Raises NotFoundError for a path that does not exist, InputError for a file or column that cannot
    be used."""

    name = "files"

    def __init__(
        self,
        items_path: str | None = None,
        events_path: str | None = None,
        item_columns: Mapping[str, str] | None = None,
        event_columns: Mapping[str, str] | None = None,
        *,
        event_type: str | None = None,
        delimiter: str | None = None,
        encoding: str | None = None,
        records: str | None = None,
        attribute_columns: Sequence[str] = (),
    ) -> None:
        self.attribute_columns = tuple(attribute_columns)
        self.items_path, self.events_path = str(items_path or ""), str(events_path or "")
        self.event_type = event_type
        self.item_columns, self.event_columns = dict(item_columns or {}), dict(event_columns or {})
        options = TextOptions(delimiter=delimiter, encoding=encoding, records=records)
        self._items = _canonical_source(self.items_path, options, ITEMS_RAW, self.item_columns)
        self._events = _canonical_source(self.events_path, options, EVENTS_RAW, self.event_columns)

    def item_chunks(self) -> list[Chunk]:
        if not self.items_path:
            return []
        if chunks := self._items.chunks():
            return chunks
        raise InputError(
            f"{self.items_path} holds no items: give a file with a row an item ({_ENDINGS})"
        )

    def event_chunks(self) -> list[Chunk]:
        # None in an empty folder: a shop that has just opened.
        return self._events.chunks() if self.events_path else []

    def item_times(self) -> dict[str, datetime]:
        return self._items.times() if self.items_path else {}

    def fingerprint(self) -> str:
        sources = (self._items, self.item_columns), (self._events, self.event_columns)
        parts = [
            (source.fingerprint(), sorted(mapping.items()), source.options)
            for source, mapping in sources
            if source.root
        ]
        choices = (parts, self.attribute_columns, self.event_type)
        return hashlib.sha256(repr(choices).encode()).hexdigest()

    def read_items(self, chunk: Chunk) -> pa.Table:
        return _mend_ids(self._items.read(chunk, self._item_selection()), chunk)

    def read_events(self, chunk: Chunk) -> pa.Table:
        rows = _mend_ids(self._events.read(chunk, self._event_selection()), chunk)
        if self.event_type is None or "type" in rows.column_names:
            return rows
        return rows.append_column("type", pa.array([self.event_type] * len(rows), pa.string()))

    def _event_selection(self) -> Selection:
        absent = () if self.event_type is None else ("type",)
        return _selection(EVENTS_RAW, self.event_columns, absent=absent)

    def with_items(self, path: str) -> FilesAdapter:
        """Items of another file, read in the same way; it need not have all columns."""
        source = replace(self._items, root=path)
        filesystem, root = resolve_path(path)
        file = next(iter(_files(filesystem, root)), root)
        names = source.column_names(file)
        has = partial(has_column, file, names)
        return FilesAdapter(
            path,
            item_columns={own: name for own, name in self.item_columns.items() if has(name)},
            delimiter=source.options.delimiter,
            encoding=source.options.encoding,
            records=source.options.records,
            attribute_columns=[name for name in self.attribute_columns if has(name)],
        )

    def unused_item_columns(self) -> list[str]:
        """The columns of the first items file that no canonical column is made of."""
        return _unused(self._items, self._item_selection())

    def _item_selection(self) -> Selection:
        select = _selection(ITEMS_RAW, self.item_columns, self.attribute_columns)
        return partial(_with_more_images, select)

    def unused_event_columns(self) -> list[str]:
        """The columns of the first events file that no canonical column is made of."""
        return _unused(self._events, self._event_selection())


def _mend_ids(rows: pa.Table, chunk: Chunk) -> pa.Table:
    # A CSV is one chunk: its ids are all there to be looked at.
    return mend_float_ids(rows) if _kind(chunk.path) == "csv" else rows


def _canonical_source(
    root: str, options: TextOptions, schema: pa.Schema, mapping: Mapping[str, str]
) -> FileSource:
    for name in mapping:
        if name not in schema.names:
            raise InputError(
                f"there is no canonical column {name!r}: map one of {', '.join(schema.names)}"
            )
    return FileSource(root, options, frozenset([*schema.names, *mapping.values()]))


def _selection(
    schema: pa.Schema,
    mapping: Mapping[str, str],
    others: Sequence[str] = (),
    absent: Collection[str] = (),
) -> Selection:
    """`others` are columns beside the schema's, `absent` those that need not be there."""
    required = set(REQUIRED["items" if schema is ITEMS_RAW else "events"]) - set(absent)
    return partial(
        resolve_columns,
        canonical=list(dict.fromkeys([*schema.names, *others])),
        mapping={**{name: name for name in others}, **mapping},
        required=frozenset(required),
    )


def _with_more_images(
    select: Selection, path: str, names: Sequence[str]
) -> Mapping[str, ColumnPath]:
    """And the columns image_2, image_3 and so on, unless something else is made of them."""
    columns = dict(select(path, names))
    used = {column.place for column in columns.values()}
    for place, name in enumerate(names):
        if place not in used and NUMBERED.fullmatch(name):
            columns.setdefault(name, ColumnPath(place))
    return columns


def read_file(path: str, options: TextOptions | None = None) -> pa.Table:
    """All rows of a file under its own column names, and `validate.LINE` where a line is
    malformed."""
    _, inner = resolve_path(path)
    source = FileSource(path, options or TextOptions())
    chunks = source.chunks() or [Chunk(inner, 0, 0)]
    return pa.concat_tables([source.read(chunk) for chunk in chunks])


def _unused(source: FileSource, select: Selection) -> list[str]:
    if not source.root:
        return []
    filesystem, root = resolve_path(source.root)
    for path in _files(filesystem, root):
        if names := source.column_names(path):  # an empty file has none
            used = {each.place for each in select(path, names).values()}
            return [name for place, name in enumerate(names) if place not in used]
    return []


def resolve_path(path: str) -> tuple[fs.FileSystem, str]:
    """The file system of a path or URI, and the path there."""
    return (
        fs.FileSystem.from_uri(path)
        if "://" in path
        else (fs.LocalFileSystem(), os.path.abspath(path))
    )


def _files(filesystem: fs.FileSystem, root: str) -> list[str]:
    """`root` itself, or the files under it; not those that it or a folder calls "_..." or "."."""
    info = filesystem.get_file_info(root)
    if info.type == fs.FileType.NotFound:
        raise NotFoundError(f"there is nothing at {root}: give the path of a file or folder")
    if info.is_file:
        return [root] if _kind(root) else []
    infos = filesystem.get_file_info(fs.FileSelector(root, recursive=True))
    files = sorted(each.path for each in infos if each.is_file)
    hidden = re.compile(r"(^|/)[_.][^/=]*(/|$)")
    return [file for file in files if not hidden.search(file.removeprefix(root)) and _kind(file)]


def _kind(path: str) -> str:
    """parquet, csv or json."""
    name = PurePosixPath(path).name.lower()
    suffix = PurePosixPath(re.sub(r"\.(gz|zst|bz2|zip)$", "", name)).suffix
    if suffix not in _KINDS:
        raise InputError(
            f"{path} cannot be read: give files that end in {_ENDINGS}, or in one of these and "
            ".gz, .zst, .bz2 or .zip"
        )
    return _KINDS[suffix]


@contextmanager
def read_errors(path: str) -> Iterator[None]:
    """What the libraries raise over a damaged file, as a sentence."""
    try:
        yield
    except (pa.ArrowException, OSError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path} cannot be read ({error}): write it again, or remove it"
        ) from error
