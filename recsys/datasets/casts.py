"""Casts of untyped columns to canonical types. None raises: what cannot be cast comes out null."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.types import Mask

# Texts are matched before they are cast: Arrow's cast raises at the first bad one (500,000 bad
# times took 33 s).
_NUMBER = r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$"
_FLAG = r"^(?i:true|false|0|1)$"


def cast(values: pa.Array, type: pa.DataType) -> pa.Array:
    """`values` as `type`, null where Arrow cannot."""
    options = pc.CastOptions(type, allow_time_truncate=True, allow_float_truncate=True)
    return bisect_cast(values, type, lambda part: part.cast(options=options))


def bisect_cast(
    values: pa.Array, type: pa.DataType, convert: Callable[[pa.Array], pa.Array]
) -> pa.Array:
    """`convert` of the values, null for those that it refuses: bisects them until the bad ones
    stand alone."""
    try:
        return convert(values)
    except pa.ArrowNotImplementedError:
        return pa.nulls(len(values), type)
    except pa.ArrowInvalid:
        if len(values) == 1:
            return pa.nulls(1, type)
        middle = len(values) // 2
        halves = (values[:middle], values[middle:])
        return pa.concat_arrays([bisect_cast(half, type, convert) for half in halves])


def decode_layout(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Without dictionaries and string views, which many Arrow kernels do not support."""
    if pa.types.is_dictionary(column.type):
        return decode_layout(column.cast(column.type.value_type))
    views = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
    # A cast of lists of empty structs to their own type is broken.
    return column.cast(views[column.type]) if column.type in views else column


def to_array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """One array; strings and bytes as `string`, null where they are not UTF-8."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    # Strings too go through bytes: readers of Parquet and CSV do not check that they are UTF-8.
    return cast(array.cast(pa.binary()), pa.string()) if is_text(array.type) else array


def is_text(type: pa.DataType) -> bool:
    """Whether values of this type are strings or bytes."""
    return type in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())


def is_number_type(type: pa.DataType) -> bool:
    """Floats, integers and decimals."""
    kinds = pa.types.is_floating, pa.types.is_integer, pa.types.is_decimal
    return any(is_of_kind(type) for is_of_kind in kinds)


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
    if not (pa.types.is_string(column.type) or is_number_type(column.type)):
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


def to_mask(values: pa.Array | pa.ChunkedArray, null: bool = False) -> Mask:
    """Booleans as numpy's, with `null` where there is none."""
    return np.asarray(values.fill_null(null).to_numpy(zero_copy_only=False), bool)
