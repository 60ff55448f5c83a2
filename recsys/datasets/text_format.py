"""How a text file is written: compression, encoding, and for a CSV its delimiter and quotes, as
detected from its bytes or as the shop says."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Collection
from dataclasses import dataclass, replace

import pyarrow as pa
from pyarrow import fs

from recsys.datasets.text_encoding import detect_encoding, to_utf8
from recsys.errors import InputError

DELIMITERS = ",;\t|"
_SAMPLE = 100_000
_MAX_PREAMBLE = 20
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2", b"PK\x03\x04": "zip"}


@dataclass(frozen=True, kw_only=True)
class TextFormat:
    """`compression` is "" for none, `quote` is "" where quotes are characters like others, and
    `escape` is "" where a quote inside quotes is doubled. `preamble` lines stand before the header
    of a CSV. Delimiter, quotes and preamble mean nothing for JSON. `damaged` is whether some bytes
    are none of the encoding's."""

    encoding: str = "utf-8"
    damaged: bool = False
    compression: str = ""
    delimiter: str = ","
    quote: str = '"'
    escape: str = ""
    preamble: int = 0


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """What the shop says of its text files; None is detected. `records` names the list of rows in a
    JSON object that holds several.

    Raises InputError for a delimiter that is no single character of ASCII."""

    delimiter: str | None = None
    encoding: str | None = None
    records: str | None = None

    def __post_init__(self) -> None:
        if self.delimiter is not None and not re.fullmatch(r"[\t -~]", self.delimiter):
            raise InputError(
                f"{self.delimiter!r} is no delimiter: give one character, such as one of "
                f"{' '.join(map(repr, DELIMITERS))}"
            )


def decode_file(
    filesystem: fs.FileSystem, path: str, encoding: str | None = None
) -> tuple[bytes, TextFormat]:
    """The text in UTF-8 with lines that end in "\\n", and its encoding and compression; a byte that
    the encoding has not is U+FFFD.

    Raises InputError for an encoding that is not known or cannot be told."""
    with filesystem.open_input_file(path) as file:
        magic = file.read(4)
        file.seek(0)
        compression = next((name for mark, name in _MAGIC.items() if magic.startswith(mark)), "")
        data = _unzip(file, path) if compression == "zip" else _decompress(file, compression)
    encoding = encoding or detect_encoding(data, path)
    try:
        text, damaged = to_utf8(data, encoding)
    except LookupError as error:
        raise InputError(f"there is no encoding {encoding!r}: name one that Python has") from error
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return text, TextFormat(encoding=encoding, damaged=damaged, compression=compression)


def _decompress(file: pa.NativeFile, compression: str) -> bytes:
    return (pa.CompressedInputStream(file, compression) if compression else file).read()


def _unzip(file: pa.NativeFile, path: str) -> bytes:
    with zipfile.ZipFile(file) as archive:
        names = [
            name for name in archive.namelist() if not name.endswith("/") and "__MACOSX" not in name
        ]
        if len(names) != 1:
            raise InputError(f"{path} holds {len(names)} files: give an archive of one, or unpack")
        return archive.read(names[0])


def detect_format(
    filesystem: fs.FileSystem,
    path: str,
    options: TextOptions = TextOptions(),
    names: Collection[str] = (),
) -> TextFormat:
    """The format of a text file; a header with one of `names` decides between delimiters."""
    text, written = decode_file(filesystem, path, options.encoding)
    return detect_dialect(text, written, options.delimiter, names)


def detect_dialect(
    text: bytes, written: TextFormat, delimiter: str | None = None, names: Collection[str] = ()
) -> TextFormat:
    """`written` with the dialect of the CSV `text`."""
    sample = text[:_SAMPLE].decode("utf-8", "replace")
    if len(text) > _SAMPLE:
        sample = sample[: sample.rfind("\n") + 1] or sample
    settled = replace(written, quote=_quote(sample))
    if match := re.match(r"sep=([\t -~])\n", sample):  # how Excel is told of the delimiter
        settled = replace(settled, delimiter=delimiter or match[1], preamble=1)
        return replace(settled, escape=_escape(sample, settled))
    candidates = [replace(settled, delimiter=each) for each in delimiter or DELIMITERS]
    candidates = [replace(each, escape=_escape(sample, each)) for each in candidates]
    ranked = [_rank(sample, each, _folded(names)) for each in candidates]
    best = max(range(len(ranked)), key=lambda each: ranked[each][0])
    return replace(candidates[best], preamble=ranked[best][1])


