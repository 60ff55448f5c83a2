"""The law of ingest: whatever stands in a file, nothing but a RecsysError is raised; every row is
good, ignored or in quarantine; and texts come out as they went in.

LAW_EXAMPLES=5000 tries that many files in all."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from recsys.datasets.files import FilesAdapter
from recsys.datasets.repeats import deduplicate
from recsys.datasets.validate import LINE, ValidationResult, check_events, check_items
from recsys.errors import RecsysError

LAW = settings(
    max_examples=int(os.environ.get("LAW_EXAMPLES", "160")) // 4,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
NOW = datetime(2026, 6, 1, tzinfo=UTC)
COLUMNS = {
    "items": ("item_id", "title", "price", "category", "in_stock", "added", "brand", "Size"),
    "events": ("event_id", "user_id", "item_id", "type", "time", "quantity", "price", "IP"),
}
REQUIRED = {"items": {"item_id", "title"}, "events": {"user_id", "item_id", "type", "time"}}
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": lambda data: pa.compress(data, "zstd", asbytes=True),
}
words = st.text(st.sampled_from("ab1 ,;\t|\"'\\.-–äß€茶\n"), max_size=12)
texts = st.one_of(
    st.sampled_from([
        "", "1", "A1", "19.99", "19,99", "true", "nan", "view", "purchase", "2026-01-02",
        "2026-01-02T03:04:05Z", "1767225600", "Garden > Chairs", '5" pipe', "NULL", "€ 1.299,00",
    ]),
    st.integers(0, 9).map(lambda number: f"id{number}"),
    words,
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
)  # fmt: skip
numbers = st.one_of(st.integers(), st.floats(), st.sampled_from([19.99, 4006381333931.0]))
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab."), inner, max_size=2)
    ),
    max_leaves=4,
)


@dataclass
class Export:
    """A shop's table before it is written; `names` are of its columns."""

    kind: str
    names: list[str]
    rows: list[dict[str, Any]]


@st.composite
def exports(draw: st.DrawFn, values: st.SearchStrategy[Any]) -> Export:
    kind = draw(st.sampled_from(["items", "events"]))
    names = [name for name in COLUMNS[kind] if name in REQUIRED[kind] or draw(st.booleans())]
    rows = draw(st.lists(st.tuples(*[values] * len(names)), max_size=draw(st.sampled_from([3, 9]))))
    return Export(kind, names, [dict(zip(names, row, strict=True)) for row in rows])


