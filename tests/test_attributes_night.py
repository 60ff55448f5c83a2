"""Typed attributes from a catalogue's cells to answers: a night, searches, facets, variants."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.attributes.declaration import Attribute
from recsys.batch import night, planning
from recsys.config import Setup
from recsys.datasets.choices import CatalogueChoices
from recsys.errors import FilterError
from recsys.events.impressions import build_impression
from recsys.interfaces import Chunk
from recsys.models.composition import build_recommender
from recsys.pipeline.explain import explain
from recsys.pipeline.recommender import Recommender
from recsys.pipeline.replay import query_from_impression
from recsys.release import files
from recsys.release.release import Release
from recsys.storage.artifacts import ArtifactStore
from recsys.types import (
    AttributeFilter,
    FacetCount,
    Filters,
    Quantity,
    Query,
    Ranking,
    VariantRange,
)
from tests.checkerboard import ITEMS, UNTIL, Checkerboard, setup
from tests.in_process import in_this_process

SIZES = ("M", "XXL", "XXL", "M")
DECLARED = (
    Attribute("colour", variant=True),
    Attribute("size", variant=True),
    Attribute("width", "number", unit="cm"),
    Attribute("material", "list", levels=">"),
    Attribute("waterproof", "boolean"),
    Attribute("batch", searchable=False, filterable=False, facet=False),
)


@dataclass(frozen=True)
class Wardrobe(Checkerboard):
    """Of every other thing the blue one is XXL, of the others the red one."""

    def read_items(self, chunk: Chunk) -> pa.Table:
        items = super().read_items(chunk)
        if chunk.path == "bad items":
            return items
        rows = range(chunk.start, chunk.start + chunk.rows)
        items = items.append_column("width", pa.array([width(item) for item in rows]))
        return items.append_column("attributes", pa.array([cell(item) for item in rows]))


def width(item: int) -> str:
    return "5 kg" if item == 15 else f"{10 * item} cm" if item % 2 else f"{item / 10} m"


def cell(item: int) -> str:
    pairs: dict[str, Any] = {
        "Colour": "Blue" if item % 2 else "Red",
        "Size": SIZES[item % 4],
        "waterproof": item % 3 == 0,
        "batch": f"b{item}",
    }
    if item % 4 == 1:
        pairs["material"] = ["Textile > Wool", "Metal"]
    return json.dumps(pairs)


def wardrobe(**choices: Any) -> Setup:
    return replace(setup(), dataset=Wardrobe, catalogue=CatalogueChoices(**choices))


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return []


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> Iterator[Recommender]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NIGHTSHELF_HOME", str(tmp_path_factory.mktemp("attributes")))
        patch.setenv("NIGHTSHELF_COMMIT", "test")
        patch.setattr(night, "run_stages", in_this_process)
        parts = wardrobe(attributes=DECLARED)
        night.run_night(planning.begin(parts, UNTIL, "one"), lines.append)
        yield build_recommender(parts, Release.open(ArtifactStore(parts.home)))


def search(shop: Recommender, text: str, *conditions: str, **choices: Any) -> Ranking:
    """`conditions` as `colour=red` or `width lte 60cm`."""
    query = Query(request_id="r", text=text, filters=Filters(attributes=parsed(*conditions)))
    query = replace(query, k=ITEMS, **choices)
    normalised = shop.understand(text).understanding.normalised
    return shop.search(query, setup().encoder().encode_queries([normalised or "."])[0])


def parsed(*conditions: str) -> tuple[AttributeFilter, ...]:
    split = [each.replace("=", " eq ").split(" ", 2) for each in conditions]
    return tuple(AttributeFilter(*each) for each in split)


def ids(ranking: Ranking) -> set[int]:
    return {int(each.item.item_id[1:]) for each in ranking.items}


def passing(shop: Recommender, *conditions: str) -> set[int]:
    mask = shop.release.filter_mask(Filters(attributes=parsed(*conditions)))
    assert mask is not None
    return {int(shop.release.item_ids[int(row)][1:]) for row in np.flatnonzero(mask)}


def test_the_night_keeps_typed_columns_and_says_what_it_could_not_read(
    shop: Recommender, lines: list[str]
) -> None:
    columns = shop.release.attributes
    assert columns.attributes == DECLARED
    row = shop.release.item_ids.row("i01")
    assert row is not None
    assert columns.values(row) == shop.release.item(row).attribute_values == {
        "colour": "Blue",
        "size": "XXL",
        "width": Quantity(10.0, "cm"),
        "material": ("Textile / Wool", "Metal"),
        "waterproof": False,
        "batch": "b1",
    }  # fmt: skip
    assert any("width: 1 items have a value that cannot be read" in line for line in lines)
    quarantine = pq.read_table(shop.release.folder / files.QUARANTINE.name).to_pylist()
    [reason] = [each["reason"] for each in quarantine if each["table"] == "attributes"]
    assert reason == "width is '5 kg': give a number in cm, or a unit that converts into it"


@pytest.mark.parametrize(
    ("conditions", "items"),
    [
        (["colour=red"], {*range(0, 16, 2)}),
        (["COLOUR=RED", "colour=blue"], {*range(16)}),
        (["colour=blue", "size=xxl"], {1, 5, 9, 13}),
        (["width lte 60cm"], {*range(7)}),
        (["width lt 0.6m", "width gte 20"], {2, 3, 4, 5}),
        (["width=60"], {6}),
        (["width=20-40", "width=100-"], {2, 3, 4, 10, 11, 12, 13, 14}),
        (["width=1 - 1.2 m"], {10, 11, 12}),
        (["waterproof=yes"], {0, 3, 6, 9, 12, 15}),
        (["waterproof=true", "waterproof=false"], {*range(16)}),
        (["material=textile"], {1, 5, 9, 13}),
        (["material=Textile > Wool"], {1, 5, 9, 13}),
        (["material=wool"], set()),
    ],
)
def test_filters_pass_what_fits(shop: Recommender, conditions: list[str], items: set[int]) -> None:
    assert passing(shop, *conditions) == items


@pytest.mark.parametrize(
    ("condition", "sentence"),
    [
        ("brightness=9", r"filter\[brightness\] names no attribute to filter by: give one of "
                         "colour, size, width, material, waterproof"),
        ("batch=b1", r"filter\[batch\] names no attribute"),
        ("width=wide", r"filter\[width\] is 'wide': give a number in cm, or in a unit"),
        ("width lte 5 kg", r"filter\[width\]\[lte\] is '5 kg': give a number in cm"),
        ("colour gte red", r"filter\[colour\]\[gte\] is 'red': give a value, without an operator"),
        ("waterproof=maybe", r"filter\[waterproof\] is 'maybe': give true or false"),
    ],
)  # fmt: skip
def test_what_cannot_be_filtered_is_a_sentence(
    shop: Recommender, condition: str, sentence: str
) -> None:
    with pytest.raises(FilterError, match=sentence):
        passing(shop, condition)


def test_facets_count_all_that_is_declared(shop: Recommender) -> None:
    ranking = search(shop, "under $99", "colour=blue", facets=True)
    facets = ranking.facets
    assert set(facets) == {"category", "brand", "price"} | {each.name for each in DECLARED[:5]}
    assert facets["colour"] == (FacetCount("Blue", 8, True), FacetCount("Red", 8))
    assert facets["size"] == (FacetCount("M", 4), FacetCount("XXL", 4))
    assert facets["material"][:2] == (FacetCount("Metal", 4), FacetCount("Textile", 4))
    assert {each.value: each.count for each in facets["waterproof"]} == {"true": 3, "false": 5}
    assert {each.unit for each in facets["width"]} == {"cm"}
    assert sum(each.count for each in facets["width"]) >= 7


def test_a_variant_that_the_query_names_is_the_one_that_is_shown(shop: Recommender) -> None:
    ranking = search(shop, "blue xxl chair", collapse=True)
    assert ranking.items[0].item.item_id == "i01"
    assert ids(ranking) <= {1, 5, 9, 13}
    assert ranking.items[0].variants == VariantRange(2, 10.0, 11.0)
    assert ranking.relaxed == ()
    assert ranking.understanding is not None
    facts = ranking.understanding.facts
    assert (facts["colour"], facts["size"]) == ("Blue", "XXL")


def test_a_named_variant_that_no_product_has_is_said_to_be_given_up(shop: Recommender) -> None:
    ranking = search(shop, "blue xxl table", "size=M", collapse=True)
    assert "i03" in {each.item.item_id for each in ranking.items}
    assert not any("comes in" in each for each in ranking.relaxed), "the size is the request's own"
    chairs = search(shop, "m chair", "colour=blue", "width=10", collapse=True)
    assert ids(chairs) == {1}


def test_a_filter_leaves_no_product_without_its_variant(shop: Recommender) -> None:
    assert ids(search(shop, "chair", "colour=blue", "size=XXL", collapse=True)) == {1}
    table = search(shop, "table", "colour=blue", "size=XXL", collapse=True)
    assert (ids(table), table.total, table.no_good_match) == (set(), 0, False)
    recommended = shop.recommend(
        Query(request_id="r", k=ITEMS, filters=Filters(attributes=parsed("size=M")))
    )
    assert ids(recommended) == {item for item in range(ITEMS) if SIZES[item % 4] == "M"}


def test_a_logged_request_is_replayed_with_its_filters_and_explained(shop: Recommender) -> None:
    ranking = search(shop, "chair", "colour=blue", "width lte 1m")
    query = Query(
        request_id="r",
        k=ITEMS,
        text="chair",
        filters=Filters(attributes=parsed("colour=blue", "width lte 1m")),
    )
    impression = build_impression(ranking, "search", query)
    logged = json.loads(json.dumps(asdict(replace(impression, features=None, time=None))))  # type: ignore[arg-type]
    impression = replace(impression, parameters=logged["parameters"])
    assert query_from_impression(impression) == query
    read = shop.understand("chair"), setup().encoder().encode_queries(["chair"])[0]
    explanation = explain(shop, impression, "i00", encoded=read)
    assert explanation.summary == "Not shown: it does not pass filter[colour]."


def test_without_a_declaration_the_release_is_as_before(shop_home: Path) -> None:
    release = Release.open(ArtifactStore(str(shop_home)))
    assert files.ATTRIBUTES.name not in release.manifest.files
    assert release.attributes.attributes == ()
    assert release.item(0).attribute_values == {}
    with pytest.raises(FilterError, match="give no attribute: this shop has none"):
        release.filter_mask(Filters(attributes=parsed("colour=red")))
