"""How new the row of a file is, and of which fields it says something: what decides between it and
a change of the day."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.attributes.cells import CARRIED, COLUMN
from recsys.attributes.declaration import fold_name
from recsys.datasets.casts import decode_layout, to_array, trim
from recsys.datasets.choices import CatalogueChoices
from recsys.datasets.image_cells import NUMBERED
from recsys.datasets.times import to_time
from recsys.tables import ITEMS_IN, TIME

#: Columns that valid items carry until changes are folded in: when the source of the row was
#: updated, null where nothing says it; the fields that the file has a column for, apart by blanks.
UPDATED, STATED = "_updated", "_stated"
ROW_SOURCE = pa.schema(
    [pa.field(UPDATED, TIME), pa.field(STATED, pa.dictionary(pa.int32(), pa.string()))]
)
#: Made together, of any of these raw columns.
_PRICES = ("price", "list_price", "currency")
_OF_PRICES = ("price", "list_price", "sale_price")


def stated_fields(columns: Iterable[str], choices: CatalogueChoices) -> list[str]:
    """The fields that raw columns of these names say something of: the others are as the rules
    leave them, and an older change still holds."""
    names = set(columns)
    fields = names & set(ITEMS_IN.names)
    if names & set(_OF_PRICES):
        fields |= set(_PRICES)
    if any(name == "additional_images" or NUMBERED.fullmatch(name) for name in names):
        fields |= {"image"}
    folded = {fold_name(name) for name in names}
    own = {each.column or each.name for each in choices.attributes}
    if COLUMN in names or folded & {fold_name(name) for name in own}:
        fields |= {COLUMN, CARRIED}
    return sorted(fields)


def add_row_sources(
    good: pa.Table,
    raw: pa.Table,
    first_row: int,
    choices: CatalogueChoices,
    written: datetime | None,
) -> tuple[pa.Table, int]:
    """`good`, which `check_items` made of `raw`, with ROW_SOURCE; and how many of its rows have an
    `updated_at` that cannot be read.

    `written` is when the file was. Without an `updated_at` a row is as new as its file, and never
    newer: some clocks go wrong."""
    rows = pc.subtract(good["_row"].combine_chunks(), first_row)
    updated, unread = pa.nulls(len(rows), TIME), 0
    if "updated_at" in raw.column_names:
        texts = trim(to_array(decode_layout(raw["updated_at"]))).take(rows)
        updated = to_time(texts, choices.times)
        is_said = texts.is_valid()
        if pa.types.is_string(texts.type):
            is_said = pc.and_(is_said, pc.fill_null(pc.not_equal(texts, ""), False))
        unread = pc.sum(pc.and_(is_said, updated.is_null())).as_py() or 0
    if written is not None:
        of_file = pa.scalar(written, TIME)
        is_earlier = pc.fill_null(pc.less(updated, of_file), False)
        updated = pc.if_else(is_earlier, updated, of_file)
    stated = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(len(rows), np.int32)),
        pa.array([" ".join(stated_fields(raw.column_names, choices))], pa.string()),
    )
    for field, column in zip(ROW_SOURCE, (updated, stated), strict=True):
        good = good.append_column(field, column)
    return good, unread