def ingest(export: Export, data: bytes, suffix: str, **options: Any) -> list[dict[str, Any]]:
    """The raw rows of the file, after every law that holds whatever they are."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"export{suffix}"
        path.write_bytes(data)
        adapter = FilesAdapter(str(path), str(path), **options)
        items = export.kind == "items"
        if items and not export.rows:
            return []
        chunks = adapter.item_chunks() if items else adapter.event_chunks()
        tables = [
            adapter.read_items(each) if items else adapter.read_events(each) for each in chunks
        ]
        results = [
            check_items(raw, chunk.path, chunk.start)
            if items
            else check_events(raw, chunk.path, chunk.start, NOW)
            for chunk, raw in zip(chunks, tables, strict=True)
        ]
    counts = [chunk.rows for chunk in chunks]
    assert [raw.num_rows for raw in tables] == [count_rows(each) for each in results] == counts
    if results:
        good = pa.concat_tables([each.good for each in results])
        assert count_rows(deduplicate(good, "item_id" if items else "event_id")) == good.num_rows
    return [row for raw in tables for row in raw.to_pylist()]


def count_rows(result: ValidationResult) -> int:
    return result.good.num_rows + result.quarantined.num_rows + result.ignored


def assert_same_texts(rows: Sequence[dict[str, Any]], export: Export, names: Sequence[str]) -> None:
    assert len(rows) == len(export.rows)
    for row, original in zip(rows, export.rows, strict=True):
        for name in set(names) - {"Size", "IP"}:
            right = original[name] or ""
            assert (row[name] or "") == right.replace("\r\n", "\n").replace("\r", "\n"), name


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    start, stop = sorted(draw(st.tuples(*[st.integers(0, len(data))] * 2)))
    inserted = draw(st.sampled_from([b"", b'"', b"\n", b"\xff", b"\0", b",", b"{", b"]", b"\\"]))
    return draw(
        st.sampled_from([
            data[:start], data[:start] + data[stop:], data[:start] + inserted + data[start:],
            data[:stop] + data[start:],
        ])
    )  # fmt: skip


@st.composite
def written_csv(draw: st.DrawFn, export: Export, escaped: bool) -> tuple[bytes, dict[str, Any]]:
    delimiter = draw(st.sampled_from(",;\t|"))
    line_end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    # Without quotes around all cells Python's writer leaves other line ends in them bare.
    plain = line_end == "\r\n" and not escaped and draw(st.booleans())
    buffer = io.StringIO(newline="")
    writer = csv.writer(
        buffer,
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if plain else csv.QUOTE_ALL,
        doublequote=not escaped,
        escapechar="\\" if escaped else None,
        lineterminator=line_end,
    )
    writer.writerow(export.names)
    writer.writerows([row[name] for name in export.names] for row in export.rows)
    text = buffer.getvalue()
    if draw(st.booleans()):
        text = text.rstrip("\r\n") if text.strip() and not text.endswith('""') else text
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "gb18030"]))
    options = {"encoding": encoding} if encoding in ("utf-16-le", "gb18030") else {}
    return text.encode(encoding), options | draw(st.sampled_from([{}, {"delimiter": delimiter}]))


@given(st.data(), exports(texts))
@LAW
def test_csv(data: st.DataObject, export: Export) -> None:
    escaped = data.draw(st.sampled_from([False, False, False, True]))
    written, options = data.draw(written_csv(export, escaped))
    compression = data.draw(st.sampled_from(list(COMPRESSIONS)))
    suffix = data.draw(st.sampled_from([".csv", ".CSV", ".txt"])) + compression
    rows = ingest(export, COMPRESSIONS[compression](written), suffix, **options)
    cells = {cell for row in export.rows for cell in row.values()}
    # A null of databases; too few escapes to be told, or one that may end a cell; a mark of UTF-16;
    # a cell like rows.
    doubtful = r'\\|\0|"[,;\t|\r\n]' if escaped else r"\0"
    unclear = "\\N" in cells or any(re.search(doubtful, cell) for cell in cells)
    if unclear or any(LINE in row for row in rows):
        event("without its texts")
    else:
        assert_same_texts(rows, export, export.names)


@given(st.data(), exports(json_values))
@LAW
def test_json(data: st.DataObject, export: Export) -> None:
    layout = data.draw(st.sampled_from(["lines", "list", "pretty", "wrapped", "one by one"]))
    indent = None if layout in ("lines", "list") else 1
    rows = [json.dumps(row, indent=indent, ensure_ascii=False) for row in export.rows]
    text = "\n".join(rows)
    if layout in ("list", "pretty"):
        text = "[" + ",\n".join(rows) + "]"
    elif layout == "wrapped":
        text = json.dumps({"page": 1, "data": {"rows": export.rows}})
    read = ingest(export, text.encode(), data.draw(st.sampled_from([".json", ".ndjson"])))
    if layout != "wrapped" or export.rows:
        columns = [
            name
            for name in export.names
            if all(isinstance(row[name], str | None) for row in export.rows)
        ]
        if not any("\r" in str(row[name]) for row in export.rows for name in columns):
            assert_same_texts(read, export, columns)


@cache
def arrow_columns(rows: int) -> st.SearchStrategy[pa.Array]:
    def of(values: st.SearchStrategy[Any], *types: pa.DataType) -> st.SearchStrategy[pa.Array]:
        column = st.lists(st.none() | values, min_size=rows, max_size=rows)
        return st.builds(pa.array, column, st.sampled_from(types))

    strings = (
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int8(), pa.string()),
    )
    times = [
        pa.timestamp(unit, zone)
        for unit in ("s", "ms", "us", "ns")
        for zone in (None, "Asia/Tokyo")
    ]
    moments = st.datetimes(datetime(1700, 1, 1), datetime(2250, 1, 1))
    cents = st.integers(-9999, 9999).map(lambda number: Decimal(number) / 100)
    return st.one_of(
        of(texts, *strings),
        of(st.binary(max_size=4), pa.binary()),
        of(st.integers(-100, 100), pa.int8(), pa.int64(), pa.float64(), pa.float32(), pa.float16()),
        of(st.floats(width=32), pa.float32(), pa.float64()),
        of(cents, pa.decimal128(9, 2), pa.decimal256(50, 4)),
        of(moments, *times),
        of(st.dates(date(1700, 1, 1), date(2250, 1, 1)), pa.date32(), pa.date64()),
        of(st.booleans(), pa.bool_()),
        of(st.lists(texts, max_size=2), pa.list_(pa.string()), pa.large_list(pa.string())),
        of(st.fixed_dictionaries({"a": texts}), pa.struct({"a": pa.string()})),
        of(st.binary(min_size=16, max_size=16), pa.uuid(), pa.binary(16)),
        of(st.none(), pa.null()),
    )


@given(st.data(), st.sampled_from(list(COLUMNS)), st.integers(0, 6))
@LAW
def test_parquet(data: st.DataObject, kind: str, count: int) -> None:
    names = [name for name in COLUMNS[kind] if name in REQUIRED[kind] or data.draw(st.booleans())]
    columns = {name: data.draw(arrow_columns(count)) for name in names}
    buffer = io.BytesIO()
    pq.write_table(
        pa.table(columns),
        buffer,
        row_group_size=data.draw(st.integers(1, 4)),
        compression=data.draw(st.sampled_from(["none", "snappy", "zstd"])),
    )
    export = Export(kind, list(columns), pa.table(columns).to_pylist())
    rows = ingest(export, buffer.getvalue(), ".parquet")
    strings = [name for name, column in columns.items() if pa.types.is_string(column.type)]
    assert len(rows) == count
    for name in set(strings) - {"Size", "IP"}:
        assert [row[name] for row in rows] == columns[name].to_pylist()


@given(st.data(), exports(texts), st.sampled_from([".csv", ".jsonl", ".json", ".parquet"]))
@LAW
def test_damaged_files(data: st.DataObject, export: Export, suffix: str) -> None:
    if suffix == ".csv":
        written, options = data.draw(written_csv(export, data.draw(st.booleans())))
    elif suffix == ".parquet":
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(export.rows), buffer)
        written, options = buffer.getvalue(), {}
    else:
        lines = "\n".join(map(json.dumps, export.rows))
        written, options = (lines if suffix == ".jsonl" else json.dumps(export.rows)).encode(), {}
    with suppress(RecsysError):
        ingest(export, data.draw(damaged(written)), suffix, **options)
