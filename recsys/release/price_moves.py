"""Prices that differ from those of the release before, by category."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recsys.types import NEXT_CATEGORY, Floats

#: Categories that are listed.
MOST = 15
_CENT = 0.005


@dataclass(frozen=True, kw_only=True)
class PriceMoves:
    """Of the items of a category: how many became dearer, how many cheaper, each with the median
    share of the price before by which they moved (None of no item)."""

    category: str
    up: int
    down: int
    median_up: float | None
    median_down: float | None


def price_moves(items: pa.Table, previous: pa.Table, most: int = MOST) -> list[PriceMoves]:
    """Of items with a price in both catalogues and one currency: all of them, then the `most`
    leading categories where most prices moved; empty where none did. Less than a cent is none."""
    places = pc.index_in(items["item_id"], value_set=previous["item_id"].combine_chunks())
    same = previous.select(["price", "currency"]).take(places.combine_chunks())
    is_comparable = pc.fill_null(
        pc.and_(
            pc.greater(same["price"], 0.0),
            pc.equal(pc.fill_null(items["currency"], ""), pc.fill_null(same["currency"], "")),
        ),
        False,
    )
    before, after = (
        pc.fill_null(table["price"].filter(is_comparable), np.nan).to_numpy()
        for table in (same, items)
    )
    first = pc.replace_substring_regex(items["category"], f"(?s){NEXT_CATEGORY}.*", "")
    categories = pc.fill_null(first.filter(is_comparable), "no category").to_numpy()
    moves = after - before
    moved_N = np.abs(np.nan_to_num(moves)) >= _CENT
    frame = pd.DataFrame(
        {"category": categories[moved_N], "share": moves[moved_N] / before[moved_N]}
    )
    groups: Sequence[tuple[str, Floats]] = [
        (str(name), group["share"].to_numpy()) for name, group in frame.groupby("category")
    ]
    ordered = sorted(groups, key=lambda group: (-len(group[1]), group[0]))[:most]
    rows = [("all categories", frame["share"].to_numpy()), *ordered] if len(frame) else []
    return [_moves(category, shares_N) for category, shares_N in rows]


def _moves(category: str, shares_N: Floats) -> PriceMoves:
    up_N, down_N = shares_N[shares_N > 0], shares_N[shares_N < 0]
    return PriceMoves(
        category=category,
        up=len(up_N),
        down=len(down_N),
        median_up=float(np.median(up_N)) if len(up_N) else None,
        median_down=float(np.median(down_N)) if len(down_N) else None,
    )
