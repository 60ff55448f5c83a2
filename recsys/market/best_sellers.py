"""The best sellers of a real shop's largest categories: the catalogue of a simulated market."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.encoders.text import item_texts
from recsys.errors import InputError
from recsys.interfaces import DatasetAdapter
from recsys.tables import ITEMS_IN
from recsys.types import Floats


def best_sellers(
    adapter: DatasetAdapter, categories: int, items_per_category: int
) -> tuple[pa.Table, Floats]:
    """The first `items_per_category` items of the best selling categories that have as many, in
    ITEMS_IN and sorted by id, with the number of sales of each. Only items that have a price, are
    in stock, and differ in their text. Raises InputError where no category has enough."""
    chunks = [adapter.read_items(chunk) for chunk in adapter.item_chunks()]
    items = pa.concat_tables([ITEMS_IN.empty_table(), *chunks], promote_options="permissive")
    column = items.schema.get_field_index("category")
    items = items.set_column(column, "category", pa.array(_categories(items)))
    counts = pc.value_counts(_purchased_items(adapter))
    places = pc.index_in(items["item_id"], value_set=counts.field(0))
    items = items.append_column("sales", pc.fill_null(counts.field(1).take(places), 0))
    sellable = pc.and_(pc.greater(items["price"], 0), pc.fill_null(items["in_stock"], True))
    items = items.filter(pc.and_(sellable, pc.greater(items["sales"], 0)))
    by_sales = items.sort_by([("sales", "descending"), ("item_id", "ascending")])
    rows = _first_of_each(by_sales, categories, items_per_category)
    chosen = by_sales.take(rows).sort_by("item_id")
    return chosen.select(ITEMS_IN.names).cast(ITEMS_IN), np.asarray(chosen["sales"], np.float32)


def _purchased_items(adapter: DatasetAdapter) -> pa.ChunkedArray:
    """The item of each purchase."""
    batches = (adapter.read_events(chunk) for chunk in adapter.event_chunks())
    return pa.chunked_array(
        [
            events.filter(pc.equal(events["type"], "purchase"))["item_id"].combine_chunks()
            for events in batches
        ]
    )


def _first_of_each(by_sales: pa.Table, categories: int, items_per_category: int) -> list[int]:
    """The rows of the first items of each of the best selling categories; items of a text that came
    before are skipped."""
    members: dict[str, dict[str, int]] = {}
    texts = zip(by_sales["category"].to_pylist(), item_texts(by_sales), strict=True)
    for row, (category, text) in enumerate(texts):
        if category:
            members.setdefault(category, {}).setdefault(text, row)
    sales = by_sales["sales"].to_numpy()
    full = [
        list(rows.values())[:items_per_category]
        for rows in members.values()
        if len(rows) >= items_per_category
    ]
    if not full:
        raise InputError(
            f"no category has {items_per_category} products with a price that sell:"
            " ask for fewer of each"
        )
    full.sort(key=lambda rows: -int(sales[rows].sum()))
    return [row for rows in full[:categories] for row in rows]


def _categories(items: pa.Table) -> list[str]:
    """Where a catalogue has no categories, the last words of its titles."""
    categories = [category or "" for category in items["category"].to_pylist()]
    if any(categories):
        return categories
    return [
        title.split()[-1].lower() if title and title.split() else ""
        for title in items["title"].to_pylist()
    ]
