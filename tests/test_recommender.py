"""The online path over a release that a real night made: filters, personal order, cold users, live
events, diversity."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from recsys.config import search_ranker
from recsys.errors import InputError, NotFoundError, SpaceMismatchError
from recsys.events.impressions import build_impression
from recsys.pipeline.recommender import Recommender
from recsys.ranking.linear import LinearRanker
from recsys.release.release import Release
from recsys.storage.artifacts import ArtifactStore
from recsys.types import EVENT_TYPES, Filters, Query, Ranking
from tests.checkerboard import ITEMS, THINGS, bought, left_out, setup, title
from tests.checkerboard_online import NightClock, event, features_of, open_recommender, session


@pytest.fixture(scope="module")
def shop(shop_home: Path) -> Recommender:
    return open_recommender(shop_home)


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is still the hour of the night: what is due to be bought again changes from day to day."""
    monkeypatch.setattr("recsys.pipeline.recommender.datetime", NightClock)


def search(shop: Recommender, text: str, **choices: object) -> list[str]:
    query = Query(request_id="r", text=text, **choices)  # type: ignore[arg-type]
    vector_D = setup().encoder().encode_queries([text])[0]
    return [each.item.item_id for each in shop.search(query, vector_D).items]


prices = st.none() | st.floats(0, 40)


