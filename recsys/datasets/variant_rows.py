"""Rows of one product: what an export writes on the first of them alone holds for all."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.datasets.casts import to_mask

#: What a product has and its variants share; never what each is sold by.
INHERITED = ("title", "description", "category", "brand", "image")


def inherit_fields(columns: Mapping[str, pa.Array]) -> dict[str, pa.Array]:
    """The columns of items with the empty fields of INHERITED filled from the first row of the same
    `group_id` that has them. It looks no further than these rows: a product that two chunks of a
    file share inherits in each on its own."""
    groups = columns["group_id"]
    has_group_N = ~to_mask(pc.equal(pc.utf8_trim_whitespace(groups), ""), null=True)
    if not has_group_N.any():
        return dict(columns)
    coded = groups.dictionary_encode()
    codes_N = np.where(has_group_N, np.asarray(pc.fill_null(coded.indices, 0)), -1)
    filled = dict(columns)
    for name in INHERITED:
        values = columns[name]
        is_empty_N = to_mask(pc.equal(pc.utf8_trim_whitespace(values), ""), null=True)
        givers = np.flatnonzero(~is_empty_N & has_group_N)[::-1]  # the first is written last
        first_of_G = np.full(len(coded.dictionary), -1)
        first_of_G[codes_N[givers]] = givers
        rows = np.flatnonzero(is_empty_N & has_group_N)
        sources_N = np.arange(len(values))
        sources_N[rows] = np.where(first_of_G[codes_N[rows]] < 0, rows, first_of_G[codes_N[rows]])
        filled[name] = values.take(pa.array(sources_N)) if len(rows) else values
    return filled
