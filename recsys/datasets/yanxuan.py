"""Two Chinese demonstration shops as one catalogue: NetEase Yanxuan household goods (from
litemall), and phones, cosmetics and stationery with Chinese and English brand names (from
newbee-mall)."""

from __future__ import annotations

import csv
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from recsys.datasets import data_folder
from recsys.interfaces import Chunk
from recsys.tables import TIME

GOODS, NEWBEE, COMMENTS = "goods.csv", "newbee_goods.csv", "comments.csv"
#: newbee-mall's own names of the categories that its goods have; 0 is none.
CATEGORIES = {
    "20": "生活电器",
    "45": "荣耀手机",
    "46": "华为手机",
    "47": "iPhone",
    "51": "小米手机",
    "86": "口红",
}
_CLOCK = pa.timestamp("us")
LAST_DAY = date(2018, 2, 1)
_OF_GOODS = "0"


class Yanxuan:
    """239 goods of Yanxuan, 575 of newbee-mall, and the 1,004 comments that Yanxuan's shoppers
    wrote.

    An item of newbee-mall has its id after "newbee-"; those of one name are variants of each other.
    Prices are in yuan.

    A comment counts as a purchase. The export names one user for nearly all of them, so each gets a
    user of its own: the data tell what sells well, not what sells together. Ten comments are not of
    goods: their type is "comment". All but four were written on 2018-02-01 (the others,
    later, are tests of the form). `last_day` moves the log by whole weeks so that this
    day falls on it or less than a week before; None keeps 2018. The times have no time zone and are
    taken as UTC."""

    name = "zh_litemall_yanxuan"

    def __init__(self, folder: str | None = None, last_day: date | None = None) -> None:
        """`folder` of the three CSV files; by default data_folder(name), which may raise
        NotFoundError."""
        self._folder = Path(folder) if folder else data_folder(self.name)
        self._shift = timedelta(weeks=(last_day - LAST_DAY).days // 7 if last_day else 0)

    def item_chunks(self) -> list[Chunk]:
        return [self._chunk(GOODS), self._chunk(NEWBEE)]

    def event_chunks(self) -> list[Chunk]:
        return [self._chunk(COMMENTS)]

    def read_items(self, chunk: Chunk) -> pa.Table:
        path = Path(chunk.path)
        read = _newbee if path.name == NEWBEE else _goods
        return read(_rows(path)).slice(chunk.start, chunk.rows)

    def read_events(self, chunk: Chunk) -> pa.Table:
        raw = _rows(Path(chunk.path)).slice(chunk.start, chunk.rows)
        return pa.table(
            {
                "event_id": _prefixed("yanxuan-", raw["comment_id"]),
                "user_id": _prefixed("reviewer-", raw["comment_id"]),
                "item_id": raw["goods_id"],
                "type": pc.if_else(pc.equal(raw["type"], _OF_GOODS), "purchase", "comment"),
                "time": pc.add(
                    raw["time"].cast(_CLOCK).cast(TIME), pa.scalar(self._shift, pa.duration("us"))
                ),
            }
        )

    def _chunk(self, name: str) -> Chunk:
        path = self._folder / name
        return Chunk(str(path), 0, _rows(path).num_rows)


def _goods(raw: pa.Table) -> pa.Table:
    return pa.table(
        {
            "item_id": raw["goods_id"],
            "title": raw["name"],
            "description": raw["brief"],
            "category": raw["category"],
            "brand": raw["brand"],
            "price": raw["retail_price"],
            "image": raw["image_url"],
            "attributes": raw["attributes"],
        }
    )


def _newbee(raw: pa.Table) -> pa.Table:
    names = raw["category_id"].combine_chunks()
    category = pa.array(list(CATEGORIES.values())).take(
        pc.index_in(names, value_set=pa.array(list(CATEGORIES)))
    )
    return pa.table(
        {
            "item_id": _prefixed("newbee-", raw["goods_id"]),
            "title": raw["name"],
            "description": raw["intro"],
            "category": category,
            "price": raw["selling_price"],
            "group_id": _groups(raw["name"], raw["goods_id"]),
        }
    )


def _groups(names: pa.ChunkedArray, goods_ids: pa.ChunkedArray) -> pa.Array:
    """The id of the first item of the same name, for names that several items have."""
    goods = pa.table({"name": names, "goods_id": goods_ids}).group_by("name", use_threads=False)
    firsts = goods.aggregate([("goods_id", "first"), ("goods_id", "count")])
    firsts = firsts.filter(pc.greater(firsts["goods_id_count"], 1))
    return _prefixed(
        "newbee-", firsts["goods_id_first"].take(pc.index_in(names, value_set=firsts["name"]))
    )


def _prefixed(prefix: str, values: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(pa.scalar(prefix), values, "")


def _rows(path: Path) -> pa.Table:
    """All values as strings; a cell may hold line breaks."""
    with path.open(encoding="utf-8", newline="") as file:
        header = next(csv.reader(file))
    return pyarrow.csv.read_csv(
        path,
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(header, pa.string())),
    ).combine_chunks()
