"""UCI Online Retail (Chen, Sain & Guo 2012): a year of a real British gift shop, ugly rows and
all."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.datasets import data_folder
from recsys.datasets.parquet import read_rows, row_chunks, row_ids
from recsys.interfaces import Chunk
from recsys.tables import TIME


class UciOnlineRetail:
    """4,070 stock codes and 541,909 invoice lines of 2010-12-01 to 2011-12-09.

    An item is a stock code, with its most frequent description and its last price above zero. Every
    invoice line is an event, as it came: a cancellation has the type "cancellation" and a negative
    quantity, 135,080 lines have no customer; validation quarantines and counts both. The file has
    no time zone: its times are taken as UTC."""

    name = "uci_online_retail"

    def __init__(self, path: str | None = None) -> None:
        """`path` of the Parquet file; by default data_folder("uci_online_retail"), which may raise
        NotFoundError."""
        self._path = Path(path) if path else data_folder(self.name) / "online_retail.parquet"

    def item_chunks(self) -> list[Chunk]:
        codes = pq.read_table(self._path, columns=["StockCode"])["StockCode"]
        return [Chunk(str(self._path), 0, len(codes.unique()))]

    def event_chunks(self) -> list[Chunk]:
        return row_chunks(self._path)

    def read_items(self, chunk: Chunk) -> pa.Table:
        lines = pq.read_table(
            chunk.path, columns=["StockCode", "Description", "InvoiceDate", "UnitPrice"]
        )
        codes = pc.array_sort_indices(lines["StockCode"].unique())
        codes = lines["StockCode"].unique().take(codes)
        return pa.table(
            {
                "item_id": codes.cast(pa.string()),
                "title": _lookup(codes, _titles(lines)).cast(pa.string()),
                "price": _lookup(codes, _prices(lines)),
            }
        ).slice(chunk.start, chunk.rows)

    def read_events(self, chunk: Chunk) -> pa.Table:
        columns = ["InvoiceNo", "StockCode", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID"]
        raw = read_rows(chunk, columns)
        cancelled = pc.starts_with(raw["InvoiceNo"], "C")
        return pa.table(
            {
                "event_id": row_ids(chunk, "uci"),
                "user_id": raw["CustomerID"].cast(pa.int64()).cast(pa.string()),
                "item_id": raw["StockCode"].cast(pa.string()),
                "type": pc.if_else(cancelled, "cancellation", "purchase"),
                "time": raw["InvoiceDate"].cast(TIME),
                "quantity": raw["Quantity"].cast(pa.float64()),
                "price": raw["UnitPrice"],
            }
        )


def _lookup(codes: pa.Array, table: pa.Table) -> pa.ChunkedArray:
    """The second column of `table` where its StockCode is each of `codes`, null where it
    has none."""
    return table[1].take(pc.index_in(codes, value_set=table["StockCode"]))


def _titles(lines: pa.Table) -> pa.Table:
    counts = lines.group_by(["StockCode", "Description"]).aggregate([([], "count_all")])
    counts = counts.filter(pc.is_valid(counts["Description"]))
    ordered = counts.sort_by([("count_all", "ascending"), ("Description", "ascending")])
    return ordered.group_by("StockCode", use_threads=False).aggregate([("Description", "last")])


def _prices(lines: pa.Table) -> pa.Table:
    ordered = lines.filter(pc.greater(lines["UnitPrice"], 0)).sort_by("InvoiceDate")
    return ordered.group_by("StockCode", use_threads=False).aggregate([("UnitPrice", "last")])
