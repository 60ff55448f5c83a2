"""Files of an export as raw tables or JSON documents."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, BinaryIO

import pyarrow as pa
from pyarrow import fs

from recsys.datasets.files import FileSource, read_errors, read_file, resolve_path
from recsys.datasets.text_format import decode_file, detect_format
from recsys.errors import InputError, NotFoundError


def export_files(path: str) -> list[str]:
    """`path` itself, or the files in the folder that do not begin with "_" or "."; as `path` is
    written, a URI or not."""
    filesystem, inner = resolve_path(path)
    info = filesystem.get_file_info(inner)
    if info.type == fs.FileType.NotFound:
        raise NotFoundError(f"there is nothing at {path}: give the path of a file or folder")
    if info.is_file:
        return [path]
    infos = filesystem.get_file_info(fs.FileSelector(inner, recursive=True))
    files = [each for each in infos if each.is_file and each.base_name[0] not in "_."]
    base, question, query = path.partition("?")
    return sorted(
        base.rstrip("/") + each.path.removeprefix(inner.rstrip("/")) + question + query
        for each in files
    )


def read_export(path: str) -> pa.Table:
    """A file's rows under its own column names; cells of a text file are texts."""
    return read_file(path)


def _read_text(path: str) -> str:
    with read_errors(path):
        return decode_file(*resolve_path(path))[0].decode()


def read_documents(path: str) -> Iterator[Any]:
    """The JSON documents of a file: one, or one a line."""
    text = _read_text(path)
    try:
        yield json.loads(text)
        return
    except ValueError:
        lines = [line for line in text.split("\n") if line.strip()]
    for number, line in enumerate(lines, 1):
        try:
            yield json.loads(line)
        except ValueError as error:
            raise InputError(
                f"line {number} of {path} is no JSON ({error}): export the file again"
            ) from error


def read_records(path: str) -> tuple[list[dict[str, Any]], list[str]]:
    """The JSON objects of a file, which is an array or has one a line, and the lines that are
    none."""
    text = _read_text(path)
    if text.lstrip().startswith("["):
        try:
            values = json.loads(text)
        except ValueError as error:
            raise InputError(f"{path} is no JSON ({error}): export the file again") from error
        return [value for value in values if isinstance(value, dict)], []
    records, malformed = [], []
    for line in text.split("\n"):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if isinstance(value, dict):
            records.append(value)
        else:
            malformed.append(line)
    return records, malformed


def record_table(rows: Sequence[Mapping[str, Any]], names: Sequence[str] = ()) -> pa.Table:
    """The rows as a table of texts, with `names` at least; a value that is no text is written as
    JSON."""
    names = list(dict.fromkeys([*names, *(name for row in rows for name in row)]))
    return pa.table(
        {name: pa.array([_text(row.get(name)) for row in rows], pa.string()) for name in names}
    )


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


@contextmanager
def open_export(path: str) -> Iterator[BinaryIO]:
    """The file's bytes as a stream, decompressed where its name ends in .gz or .bz2."""
    filesystem, inner = resolve_path(path)
    with read_errors(path), filesystem.open_input_stream(inner) as stream:
        yield stream


def export_stamps(path: str) -> list[tuple[str, int, int]]:
    """Name, size and time of each file."""
    filesystem, _ = resolve_path(path)
    files = [resolve_path(file)[1] for file in export_files(path)]
    return [(info.path, info.size, info.mtime_ns) for info in filesystem.get_file_info(files)]


def export_times(path: str) -> dict[str, datetime]:
    """When each of `export_files` was last written."""
    filesystem, _ = resolve_path(path)
    files = export_files(path)
    infos = filesystem.get_file_info([resolve_path(file)[1] for file in files])
    return {file: info.mtime for file, info in zip(files, infos, strict=True) if info.mtime}


def export_columns(path: str) -> list[str]:
    """The names of a file's columns."""
    return FileSource(path).column_names(resolve_path(path)[1])


def read_head(path: str, size: int = 65_536) -> str:
    """The first characters of a text file, "" of a Parquet file."""
    return "" if is_parquet(path) else _read_text(path)[:size].lstrip()


def text_form(path: str) -> str:
    """How a text file is written, for people; "" for a Parquet file."""
    if is_parquet(path):
        return ""
    with read_errors(path):
        form = detect_format(*resolve_path(path))
    is_table = not read_head(path, 1).startswith(("{", "[", "<"))
    delimiter = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}.get(form.delimiter)
    parts = [form.encoding, delimiter if is_table else "", form.compression]
    return ", ".join(part for part in parts if part)


def is_parquet(path: str) -> bool:
    return path.partition("?")[0].casefold().endswith((".parquet", ".pq"))


def filled_lines(path: str) -> list[str]:
    """The lines that are not blank."""
    return [line for line in _read_text(path).split("\n") if line.strip()]
