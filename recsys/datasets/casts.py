"""Casts of untyped columns to canonical types. None raises: what cannot be cast comes out null."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.tables import TIME
from recsys.types import Mask

# Texts are matched before they are cast: Arrow's cast raises at the first bad one (500,000 bad
# times took 33 s).
_NUMBER = r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$"
_FLAG = r"^(?i:true|false|0|1)$"
_ISO_8601 = r"^\d{4}-\d\d-\d\d[T ]\d\d(:?\d\d(:?\d\d(\.\d+)?)?)?(Z|[+-]\d\d(:?\d\d)?)$"


def cast(values: pa.Array, type: pa.DataType) -> pa.Array:
    """`values` as `type`, null where Arrow cannot: bisects them until the bad ones stand alone."""
    try:
        return values.cast(
            options=pc.CastOptions(type, allow_time_truncate=True, allow_float_truncate=True)
        )
    except pa.ArrowNotImplementedError:
        return pa.nulls(len(values), type)
    except pa.ArrowInvalid:
        if len(values) == 1:
            return pa.nulls(1, type)
        middle = len(values) // 2
        return pa.concat_arrays([cast(values[:middle], type), cast(values[middle:], type)])


def decode_layout(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Without dictionaries and string views, which many Arrow kernels do not support."""
    if pa.types.is_dictionary(column.type):
        return decode_layout(column.cast(column.type.value_type))
    views = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
    return column.cast(views.get(column.type, column.type))


def to_array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """One array; strings and bytes as `string`, null where they are not UTF-8."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    # Strings too go through bytes: readers of Parquet and CSV do not check that they are UTF-8.
    return cast(array.cast(pa.binary()), pa.string()) if is_text(array.type) else array


def is_text(type: pa.DataType) -> bool:
    """Whether values of this type are strings or bytes."""
    return type in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())


def trim(column: pa.Array) -> pa.Array:
    """Strings without white space around them; other columns as they are."""
    return pc.utf8_trim_whitespace(column) if pa.types.is_string(column.type) else column


def null_unless_match(column: pa.Array, pattern: str) -> pa.Array:
    """Strings that match, null for the others; other columns as they are."""
    if not pa.types.is_string(column.type):
        return column
    return pc.if_else(
        pc.match_substring_regex(column, pattern), column, pa.scalar(None, pa.string())
    )


def to_float(column: pa.Array) -> pa.Array:
    """Numbers and decimal texts as float64, NaN and infinities among them; anything else is
    null."""
    types = pa.types.is_floating, pa.types.is_integer, pa.types.is_decimal, pa.types.is_string
    if not any(is_of_type(column.type) for is_of_type in types):
        return pa.nulls(len(column), pa.float64())
    if pa.types.is_decimal(column.type):  # cast without a text, 29.90 is 29.900000000000002
        column = cast(column, pa.string())
    return cast(null_unless_match(column, _NUMBER), pa.float64())


def to_whole_text(column: pa.Array) -> pa.Array:
    """Floats that are whole numbers as the digits of an integer: pandas makes ids floats where one
    is missing. Null for other floats, and from 2**53 on, where neighbours are one float."""
    column = cast(column, pa.float64())
    whole = pc.and_(pc.equal(column, pc.floor(column)), pc.less(pc.abs(column), 2.0**53))
    integers = pc.if_else(whole, column, pa.scalar(None, column.type)).cast(pa.int64())
    return integers.cast(pa.string())


def to_flag(column: pa.Array) -> pa.Array:
    """The texts true, false, 1 and 0, in any case, as bool."""
    return cast(null_unless_match(column, _FLAG), pa.bool_())


def to_time(column: pa.Array) -> pa.Array:
    """Timestamps, dates and ISO 8601 texts as `tables.TIME`, cut to microseconds; without a zone
    they are UTC."""
    if pa.types.is_timestamp(column.type):
        return cast(column, TIME)
    if pa.types.is_date(column.type):
        return cast(cast(column, pa.timestamp("us")), TIME)
    if not pa.types.is_string(column.type):
        return pa.nulls(len(column), TIME)
    texts = pc.replace_substring_regex(column, r"(\.\d{6})\d+", r"\1")
    texts = pc.replace_substring_regex(texts, r"^(\d{4}-\d\d-\d\d)$", r"\1 00:00")
    zoned = pc.match_substring_regex(texts, r"(Z|[+-]\d\d(:?\d\d)?)$")
    texts = pc.if_else(zoned, texts, pc.binary_join_element_wise(texts, "Z", ""))
    return cast(null_unless_match(texts, _ISO_8601), TIME)


def to_mask(values: pa.Array | pa.ChunkedArray, null: bool = False) -> Mask:
    """Booleans as numpy's, with `null` where there is none."""
    return np.asarray(values.fill_null(null).to_numpy(zero_copy_only=False), bool)
