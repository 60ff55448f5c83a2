"""The Chinese catalogue: over files small enough to read by eye, and over the real ones."""

from datetime import UTC, date, datetime

import pyarrow as pa
import pytest

from recsys.datasets import data_folder
from recsys.datasets.validate import check_events, check_items
from recsys.datasets.yanxuan import Yanxuan
from recsys.errors import NotFoundError
from tests.contracts import DatasetAdapterContract

GOODS = """goods_id,name,category,brand,keywords,brief,image_url,\
unit,counter_price,retail_price,attributes
7,羊毛被,被枕,,,澳洲羊毛,http://x/7.png,件,479.0,459.0,"材质: 羊毛
产地: 中国"
8,牵引绳,宠物,甲,,实心,,件,49.0,29.0,
"""
NEWBEE = """goods_id,name,intro,category_id,original_price,selling_price
8,Apple iPhone XR (A2108),64GB 黑色,47,4499,4299
9,无印良品 MUJI 乳液,200ml,0,61,61
10,Apple iPhone XR (A2108),128GB 红色,47,4799,4599
"""
COMMENTS = """comment_id,goods_id,type,content,user_id,star,time
1,7,0,"厚实,不掉色",1,1,2018-02-01 00:00:00
2,7,0,很好,1,1,2018-02-01 00:00:00
3,314,1,专题,1,5,2018-11-09 19:24:20
"""


class TestFiles(DatasetAdapterContract):
    def make(self, folder):
        for name, text in (
            ("goods.csv", GOODS),
            ("newbee_goods.csv", NEWBEE),
            ("comments.csv", COMMENTS),
        ):
            (folder / name).write_text(text, "utf-8")
        return Yanxuan(str(folder))

    def items(self, adapter):
        tables = [
            check_items(adapter.read_items(chunk), chunk.path, 0).good
            for chunk in adapter.item_chunks()
        ]
        return {row["item_id"]: row for row in pa.concat_tables(tables).to_pylist()}

    def test_ids_of_the_two_shops_do_not_meet(self, adapter):
        assert list(self.items(adapter)) == ["7", "8", "newbee-8", "newbee-9", "newbee-10"]

    def test_what_an_item_says(self, adapter):
        quilt, phone = (self.items(adapter)[item] for item in ("7", "newbee-8"))
        assert (quilt["title"], quilt["price"], quilt["attributes"]) == (
            "羊毛被",
            459.0,
            "材质: 羊毛\n产地: 中国",
        )
        assert (phone["description"], phone["category"], phone["price"]) == (
            "64GB 黑色",
            "iPhone",
            4299.0,
        )
        assert self.items(adapter)["newbee-9"]["category"] is None

    def test_variants_are_those_of_one_name(self, adapter):
        groups = {item: row["group_id"] for item, row in self.items(adapter).items()}
        assert groups == {
            "7": None,
            "8": None,
            "newbee-8": "newbee-8",
            "newbee-9": None,
            "newbee-10": "newbee-8",
        }

    def test_a_comment_of_goods_is_a_purchase_by_somebody(self, adapter):
        events = adapter.read_events(adapter.event_chunks()[0])
        assert events["item_id"].to_pylist() == ["7", "7", "314"]
        assert events["type"].to_pylist() == ["purchase", "purchase", "comment"]
        assert len(set(events["user_id"].to_pylist())) == 3
        good = check_events(events, "comments.csv", 0, datetime.now(UTC)).good
        assert good["time"].to_pylist() == [datetime(2018, 2, 1, tzinfo=UTC)] * 2

    def test_the_log_moves_by_whole_weeks(self, adapter, tmp_path):
        moved = Yanxuan(str(tmp_path), date(2026, 1, 3))  # a Saturday
        times = moved.read_events(moved.event_chunks()[0])["time"].to_pylist()
        assert times[:2] == [datetime(2026, 1, 1, tzinfo=UTC)] * 2  # a Thursday, as 2018-02-01 was
        assert times[2] - times[0] == datetime(2018, 11, 9, 19, 24, 20) - datetime(2018, 2, 1)


def test_a_missing_folder_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("NIGHTSHELF_DATA", str(tmp_path))
    with pytest.raises(NotFoundError, match="zh_litemall_yanxuan"):
        Yanxuan()


@pytest.mark.realdata
class TestRealFiles(DatasetAdapterContract):
    def make(self, folder):
        try:
            data_folder("zh_litemall_yanxuan")
        except NotFoundError as error:
            pytest.skip(str(error))
        return Yanxuan()

    def test_every_row_is_there_and_every_item_good(self, adapter):
        items = [
            check_items(adapter.read_items(chunk), chunk.path, 0).good
            for chunk in adapter.item_chunks()
        ]
        assert [table.num_rows for table in items] == [239, 575]
        ids = pa.concat_tables(items)["item_id"].to_pylist()
        assert len(set(ids)) == 814
        (chunk,) = adapter.event_chunks()
        events = check_events(adapter.read_events(chunk), chunk.path, 0, datetime.now(UTC))
        assert (chunk.rows, events.good.num_rows) == (1004, 994)
        assert len(set(events.good["item_id"].to_pylist()) & set(ids)) == 31

    def test_group_ids_name_an_item_of_the_group(self, adapter):
        newbee = adapter.read_items(adapter.item_chunks()[1]).to_pylist()
        titles = {row["item_id"]: row["title"] for row in newbee}
        grouped = [row for row in newbee if row["group_id"]]
        assert len(grouped) > 300
        assert all(titles[row["group_id"]] == row["title"] for row in grouped)
