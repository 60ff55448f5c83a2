"""`image` cells as shops write them: one reference or a list in any of the ways that feeds do it,
several columns, pictures themselves; the main one first."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from recsys.datasets.casts import cast, is_text, to_array, to_mask
from recsys.datasets.prices import Violations
from recsys.pictures.references import content_hash, stored_reference
from recsys.types import NEXT_PICTURE

#: A column of one more picture: image_2, Image URL 3, additional_image_link_4, bild2.
NUMBERED = re.compile(
    r"(additional[\s_-]*)?(product[\s_-]*)?(image|img|picture|photo|bild|imagen)"
    r"[\s_-]*(url|link|src|file)?[\s_-]*(\d{1,2})",
    re.IGNORECASE,
)
#: Where a struct has a picture's reference or bytes: the largest first.
_FIELDS = ("bytes", "hi_res", "large", "contentUrl", "url", "src", "link", "href", "path", "thumb")
_ENDING = r"(?:jpe?g|png|webp|gif|heic|avif|bmp|tiff?)(?:\?[^\s,;|]*)?"
_SCHEME = r"(?:https?|s3|gs|abfss?|file)://|data:image/|picture:"
_NO_TEXT = pa.scalar(None, pa.string())


def image_columns(raw: pa.Table) -> list[str]:
    """Those that hold pictures of an item, the main one first, numbered ones last."""
    numbered = [(match, name) for name in raw.column_names if (match := NUMBERED.fullmatch(name))]
    names = [name for name in ("image", "additional_images") if name in raw.column_names]
    return [*names, *(name for match, name in sorted(numbered, key=lambda pair: int(pair[0][5])))]


def read_item_images(raw: pa.Table) -> tuple[dict[str, pa.Array], Violations]:
    """The column `image`: canonical cells of all that a row has. A picture's bytes are named by
    their hash: `stored_pictures` are what to put into the home's store."""
    columns, violations = list[pa.Array](), Violations()
    for name in image_columns(raw):
        column = _one_array(raw[name])
        cells = read_cells(column)
        bad_N = to_mask(column.is_valid()) & to_mask(cells.is_null())
        violations.append((bad_N, name, "it must be a reference to a picture, or a picture"))
        columns.append(pc.if_else(pc.equal(cells, ""), _NO_TEXT, cells))
    # Arrow's join drops a row whose parts are all null: each begins with an empty one.
    first = pa.array([""] * raw.num_rows, pa.string())
    joined = pc.binary_join_element_wise(first, *columns, NEXT_PICTURE, null_handling="skip")
    cells = _squeezed(joined)
    return {"image": pc.if_else(pc.equal(cells, ""), _NO_TEXT, cells)}, violations


def stored_pictures(raw: pa.Table) -> Iterator[bytes]:
    """The pictures whose bytes stand in the columns themselves."""
    for name in image_columns(raw):
        yield from _pictures(_one_array(raw[name]))


def read_cells(column: pa.Array) -> pa.Array:
    """References joined by NEXT_PICTURE; "" where a cell has none, null where it is none."""
    kind = column.type
    if _is_binary(kind):
        return _of_bytes(column)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        cells = pc.fill_null(read_cells(column.flatten()), "")
        lists = pa.ListArray.from_arrays(_offsets(column), cells)
        joined = _squeezed(pc.binary_join(lists, NEXT_PICTURE))
        return pc.if_else(column.is_valid(), joined, _NO_TEXT)
    if pa.types.is_struct(kind):
        return _of_structs(column)
    texts = cast(to_array(column) if is_text(kind) else column, pa.string())
    return split_texts(texts)


def split_texts(texts: pa.Array) -> pa.Array:
    """Lists of references in one text: on lines, a JSON list, or apart by commas, semicolons, bars
    or blanks where each part begins as a URL or ends as a picture's file does. Any other text is
    one reference."""
    texts = pc.utf8_trim_whitespace(texts)
    is_list = pc.match_substring_regex(texts, r'(?s)^\[\s*["\'].*["\']\s*\]$')
    if pc.any(is_list).as_py():
        inner = pc.replace_substring_regex(texts, r'^\[\s*["\']|["\']\s*\]$', "")
        inner = pc.replace_substring_regex(inner, r'["\']\s*,\s*["\']', NEXT_PICTURE)
        texts = pc.if_else(is_list, pc.replace_substring(inner, "\\/", "/"), texts)
    texts = pc.replace_substring_regex(texts, rf"(?i)[\s,;|]+({_SCHEME})", rf"{NEXT_PICTURE}\1")
    for _ in range(2):  # a match takes both of its neighbours: the others are every second one
        texts = pc.replace_substring_regex(
            texts, rf"(?i)(\.{_ENDING})\s*[,;|]\s*([^,;|\n]+\.{_ENDING})", rf"\1{NEXT_PICTURE}\2"
        )
    return _squeezed(texts)


def _squeezed(texts: pa.Array) -> pa.Array:
    texts = pc.replace_substring_regex(texts, r"\s*[\r\n\t]\s*", NEXT_PICTURE)
    return pc.utf8_trim_whitespace(texts)


def _of_structs(column: pa.Array) -> pa.Array:
    """The first of _FIELDS that a struct has a value in; null where it has none of them."""
    places = {field.name: place for place, field in enumerate(column.type)}
    names = [name for name in _FIELDS if name in places]
    if not names:
        return pa.nulls(len(column), pa.string())
    parts = [read_cells(_one_array(pc.struct_field(column, places[name]))) for name in names]
    parts = [pc.if_else(pc.equal(part, ""), _NO_TEXT, part) for part in parts]
    return pc.if_else(column.is_valid(), pc.coalesce(*parts, pa.scalar("")), _NO_TEXT)


def _of_bytes(column: pa.Array) -> pa.Array:
    """References that are written as bytes, and names of pictures."""
    texts = to_array(column)
    is_picture = _picture_mask(column, texts)
    if not pc.any(is_picture).as_py():
        return split_texts(texts)
    names = [
        stored_reference(content_hash(value.as_buffer())) if picture else None
        for value, picture in zip(column, is_picture.to_pylist(), strict=True)
    ]
    return pc.coalesce(pa.array(names, pa.string()), split_texts(texts))


def _pictures(column: pa.Array) -> Iterator[bytes]:
    kind = column.type
    if _is_binary(kind):
        yield from column.filter(_picture_mask(column, to_array(column))).to_pylist()
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from _pictures(column.flatten())
    elif pa.types.is_struct(kind) and (place := kind.get_field_index("bytes")) >= 0:
        yield from _pictures(_one_array(pc.struct_field(column, place)))


def _picture_mask(column: pa.Array, texts: pa.Array) -> pa.Array:
    """Where the bytes are no text: not UTF-8, or with a zero."""
    is_text = pc.and_kleene(texts.is_valid(), pc.invert(pc.match_substring(texts, "\0")))
    is_filled = pc.greater(pc.binary_length(column), 0)
    return pc.fill_null(pc.and_(is_filled, pc.invert(pc.fill_null(is_text, False))), False)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def _offsets(column: pa.Array) -> pa.Array:
    lengths = pc.fill_null(pc.list_value_length(column).cast(pa.int32()), 0)
    return pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths)])


def _one_array(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
