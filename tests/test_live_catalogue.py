"""Changes by day upon the checkerboard shop's release: what is seen of them, and that it does not
matter in which steps they came."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from recsys.catalogue.changes import ItemChange, ItemState, Kind, apply_change
from recsys.catalogue.snapshot import CatalogueSnapshot
from recsys.encoders.hashing import HashingEncoder
from recsys.pipeline.live_catalogue import LiveCatalogue
from recsys.pipeline.recommender import Recommender
from recsys.pipeline.searcher import SearchChoices
from recsys.release.release import Release
from recsys.storage.artifacts import ArtifactStore
from recsys.tables import ITEMS_IN
from recsys.types import Filters, Query, Ranking
from tests.checkerboard import ITEMS, setup

NOW = datetime(2026, 1, 3, 12, tzinfo=UTC)
ENCODER = HashingEncoder(64)
ALL_IDS = [f"i{item:02d}" for item in range(ITEMS)]


@pytest.fixture(scope="module")
def base(shop_home: Path) -> Recommender:
    release, parts = Release.open(ArtifactStore(str(shop_home))), setup()
    return Recommender.over(
        release,
        parts.user_model(),
        parts.search_ranker(),
        parts.recommend_ranker(),
        choices=SearchChoices(dense_k=4),
    )


class Log:
    """What a catalogue log does, in memory."""

    def __init__(self, known: Iterable[str] = ALL_IDS) -> None:
        self.states: dict[str, ItemState] = {}
        self.known, self.number = frozenset(known), 0

    def write(self, kind: Kind, item_id: str, **fields: Any) -> list[ItemState]:
        """The new state, if it is accepted. A put names every field."""
        if kind == "put":
            fields = (
                dict.fromkeys(ITEMS_IN.names[1:]) | {"in_stock": True, "hidden": False} | fields
            )
        change = ItemChange(item_id=item_id, kind=kind, fields=fields)
        state, result = apply_change(
            self.states.get(item_id),
            change,
            number=self.number + 1,
            time=NOW,
            exists=self.known.__contains__,
        )
        if result.status != "accepted" or state is None:
            return []
        self.number += 1
        self.states[item_id] = state
        return [state]


class Shop:
    """A live catalogue and its log."""

    def __init__(self, base: Recommender) -> None:
        self.log, self.live = Log(), LiveCatalogue(base=base, encode=ENCODER.encode_items)

    def write(self, kind: Kind, item_id: str, **fields: Any) -> None:
        states = self.log.write(kind, item_id, **fields)
        self.live.advance(states, self.log.number)

    def search(self, text: str, **choices: Any) -> Ranking:
        return search(self.live.recommender, text, **choices)

    def recommend(self, user: str | None = None, k: int = 40, **filters: Any) -> list[str]:
        query = Query(request_id="r", user_id=user, k=k, filters=Filters(**filters))
        return ids(self.live.recommender.recommend(query))


def search(shop: Recommender, text: str, k: int = 40, **choices: Any) -> Ranking:
    parsed = shop.understand(text)
    [vector_D] = ENCODER.encode_queries([parsed.understanding.normalised])
    return shop.search(Query(request_id="r", text=text, k=k, **choices), vector_D, parsed)


def ids(ranking: Ranking) -> list[str]:
    return [each.item.item_id for each in ranking.items]


@pytest.fixture
def shop(base: Recommender) -> Shop:
    return Shop(base)


def test_a_release_without_changes_answers_as_it_is(base: Recommender, shop: Shop) -> None:
    assert isinstance(shop.live.recommender.release, CatalogueSnapshot)
    for text in ("red chair", "blue", "i07", "lamp under 15"):
        assert _timeless(search(base, text)) == _timeless(shop.search(text))
    for user in ("u03", None):
        query = Query(request_id="r", user_id=user, k=8)
        assert base.recommend(query).items == shop.live.recommender.recommend(query).items


def test_a_price_is_in_filters_facets_sorts_and_items(shop: Shop) -> None:
    shop.write("patch", "i06", price=3.0)
    dearer = shop.search("red", filters=Filters(min_price=5.0))
    cheaper = shop.search("red", sort="price", facets=True, filters=Filters(max_price=4.0))
    assert "i06" not in ids(dearer)
    assert (ids(cheaper), cheaper.total) == (["i06"], 1)
    assert cheaper.items[0].item.price == 3.0
    assert ids(shop.search("red", sort="price"))[0] == "i06"
    assert "i06" in shop.recommend(max_price=4.0)


def test_a_price_above_the_list_price_is_no_reduction(shop: Shop) -> None:
    shop.write("patch", "i06", price=3.0, list_price=5.0)
    assert shop.search("i06").items[0].item.list_price == 5.0
    shop.write("patch", "i06", price=6.0)
    assert shop.search("i06").items[0].item.list_price is None


def test_what_is_sold_out_is_in_no_recommendation(shop: Shop) -> None:
    assert "i05" in shop.recommend()
    shop.write("patch", "i05", in_stock=False)
    assert "i05" not in shop.recommend()
    assert "i05" not in ids(shop.search("blue", filters=Filters(in_stock=True)))
    assert "i05" in ids(shop.search("blue"))


@pytest.mark.parametrize("how", ["hidden", "deleted"])
def test_what_is_hidden_or_deleted_is_in_no_answer_and_no_count(shop: Shop, how: str) -> None:
    before = shop.search("lamp", facets=True)
    if how == "hidden":
        shop.write("patch", "i04", hidden=True)
    else:
        shop.write("delete", "i04")
    after = shop.search("lamp", facets=True)
    assert (set(ids(before)) - set(ids(after)), after.total) == ({"i04"}, (before.total or 0) - 1)
    brands = [sum(facet.count for facet in each.facets["brand"]) for each in (before, after)]
    assert brands[1] == brands[0] - 1
    assert "i04" not in shop.recommend() + shop.recommend("u02")
    similar = shop.live.recommender.similar(Query(request_id="r", k=10), "i05")
    assert "i04" not in ids(similar)
    assert not ids(shop.search("i04")) or "i04" not in ids(shop.search("i04"))


def test_the_range_of_a_product_is_of_what_is_visible(shop: Shop) -> None:
    def variants() -> Any:
        return shop.search("red chair", collapse=True).items[0].variants

    assert (variants().count, variants().max_price) == (2, 11.0)
    shop.write("patch", "i00", title="red chair, oak", price=9.0)
    assert (variants().count, variants().min_price, variants().max_price) == (2, 9.0, 11.0)
    shop.write("patch", "i01", hidden=True)
    assert (variants().count, variants().max_price) == (1, 9.0)


def test_without_a_vector_those_with_most_of_the_words_are_found(base: Recommender) -> None:
    text = "red chair table lamp shelf"
    parsed = base.understand(text)
    zeros_D = np.zeros(64, np.float32)
    answer = base.search(Query(request_id="r", text=text, k=40), zeros_D, parsed)
    assert set(ids(answer)) == {"i00", "i02", "i04", "i06"}
    assert answer.relaxed == ("no item has all of the words: found by most of them",)


def test_suggestions_name_nothing_that_is_gone(shop: Shop) -> None:
    def texts() -> list[str]:
        return [each.text for each in shop.live.recommender.release.suggestions.complete("carp")]

    assert any("carpet" in text for text in texts())
    shop.write("delete", "i14")
    assert any("carpet" in text for text in texts())
    shop.write("patch", "i15", hidden=True)
    assert not texts()


def test_an_item_that_is_shown_again_is_as_before(base: Recommender, shop: Shop) -> None:
    shop.write("patch", "i04", hidden=True)
    shop.write("patch", "i04", hidden=False)
    assert ids(shop.search("lamp")) == ids(search(base, "lamp"))


def test_a_new_item_is_found_recommended_and_suggested(shop: Shop) -> None:
    shop.write("put", "n1", title="green hammock", category="garden / hammocks", price=9.0)
    answer = shop.search("hammock", facets=True)
    assert (ids(answer), answer.total) == (["n1"], 1)
    assert [facet.value for facet in answer.facets["category"]] == ["garden", "garden / hammocks"]
    assert ids(shop.search("green", filters=Filters(category=("garden",)))) == ["n1"]
    assert ids(shop.search("n1")) == ["n1"]
    assert "n1" in shop.recommend("u02")
    release = shop.live.recommender.release
    assert "green hammock" in [each.text for each in release.suggestions.complete("hamm")]
    similar = shop.live.recommender.similar(Query(request_id="r", k=3), "n1")
    assert len(similar.items) == 3
    assert "n1" not in ids(similar)


def test_a_new_item_is_found_beside_those_of_the_release(shop: Shop) -> None:
    shop.write("put", "n1", title="red chair", price=1.0)
    answer = shop.search("red chair", sort="price")
    assert ids(answer)[:2] == ["n1", "i00"]
    assert shop.search("red chair").items[0].score == pytest.approx(
        shop.search("red chair").items[1].score, rel=0.2
    )


def test_a_changed_title_moves_the_item_and_keeps_what_people_did(shop: Shop) -> None:
    shop.write("patch", "i08", title="wooden hammock", category="garden")
    assert ids(shop.search("hammock")) == ["i08"]
    assert "i08" not in ids(shop.search("clock"))
    release, night = shop.live.recommender.release, shop.live.base.release
    row = release.item_ids.row("i08")
    assert row is not None
    assert row >= ITEMS
    assert release.popularity_I[row] == night.popularity_I[night.item_ids.row("i08")] > 0
    assert "i08" in shop.recommend("u08", max_price=18.0)  # left out by this user: it comes first
    assert shop.recommend("u08").count("i08") == 1


def test_a_put_that_says_what_the_release_says_makes_no_row(shop: Shop) -> None:
    night = shop.live.base.release
    item = night.items.slice(night.item_ids.row("i03"), 1).to_pylist()[0]
    fields = {name: item[name] for name in ITEMS_IN.names if name not in ("item_id", "added")}
    shop.write("put", "i03", **fields | {"added": item["added"].isoformat(), "price": 2.0})
    assert not len(shop.live.snapshot.segment)
    assert shop.search("i03").items[0].item.price == 2.0


def test_an_item_deleted_and_put_again_is_the_new_one(shop: Shop) -> None:
    shop.write("delete", "i04")
    shop.write("put", "i04", title="yellow lamp", price=1.0)
    assert ids(shop.search("yellow")) == ["i04"]
    shop.write("delete", "i04")
    assert not ids(shop.search("yellow lamp", filters=Filters(max_price=2.0)))


def test_a_patch_of_a_new_item(shop: Shop) -> None:
    shop.write("put", "n1", title="green hammock", price=9.0)
    shop.write("patch", "n1", price=5.0)
    assert shop.search("hammock").items[0].item.price == 5.0
    shop.write("patch", "n1", title="green parasol")
    assert ids(shop.search("parasol")) == ["n1"]
    assert shop.search("parasol").items[0].item.price == 5.0
    assert shop.search("hammock").no_good_match or "n1" not in ids(shop.search("hammock"))


def test_a_price_leaves_the_sources_of_the_segment_as_they_are(shop: Shop) -> None:
    shop.write("put", "n1", title="green hammock", price=9.0)
    sources = shop.live.recommender.recommend_sources
    shop.write("patch", "n1", price=5.0)
    assert shop.live.recommender.recommend_sources is sources
    shop.write("delete", "i04")
    assert shop.live.recommender.recommend_sources is not sources


def test_each_text_is_encoded_once(base: Recommender) -> None:
    encoded = list[str]()

    def encode(texts: Any) -> Any:
        encoded.extend(texts)
        return ENCODER.encode_items(texts)

    log, live = Log(), LiveCatalogue(base=base, encode=encode)
    for at in range(3):
        live.advance(log.write("put", f"n{at}", title=f"hammock {at}"), log.number)
        live.advance(log.write("patch", "n0", price=float(at + 1)), log.number)
    assert len(encoded) == 3


WRITES = st.one_of(
    st.tuples(st.just("patch"), st.sampled_from(["i00", "i05", "n1"]), st.fixed_dictionaries(
        {}, optional={
            "price": st.sampled_from([1.0, 12.0, 99.0, None]),
            "in_stock": st.booleans(),
            "hidden": st.booleans(),
            "title": st.sampled_from(["red chair", "green hammock", "blue lamp"]),
            "brand": st.sampled_from(["acme", "Globex", "new brand", None]),
        })),
    st.tuples(st.just("put"), st.sampled_from(["i00", "i05", "n1", "n2"]), st.fixed_dictionaries({
        "title": st.sampled_from(["red chair", "green hammock", "blue mirror"]),
        "category": st.sampled_from(["home / chair", "garden", None]),
        "price": st.sampled_from([2.0, 50.0, None]),
    })),
    st.tuples(st.just("delete"), st.sampled_from(["i00", "i05", "n1", "n2"]), st.just({})),
)  # fmt: skip
REQUESTS = [
    ("red chair", {}),
    ("hammock", {"facets": True}),
    ("blue", {"sort": "price", "facets": True}),
    ("i05", {}),
    ("lamp", {"filters": Filters(max_price=20.0), "facets": True}),
    ("chair", {"filters": Filters(brand=("globex",)), "sort": "-price"}),
    ("red", {"collapse": True}),
]


@settings(
    max_examples=40,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(WRITES, min_size=1, max_size=12), st.data())
def test_it_does_not_matter_in_which_steps_changes_come(
    base: Recommender, writes: list[Any], data: st.DataObject
) -> None:
    log, live = Log(), LiveCatalogue(base=base, encode=ENCODER.encode_items)
    waiting = dict[str, ItemState]()
    for kind, item_id, fields in writes:
        waiting |= {state.item_id: state for state in log.write(kind, item_id, **fields)}
        if data.draw(st.booleans()):
            live.advance(waiting.values(), log.number)
            waiting.clear()
    live.advance(waiting.values(), log.number)
    at_once = LiveCatalogue(base=base, encode=ENCODER.encode_items)
    at_once.advance(log.states.values(), log.number)
    for text, choices in REQUESTS:
        own, other = (search(each.recommender, text, **choices) for each in (live, at_once))
        assert _timeless(own) == _timeless(other)
    for user in ("u00", "u05", None):
        query = Query(request_id="r", user_id=user, k=30)
        own, other = (each.recommender.recommend(query) for each in (live, at_once))
        assert _timeless(own) == _timeless(other)
    _agrees_with_model(live, log, base)


def _timeless(ranking: Ranking) -> Any:
    """What does not depend on the second in which it is asked, as scores and features do."""
    items = [each.item for each in ranking.items]
    return items, ranking.total, ranking.facets, ranking.relaxed, ranking.no_good_match


def _agrees_with_model(live: LiveCatalogue, log: Log, base: Recommender) -> None:
    """What the catalogue should hold, made by hand of the release's rows and the states."""
    model = {row["item_id"]: row for row in base.release.items.to_pylist()}
    for item_id, state in log.states.items():
        if state.deleted:
            model.pop(item_id, None)
        elif item_id in model or state.whole:
            model[item_id] = model.get(item_id, {}) | state.values()
    expected = {
        item_id: (row["title"] or "", row["price"])
        for item_id, row in model.items()
        if not row.get("hidden")
    }
    release = live.recommender.release
    mask = release.filter_mask(Filters())
    rows = np.arange(len(release.item_ids)) if mask is None else np.flatnonzero(mask)
    items = [release.item(int(row)) for row in rows]
    assert {item.item_id: (item.title, item.price) for item in items} == expected
    assert len(items) == len(expected)
    priced = live.recommender.release.filter_mask(Filters(max_price=20.0, in_stock=True))
    assert priced is not None
    assert {release.item_ids[int(row)] for row in np.flatnonzero(priced)} == {
        item_id
        for item_id, row in model.items()
        if not row.get("hidden") and row["in_stock"] is not False and (row["price"] or 99) <= 20
    }
