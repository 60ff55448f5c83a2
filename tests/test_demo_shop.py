"""The default shop: valid, whole, the same whenever it is made, and nobody's."""

import hashlib
import io
import re
from collections import Counter
from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from stdnum import ean

from recsys.datasets.choices import CatalogueChoices
from recsys.datasets.validate import check_events, check_items
from recsys.demo.catalogue import ATTRIBUTES, OWN_GTINS, make_catalogue
from recsys.demo.pictures import DRAWINGS, picture_keys, tint
from recsys.demo.product_types import brands_of, colours, product_types, shelf_in_chinese
from recsys.demo.shop import SYNONYMS, demo_dataset, demo_files, reference
from recsys.demo.year import is_sale_day, year_of_events
from recsys.retrieval.text.synonyms import Synonyms

LAST_DAY = date(2026, 11, 29)
REFERENCES = {key: reference(key) for key in picture_keys()}
#: A title that has one of these would be of a real maker, or names a product by a trade mark.
TRADE_MARKS = re.compile(
    r"\b(adidas|nike|puma|levi|apple (?:watch|iphone)|iphone|ipad|samsung|sony|bose|canon|nikon|"
    r"lego|barbie|ikea|bic|biro|sharpie|post-it|frisbee|velcro|teflon|gore-tex|lycra|thermos|tupperware|"
    r"kleenex|jacuzzi|rollerblade|hoover|dyson|fender|gibson|yamaha|steinway|bosch|makita|stanley|"
    r"nutella|oreo|coca|pepsi|nintendo|xbox|playstation|crocs|converse|vans|ray-ban|rolex|swatch)\b",
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def catalogue():
    return make_catalogue(LAST_DAY, REFERENCES)


@pytest.fixture(scope="module")
def events(catalogue):
    return year_of_events(catalogue, LAST_DAY)


def test_every_item_and_event_is_valid(catalogue, events):
    choices = CatalogueChoices(attributes=ATTRIBUTES)
    items = check_items(catalogue.items, "items", 0, choices, datetime(2026, 11, 30, tzinfo=UTC))
    log = check_events(events, "events", 0, datetime(2026, 11, 30, tzinfo=UTC))
    assert (items.quarantined.num_rows, log.quarantined.num_rows, log.ignored) == (0, 0, 0)
    assert items.counts["gtins_dropped"] == 0
    assert 800 <= items.good.num_rows <= 1_200
    assert 40_000 <= log.good.num_rows <= 100_000


def test_the_same_bytes_whenever_it_is_made(catalogue, events):
    again = make_catalogue(LAST_DAY, REFERENCES)
    assert again.items.equals(catalogue.items)
    assert year_of_events(again, LAST_DAY).equals(events)
    other = make_catalogue(LAST_DAY, REFERENCES, seed=1)
    assert other.items["title"] != catalogue.items["title"]


def test_codes_are_unique_and_of_no_product_elsewhere(catalogue):
    gtins = catalogue.items["gtin"].to_pylist()
    assert all(ean.is_valid(gtin) and gtin.startswith(OWN_GTINS) for gtin in gtins)
    for column in ("gtin", "mpn", "item_id"):
        assert len(set(catalogue.items[column].to_pylist())) == catalogue.items.num_rows


def test_no_brand_and_no_trade_mark_is_real(catalogue):
    for column in ("title", "brand", "description", "attributes"):
        texts = catalogue.items[column].to_pylist()
        assert [text for text in texts if TRADE_MARKS.search(text)] == []


def test_titles_tell_items_apart(catalogue):
    twins = [t for t, n in Counter(catalogue.items["title"].to_pylist()).items() if n > 1]
    assert twins == []


def test_every_item_reads_in_both_languages(catalogue):
    for item in catalogue.items.to_pylist():
        assert re.search(r"[一-鿿]", item["attributes"]), item["title"]
        assert re.fullmatch(r"[\x20-\x7e]+", item["title"]), item["title"]


def test_the_parts_of_types_name_each_other():
    names = {each.name for each in product_types()}
    assert len(names) == len(product_types()) >= 100
    for each in product_types():
        assert set(each.goes_with) <= names - {each.name}
        assert set(each.colours) <= set(colours())
        assert brands_of(each.shelf)
        assert len(shelf_in_chinese(each.shelf)) == len(each.shelf) in (2, 3)
        texts = (each.about, *each.models, *each.features)
        assert all(text.english and text.chinese for text in texts), each.name


def test_synonyms_can_be_read():
    assert len(Synonyms.read(SYNONYMS)) > 150


def test_reduced_items_cost_less(catalogue):
    reduced = [item for item in catalogue.items.to_pylist() if item["list_price"] is not None]
    assert 50 < len(reduced) < catalogue.items.num_rows / 3
    assert all(item["list_price"] > item["price"] > 0 for item in reduced)


def test_a_tint_moves_the_main_colour_and_keeps_the_shape():
    sneaker = Image.open(DRAWINGS / "1f45f.webp").convert("RGBA")
    before, after = np.asarray(sneaker, int), np.asarray(tint(sneaker, colours()["blue"]), int)
    assert (before[..., 3] == after[..., 3]).all()
    opaque = after[after[..., 3] > 128]
    assert opaque[:, 2].mean() > opaque[:, 0].mean() + 30
    red = np.asarray(tint(sneaker, colours()["red"]), int)
    assert red[red[..., 3] > 128][:, 0].mean() > red[red[..., 3] > 128][:, 2].mean() + 30


def test_drawings_are_those_of_the_types():
    assert {f.stem for f in DRAWINGS.glob("*.webp")} == {t.picture for t in product_types()}
    assert sum(f.stat().st_size for f in DRAWINGS.iterdir()) < 2_500_000


def test_demand_has_seasons_and_sales(catalogue, events):
    kinds = dict(zip(catalogue.items["item_id"].to_pylist(), catalogue.types, strict=True))
    months = Counter()
    for item, time in zip(events["item_id"].to_pylist(), events["time"].to_pylist(), strict=True):
        if kinds[item].season:
            months[time.month in kinds[item].season, kinds[item].name] += 1
    inside = sum(n for (is_in, _), n in months.items() if is_in)
    assert inside > sum(months.values()) / 2
    days = Counter(time.date() for time in events["time"].to_pylist())
    sale = [n for day, n in days.items() if is_sale_day(day)]
    others = [n for day, n in days.items() if not is_sale_day(day)]
    assert np.mean(sale) > 1.5 * np.mean(others)


def test_who_buys_a_thing_buys_what_goes_with_it(catalogue, events):
    """Within the hour, five times as often as all that does not."""
    kinds = dict(zip(catalogue.items["item_id"].to_pylist(), catalogue.types, strict=True))
    rows = zip(
        *(events[c].to_pylist() for c in ("user_id", "item_id", "type", "time")), strict=True
    )
    purchases, pairs = {}, Counter()
    for user, item, type_, time in rows:
        if type_ == "purchase":
            for before, moment in purchases.setdefault(user, []):
                if (time - moment).total_seconds() < 3600:
                    first, second = kinds[before], kinds[item]
                    related = second.name in first.goes_with or first.name in second.goes_with
                    pairs["related" if related else "same" if first == second else "other"] += 1
            purchases[user].append((item, time))
    assert pairs["related"] > 5 * pairs["other"] > 0


@pytest.mark.slow
def test_files_are_written_once_and_every_picture_is_there(tmp_path, monkeypatch):
    monkeypatch.setenv("NIGHTSHELF_CACHE", str(tmp_path))
    items, events = demo_files(LAST_DAY)
    stamps = [file.stat().st_mtime_ns for file in (items, events)]
    adapter = demo_dataset(datetime(2026, 12, 2, 2, tzinfo=UTC))  # of the same week
    assert [file.stat().st_mtime_ns for file in demo_files(LAST_DAY)] == stamps
    table = pa.concat_tables([adapter.read_items(chunk) for chunk in adapter.item_chunks()])
    names = set(table["image"].to_pylist())
    pictures = {name: (items.parent / name).read_bytes() for name in names}
    assert all(Image.open(io.BytesIO(data)).size == (256, 256) for data in pictures.values())
    assert len({hashlib.sha256(data).digest() for data in pictures.values()}) == len(names)