def _quote(sample: str) -> str:
    if '"' not in sample:
        names_are_quoted = re.match(r"\s*'[^'\n]*'(?:[,;\t|]'[^'\n]*')+\n", sample)
        return "'" if names_are_quoted else '"'
    opening = re.findall(r'(?:^|[,;\t|])"', sample, re.MULTILINE)
    closing = re.search(r'"(?:[,;\t|]|$)', sample, re.MULTILINE)
    return "" if len(opening) > 2 and not closing else '"'


def _escape(sample: str, dialect: TextFormat) -> str:
    """A backslash, if more lines are records with it than with doubled quotes."""
    if dialect.quote != '"' or '\\"' not in sample:
        return ""
    lines = [line for line in sample.split("\n") if '\\"' in line]
    escaped, doubled = (
        _count_records(lines, _record_pattern(inside, re.escape(dialect.delimiter)))
        for inside in (r'[^"\\]|\\.', r'[^"]|""')
    )
    return "\\" if escaped > doubled else ""


def _record_pattern(inside: str, delimiter: str) -> re.Pattern[str]:
    """A line of cells, the last of which may go on in the next line."""
    quoted = rf'"(?:{inside})*+'
    cell = rf'(?:{quoted}"|(?:(?!")[^{delimiter}]++)?+)'
    return re.compile(rf"(?:{cell}{delimiter})*(?:{cell}|(?P<open>{quoted}))")


def _count_records(lines: Collection[str], pattern: re.Pattern[str]) -> tuple[int, int]:
    """The number of lines that are records, and of those that may begin one."""
    matches = [match for line in lines if (match := pattern.fullmatch(line))]
    return sum(match["open"] is None for match in matches), len(matches)


def _rank(sample: str, dialect: TextFormat, names: set[str]) -> tuple[tuple[int, float, int], int]:
    """How well the sample reads in this dialect, and the number of lines before the header."""
    rows = _parse_sample(sample, dialect)
    if not rows:
        return (0, 0.0, 0), 0
    header = 0
    if not names & _folded(rows[0][1]):
        header = next((n for n, (_, row) in enumerate(rows[:_MAX_PREAMBLE]) if len(row) > 1), 0)
    share, width = _consistency(rows, header)
    if header and (share < 0.8 or len(rows) < header + 3):
        header = 0
        share, width = _consistency(rows, 0)
    hits = len(names & _folded(rows[header][1]))
    return (hits, share if width > 1 else 0.0, width), rows[header][0]


def _folded(cells: Collection[str]) -> set[str]:
    return {cell.strip().casefold() for cell in cells}


def _consistency(rows: list[tuple[int, list[str]]], header: int) -> tuple[float, int]:
    """The share of rows that are as wide as the header, and its width."""
    width = len(rows[header][1])
    below = [len(row) == width for _, row in rows[header + 1 :]]
    return (sum(below) / len(below) if below else 1.0), width


def _parse_sample(sample: str, dialect: TextFormat) -> list[tuple[int, list[str]]]:
    """Each row that is not blank, and the number of lines before it."""
    reader = csv.reader(
        io.StringIO(sample, newline=""),
        delimiter=dialect.delimiter,
        quotechar=dialect.quote or None,
        quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
        escapechar=dialect.escape or None,
    )
    rows, line = [], 0
    try:
        for row in reader:
            if row:
                rows.append((line, row))
            line = reader.line_num
    except csv.Error:  # a stray quote makes a cell of all that follows
        pass
    return rows
