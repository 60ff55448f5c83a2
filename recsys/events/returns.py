"""Returns and cancellations take purchases back, before anything is made of the log."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def take_back(events: pa.Table) -> tuple[pa.Table, dict[str, int]]:
    """The events (`tables.EVENTS`) without returns and without the purchases that they take back,
    and how many of both.

    A return takes back the newest purchases of the same user and item before it, piece by piece;
    one of which a piece remains stays. What no purchase stands before, as of every guest, is
    counted as `returns_without_purchase`."""
    is_return = pc.fill_null(pc.less(events["quantity"], 0.0), False)
    returns = np.flatnonzero(np.asarray(is_return))
    if not len(returns):
        return events, {}
    pairs = _pairs(events)
    rows = np.flatnonzero(np.isin(pairs, pairs[returns]) & (pairs >= 0))
    purchases = np.asarray(pc.equal(events["type"], "purchase"))[rows]
    lines = events.select(["time", "quantity"]).take(pa.array(rows[purchases])).to_pandas()
    lines["row"], lines["pair"] = rows[purchases], pairs[rows[purchases]]
    lines["is_return"] = lines["quantity"] < 0
    lines = lines.sort_values(["pair", "time", "is_return"], kind="stable")
    gone, unmatched = list[int](), int((pairs[returns] < 0).sum())
    for _, group in lines.groupby("pair", sort=False):
        quantities = group["quantity"].fillna(1.0)
        returned, alone = _returned(zip(group["row"], quantities, strict=True))
        gone += returned
        unmatched += alone
    stays = np.ones(events.num_rows, bool)
    stays[returns] = stays[gone] = False
    counts = {"returned_purchases": len(gone), "returns_without_purchase": unmatched}
    return events.filter(pa.array(stays)), counts


def _pairs(events: pa.Table) -> np.ndarray:
    """[E]: a number for each user with an item, -1 for guests."""
    users, items = (
        pc.fill_null(events[name].combine_chunks().dictionary_encode().indices, -1)
        for name in ("user_id", "item_id")
    )
    users_E, items_E = np.asarray(users).astype(np.int64), np.asarray(items).astype(np.int64)
    return np.where(users_E < 0, -1, users_E * (items_E.max(initial=0) + 1) + items_E)


def _returned(lines: Iterable[tuple[int, float]]) -> tuple[list[int], int]:
    """Rows that were returned whole, out of one user's (row, quantity) with one item in order; and
    how many returns had nothing before them."""
    bought, returned, alone = list[tuple[int, float]](), list[int](), 0
    for row, quantity in lines:
        if quantity > 0:
            bought.append((row, quantity))
            continue
        alone += not bought
        left = bought[-1][1] if bought and quantity == -np.inf else -quantity
        while bought and left > 0:
            newest, pieces = bought.pop()
            if pieces > left:
                bought.append((newest, pieces - left))
            else:
                returned.append(newest)
            left -= pieces
    return returned, alone