@given(
    low=prices,
    high=prices,
    brand=st.sampled_from([None, "acme", "GLOBEX"]),
    category=st.sampled_from([None, "home", "home / chair", "garden"]),
    k=st.integers(1, 30),
)
@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_filtered_search_gives_as_many_as_match(
    shop: Recommender,
    *,
    low: float | None,
    high: float | None,
    brand: str | None,
    category: str | None,
    k: int,
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
    ranking = search(
        shop,
        "red chair",
        k=k,
        filters=Filters(
            category=(category,) if category else (),
            brand=(brand,) if brand else (),
            min_price=low,
            max_price=high,
        ),
    )
    assert len(ranking) == len(set(ranking))
    everything = search(shop, "red chair", k=ITEMS)
    assert ranking == [item_id for item_id in everything if item_id in expected][:k]


def test_the_same_words_find_the_users_colour_first(shop: Recommender) -> None:
    vector_D = setup().encoder().encode_queries(["lamp"])[0]
    ranker = search_ranker({"lexical": 1.0, "personal": 0.1})
    shop = Recommender.over(shop.release, shop.user_model, ranker, shop.recommend_ranker)
    red = shop.search(Query(request_id="r", k=2, user_id="u00", text="lamp"), vector_D)
    blue = shop.search(Query(request_id="r", k=2, user_id="u01", text="lamp"), vector_D)
    assert [each.item.title for each in red.items] == ["red lamp", "blue lamp"]
    assert [each.item.title for each in blue.items] == ["blue lamp", "red lamp"]
    assert red.personalised


def test_a_stranger_gets_what_sells(shop: Recommender) -> None:
    ranking = shop.recommend(Query(request_id="r", k=3, user_id="nobody"))
    best = np.argsort(-np.asarray(shop.release.popularity_I), kind="stable")[:3]
    assert [each.item.item_id for each in ranking.items] == [
        shop.release.item_ids[int(row)] for row in best
    ]
    assert not ranking.personalised
    assert {name for each in ranking.items for name in each.sources} == {"popularity"}


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_one_event_of_a_stranger_changes_their_next_recommendation(
    shop: Recommender, kind: str
) -> None:
    before = shop.recommend(Query(request_id="r", k=3, user_id="nobody"))
    after = shop.recommend(Query(request_id="r", k=3, user_id="nobody"), [event("nobody", 5, kind)])
    assert after.personalised
    assert [each.item.item_id for each in after.items] != [
        each.item.item_id for each in before.items
    ]
    assert int(after.items[0].item.item_id[1:]) % 2 == 1


def colours(ranking: Ranking) -> list[str]:
    return [each.item.title.split()[0] for each in ranking.items]


def test_a_session_of_a_stranger_is_read_as_it_grows(shop: Recommender) -> None:
    """Nothing: what sells, of both colours. One blue thing: blue things with it. Three: blue things
    alone."""
    nothing, one, three = (
        shop.recommend(Query(request_id="r", k=6, user_id="nobody"), session(*items))
        for items in ([], [5], [5, 7, 9])
    )
    assert [ranking.personalised for ranking in (nothing, one, three)] == [False, True, True]
    assert (
        colours(nothing).count("blue")
        < colours(one).count("blue")
        < colours(three).count("blue")
        == 6
    )
    rows_n = shop.release.co_occurrence[0][shop.release.item_ids.row("i05")]
    neighbours = {shop.release.item_ids[int(row)] for row in rows_n if row >= 0}
    assert {each.item.item_id for each in one.items[:3]} <= neighbours
    assert all("co_occurrence" in each.sources for each in three.items)


def test_a_session_without_a_name_is_nobodys(shop: Recommender) -> None:
    named, unnamed = (
        shop.recommend(Query(request_id="r", k=6, user_id=user), session(5))
        for user in ("nobody", None)
    )
    assert named.items == unnamed.items


def alike(shop: Recommender, ranking: Ranking) -> float:
    rows = [shop.release.item_ids.row(each.item.item_id) or 0 for each in ranking.items]
    vectors_KD = np.asarray(shop.release.item_vectors_ID)[rows]
    return float((vectors_KD @ vectors_KD.T)[~np.eye(len(rows), dtype=bool)].mean())


@pytest.mark.parametrize(("user", "live"), [("u03", False), ("u03", True), ("nobody", True)])
def test_diversity_makes_answers_less_alike_from_the_same_candidates(
    shop: Recommender, user: str, live: bool
) -> None:
    events = [event(user, 5, "click")] if live else []
    plain, diverse, zero = (
        shop.recommend(Query(request_id="r", k=5, user_id=user, diversity=d), events)
        for d in (0.0, 0.9, 0.0)
    )
    assert alike(shop, diverse) < alike(shop, plain) - 0.02
    assert diverse.items[0] == plain.items[0] == zero.items[0]
    assert len({each.item.item_id for each in diverse.items}) == 5
    candidates = features_of(shop.recommend(Query(request_id="r", k=25, user_id=user), events))
    assert features_of(diverse).items() <= candidates.items()


def test_a_diverse_answer_keeps_the_filters_and_what_was_bought_today_out(
    shop: Recommender,
) -> None:
    query = Query(
        request_id="r", k=5, user_id="u03", filters=Filters(max_price=20.0), diversity=1.0
    )
    ranking = shop.recommend(query, [event("u03", 7, "purchase")])
    prices = [each.item.price or 0.0 for each in ranking.items]
    assert len(prices) == 5
    assert max(prices) <= 20
    assert "i07" not in [each.item.item_id for each in ranking.items]


@pytest.mark.parametrize("user", ["u03", "nobody"])
def test_the_tail_has_its_share_of_every_answer(shop: Recommender, user: str) -> None:
    fair = replace(shop, tail_share=0.5)
    assert fair.tail_I.sum() == 3
    tail_ids = {shop.release.item_ids[int(row)] for row in np.flatnonzero(fair.tail_I)}

    def shares(recommender: Recommender) -> list[int]:
        ranking = recommender.recommend(
            Query(request_id="r", k=4, user_id=user), [event(user, 5, "view")]
        )
        return np.cumsum([each.item.item_id in tail_ids for each in ranking.items]).tolist()

    assert shares(shop)[-1] < 2
    assert all(got >= n // 2 for n, got in enumerate(shares(fair), 1))


def test_the_nightly_list_and_the_same_sources_asked_again_agree(shop: Recommender) -> None:
    """An event that says nothing (an item that is not in the catalogue) leaves the list as the
    night made it."""
    nightly = shop.recommend(Query(request_id="r", k=5, user_id="u03"))
    again = shop.recommend(Query(request_id="r", k=5, user_id="u03"), [event("u03", 99, "view")])
    assert [each.item.item_id for each in nightly.items] == [
        each.item.item_id for each in again.items
    ]
    assert [each.score for each in nightly.items] == pytest.approx(
        [each.score for each in again.items], rel=1e-4
    )


def test_what_is_due_is_counted_up_to_the_request(
    shop: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this shop a thing is due again after a day; half a year later it counts less."""

    def again() -> list[float]:
        ranking = shop.recommend(
            Query(request_id="r", k=ITEMS, user_id="u03"), [event("u03", 99, "view")]
        )
        return sorted(row["buy_again"] for row in features_of(ranking).values())

    soon = again()
    monkeypatch.setattr(NightClock, "days", 180)
    assert all(late < early for late, early in zip(again(), soon, strict=True) if early)
    assert sum(early > 0 for early in soon) == len(bought(3))


def test_what_was_bought_by_day_is_not_offered_again_the_same_day(shop: Recommender) -> None:
    user, item = 3, left_out(3)
    ranking = shop.recommend(
        Query(request_id="r", k=ITEMS, user_id=f"u{user:02d}"),
        [event(f"u{user:02d}", item, "purchase")],
    )
    offered = [int(each.item.item_id[1:]) for each in ranking.items]
    assert item not in offered
    assert set(bought(user)) <= set(offered)


def test_filters_hold_for_recommendations_and_similar_items(shop: Recommender) -> None:
    cheap = Filters(max_price=15.0)
    for ranking in (
        shop.recommend(Query(request_id="r", k=4, user_id="u00", filters=cheap)),
        shop.recommend(Query(request_id="r", k=4, user_id="nobody", filters=cheap)),
        shop.similar(Query(request_id="r", k=4, filters=cheap), "i00"),
    ):
        assert ranking.items
        assert all(
            each.item.price is not None and each.item.price <= 15.0 for each in ranking.items
        )


def test_scores_fall_and_features_are_logged_as_they_were_ranked(shop: Recommender) -> None:
    query = Query(request_id="r9", k=5, user_id="u00", text=title(2))
    ranking = shop.search(query, setup().encoder().encode_queries([title(2)])[0])
    scores = [each.score for each in ranking.items]
    assert scores == sorted(scores, reverse=True)
    impression = build_impression(ranking, "search", query)
    assert impression.request_id == "r9"
    assert impression.item_ids == tuple(each.item.item_id for each in ranking.items)
    assert impression.features == ranking.features
    assert len(impression.features) == len(ranking.items) > 1
    for place, each in enumerate(ranking.items):
        assert each.sources.items() <= impression.features.row(place).items()
        assert each.sources
    assert {"filter", "match", "features", "rank", "page", "explain"} <= set(ranking.stages_ms)


def test_an_unknown_item_is_named(shop: Recommender) -> None:
    with pytest.raises(NotFoundError, match="item 'i99' is not in release"):
        shop.similar(Query(request_id="r"), "i99")


def test_a_ranker_that_wants_an_unknown_source_is_refused(shop: Recommender) -> None:
    parts = setup()
    with pytest.raises(InputError, match="the ranker wants horoscope"):
        Recommender.over(
            shop.release,
            parts.user_model(),
            parts.search_ranker(),
            LinearRanker({"horoscope": 1.0}),
        )


def test_a_release_of_another_space_is_refused(shop_home: Path) -> None:
    with pytest.raises(
        SpaceMismatchError, match=r"holds vectors of space 'hashing-64.*but the encoder makes 'e5'"
    ):
        Release.open(ArtifactStore(str(shop_home)), space="e5")


@pytest.mark.parametrize(
    ("query", "tail_share", "size"),
    [
        (Query(request_id="r", k=3), 0.0, 3),
        (Query(request_id="r", k=3, diversity=0.5), 0.0, 15),
        (Query(request_id="r", k=3), 0.2, 15),
    ],
)
def test_a_diversified_answer_is_chosen_from_five_times_as_many(
    query: Query, tail_share: float, size: int
) -> None:
    reranker = SimpleNamespace(pool_size=lambda query, surface, k: 0)
    parts = SimpleNamespace(tail_share=tail_share, reranker=reranker)
    assert Recommender._pool_size(parts, query) == size  # type: ignore[arg-type]


def test_a_declared_interest_is_not_cross_encoded() -> None:
    calls: list[dict[str, Any]] = []

    def search(parsed: Any, vector_D: Any, **choices: Any) -> Any:
        calls.append(choices)
        return SimpleNamespace(rows_N=np.array([1]), scores_N=np.array([0.5]))

    parts = SimpleNamespace(
        release=SimpleNamespace(item_vectors_ID=np.zeros((2, 4))),
        searcher=SimpleNamespace(search=search),
        understand=lambda text: text,
    )
    Recommender._declared_interest(parts, "lamps", None, None, {})  # type: ignore[arg-type]
    assert calls == [{"allowed_I": None, "cross_encode": False}]
