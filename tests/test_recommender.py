"""The online path over a release that a real night made: filters, personal order, cold users, live events."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from recsys.artifacts import ArtifactStore
from recsys.config import search_ranker
from recsys.errors import InputError, NotFoundError, SpaceMismatchError
from recsys.ranking.linear import LinearRanker
from recsys.recommender import Recommender, impression
from recsys.release import Release
from recsys.types import EVENT_TYPES, Filters, Interaction, Query
from tests.checkerboard import ITEMS, THINGS, UNTIL, bought, left_out, setup, title

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def shop(shop_home: Path) -> Recommender:
    parts = setup()
    release = Release.open(ArtifactStore(str(shop_home)))
    return Recommender.over(release, parts.user_model(), parts.search_ranker(), parts.recommend_ranker())


def event(user: str, item: int, kind: str, minutes: int = 1) -> Interaction:
    time = UNTIL + timedelta(days=1, minutes=minutes)
    return Interaction(f"{user}-{item}-{kind}-{minutes}", user, f"i{item:02d}", kind, time)


def search(shop: Recommender, text: str, **choices: object) -> list[str]:
    query = Query("r", text=text, **choices)  # type: ignore[arg-type]
    vector_D = setup().encoder().encode_queries([text])[0]
    return [found.item.item_id for found in shop.search(query, vector_D).items]


prices = st.none() | st.floats(0, 40)


@given(
    low=prices,
    high=prices,
    brand=st.sampled_from([None, "acme", "GLOBEX"]),
    category=st.sampled_from([None, "home", "home / chair", "garden"]),
    k=st.integers(1, 30),
)
@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_filtered_search_gives_as_many_as_match(
    shop: Recommender, low: float | None, high: float | None, brand: str | None, category: str | None, k: int
) -> None:
    def matches(item: int) -> bool:
        price = 10.0 + item
        return (
            (low is None or price >= low)
            and (high is None or price <= high)
            and (brand is None or brand.casefold() == ("acme" if item < ITEMS // 2 else "globex"))
            and (category in (None, "home") or category == f"home / {THINGS[item // 2]}")
        )

    expected = {f"i{item:02d}" for item in range(ITEMS) if matches(item)}
    found = search(
        shop, "red chair", k=k, filters=Filters((category,) if category else (), (brand,) if brand else (), low, high)
    )
    assert len(found) == len(set(found)) == min(k, len(expected))
    assert set(found) <= expected


def test_the_same_words_find_the_users_colour_first(shop: Recommender) -> None:
    vector_D = setup().encoder().encode_queries(["lamp"])[0]
    ranker = search_ranker({"lexical": 1.0, "personal": 0.1})
    shop = Recommender.over(shop.release, shop.user_model, ranker, shop.recommend_ranker)
    red = shop.search(Query("r", 2, "u00", "lamp"), vector_D)
    blue = shop.search(Query("r", 2, "u01", "lamp"), vector_D)
    assert [each.item.title for each in red.items] == ["red lamp", "blue lamp"]
    assert [each.item.title for each in blue.items] == ["blue lamp", "red lamp"]
    assert red.personalised


def test_a_stranger_gets_what_sells(shop: Recommender) -> None:
    found = shop.recommend(Query("r", 3, "nobody"))
    best = np.argsort(-np.asarray(shop.release.popularity_I), kind="stable")[:3]
    assert [each.item.item_id for each in found.items] == [shop.release.item_ids[int(row)] for row in best]
    assert not found.personalised
    assert {name for each in found.items for name in each.sources} == {"popularity"}


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_one_event_of_a_stranger_changes_his_next_recommendation(shop: Recommender, kind: str) -> None:
    before = shop.recommend(Query("r", 3, "nobody"))
    after = shop.recommend(Query("r", 3, "nobody"), [event("nobody", 5, kind)])
    assert after.personalised
    assert [each.item.item_id for each in after.items] != [each.item.item_id for each in before.items]
    assert int(after.items[0].item.item_id[1:]) % 2 == 1


def test_the_nightly_list_and_the_same_sources_asked_again_agree(shop: Recommender) -> None:
    """An event that says nothing (an item that is not in the catalogue) leaves the list as the night made it."""
    nightly = shop.recommend(Query("r", 5, "u03"))
    again = shop.recommend(Query("r", 5, "u03"), [event("u03", 99, "view")])
    assert [each.item.item_id for each in nightly.items] == [each.item.item_id for each in again.items]
    assert [each.score for each in nightly.items] == pytest.approx([each.score for each in again.items], rel=1e-4)


def test_what_was_bought_by_day_is_not_offered_again_the_same_day(shop: Recommender) -> None:
    user, wanted = 3, left_out(3)
    found = shop.recommend(Query("r", ITEMS, f"u{user:02d}"), [event(f"u{user:02d}", wanted, "purchase")])
    offered = [int(each.item.item_id[1:]) for each in found.items]
    assert wanted not in offered
    assert set(bought(user)) <= set(offered)


def test_filters_hold_for_recommendations_and_similar_items(shop: Recommender) -> None:
    cheap = Filters(max_price=15.0)
    for found in (
        shop.recommend(Query("r", 4, "u00", filters=cheap)),
        shop.recommend(Query("r", 4, "nobody", filters=cheap)),
        shop.similar(Query("r", 4, filters=cheap), "i00"),
    ):
        assert found.items
        assert all(each.item.price is not None and each.item.price <= 15.0 for each in found.items)


def test_scores_fall_and_features_are_logged_as_they_were_ranked(shop: Recommender) -> None:
    query = Query("r9", 5, "u00", title(2))
    ranking = shop.search(query, setup().encoder().encode_queries([title(2)])[0])
    scores = [each.score for each in ranking.items]
    assert scores == sorted(scores, reverse=True)
    shown = impression(ranking, "search", query)
    assert shown.request_id == "r9"
    assert shown.item_ids == tuple(each.item.item_id for each in ranking.items)
    for each, features in zip(ranking.items, shown.features, strict=True):
        assert dict(zip(shown.feature_names, features, strict=True)) == each.features
        assert each.sources.items() <= each.features.items()
    assert {"filter", "match", "features", "rank", "page", "explain"} <= set(ranking.stages_ms)


def test_an_unknown_item_is_named(shop: Recommender) -> None:
    with pytest.raises(NotFoundError, match="item 'i99' is not in release"):
        shop.similar(Query("r"), "i99")


def test_a_ranker_that_wants_an_unknown_source_is_refused(shop: Recommender) -> None:
    parts = setup()
    with pytest.raises(InputError, match="the ranker wants horoscope"):
        Recommender.over(shop.release, parts.user_model(), parts.search_ranker(), LinearRanker({"horoscope": 1.0}))


def test_a_release_of_another_space_is_refused(shop_home: Path) -> None:
    with pytest.raises(SpaceMismatchError, match=r"holds vectors of space 'hashing-64.*but the encoder makes 'e5'"):
        Release.open(ArtifactStore(str(shop_home)), space="e5")
