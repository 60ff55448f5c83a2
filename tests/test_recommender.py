"""The online path over a release that a real night made: filters, personal order, cold users, live
events."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
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
from recsys.types import EVENT_TYPES, Filters, Floats, Interaction, Query, Ranking
from recsys.understanding.query_parser import ParsedQuery
from tests.checkerboard import ITEMS, THINGS, UNTIL, bought, left_out, setup, title


@pytest.fixture(scope="module")
def shop(shop_home: Path) -> Recommender:
    parts = setup()
    release = Release.open(ArtifactStore(str(shop_home)))
    return Recommender.over(
        release, parts.user_model(), parts.search_ranker(), parts.recommend_ranker()
    )


class AtNight(datetime):
    days = 1

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return UNTIL + timedelta(days=cls.days)


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is still the hour of the night: what is due to be bought again changes from day to day."""
    monkeypatch.setattr("recsys.pipeline.recommender.datetime", AtNight)


def event(user: str, item: int, kind: str, minutes: int = 1) -> Interaction:
    time = UNTIL + timedelta(days=1, minutes=minutes)
    return Interaction(
        event_id=f"{user}-{item}-{kind}-{minutes}",
        user_id=user,
        item_id=f"i{item:02d}",
        type=kind,
        time=time,
    )


def search(shop: Recommender, text: str, **choices: object) -> list[str]:
    query = Query(request_id="r", text=text, **choices)  # type: ignore[arg-type]
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
@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_filtered_search_gives_as_many_as_match(
    shop: Recommender,
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
    found = search(
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
    assert len(found) == len(set(found)) == min(k, len(expected))
    assert set(found) <= expected


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
    found = shop.recommend(Query(request_id="r", k=3, user_id="nobody"))
    best = np.argsort(-np.asarray(shop.release.popularity_I), kind="stable")[:3]
    assert [each.item.item_id for each in found.items] == [
        shop.release.item_ids[int(row)] for row in best
    ]
    assert not found.personalised
    assert {name for each in found.items for name in each.sources} == {"popularity"}


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_one_event_of_a_stranger_changes_his_next_recommendation(
    shop: Recommender, kind: str
) -> None:
    before = shop.recommend(Query(request_id="r", k=3, user_id="nobody"))
    after = shop.recommend(Query(request_id="r", k=3, user_id="nobody"), [event("nobody", 5, kind)])
    assert after.personalised
    assert [each.item.item_id for each in after.items] != [
        each.item.item_id for each in before.items
    ]
    assert int(after.items[0].item.item_id[1:]) % 2 == 1


def features_of(ranking: Ranking) -> dict[str, dict[str, float]]:
    """By item, as they were ranked."""
    return {
        each.item.item_id: ranking.features.row(place) for place, each in enumerate(ranking.items)
    }


def colours(ranking: Ranking) -> list[str]:
    return [each.item.title.split()[0] for each in ranking.items]


def session(*items: int) -> list[Interaction]:
    return [
        event("nobody", item, kind, at)
        for at, (item, kind) in enumerate(zip(items, EVENT_TYPES, strict=False))
    ]


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


def read(shop: Recommender, text: str) -> tuple[ParsedQuery, Floats]:
    understood = shop.understand(text)
    return understood, setup().encoder().encode_queries([understood.understanding.normalised])[0]


def declared(
    shop: Recommender, text: str, user: str = "nobody", k: int = 4, **choices: Any
) -> list[str]:
    ranking = shop.recommend(
        Query(request_id="r", k=k, user_id=user, interest=text, **choices), (), read(shop, text)
    )
    return [each.item.title for each in ranking.items]


def test_a_stranger_gets_what_he_says_he_wants_then_what_sells(shop: Recommender) -> None:
    assert declared(shop, "blue lamp", k=1) == ["blue lamp"]
    assert set(declared(shop, "lamp", k=2)) == {"red lamp", "blue lamp"}
    assert len(declared(shop, "lamp", k=9)) == 9
    ranking = shop.recommend(
        Query(request_id="r", k=2, user_id="nobody", interest="lamp"), (), read(shop, "lamp")
    )
    assert ranking.personalised
    assert all(each.sources["interest"] > 0 for each in ranking.items)
    assert "interest" in ranking.features.names


def test_an_interest_is_found_by_its_words_where_nothing_encoded_it(shop: Recommender) -> None:
    found = shop.recommend(Query(request_id="r", k=2, user_id="nobody", interest="clocks"))
    assert {each.item.title for each in found.items} == {"red clock", "blue clock"}


def test_an_interest_is_found_by_its_meaning_too(shop: Recommender) -> None:
    understood, lamp_D = shop.understand("zeppelin"), read(shop, "red lamp")[1]
    found = shop.recommend(
        Query(request_id="r", k=1, user_id="nobody", interest="zeppelin"), (), (understood, lamp_D)
    )
    assert found.items[0].item.title == "red lamp"


def test_an_interest_in_what_the_shop_has_not_leaves_what_sells(shop: Recommender) -> None:
    sells = shop.recommend(Query(request_id="r", k=5, user_id="nobody"))
    found = shop.recommend(Query(request_id="r", k=5, user_id="nobody", interest="zeppelin"))
    assert [each.item for each in found.items] == [each.item for each in sells.items]
    assert not found.personalised


def test_an_interest_stands_beside_a_history(shop: Recommender) -> None:
    """u03 buys blue things; of the red ones only the vase is offered, and what he buys again still
    is."""
    before = [
        each.item.title for each in shop.recommend(Query(request_id="r", k=6, user_id="u03")).items
    ]
    told = declared(shop, "red vase", "u03", 6)
    assert "red vase" not in before
    assert "red vase" in told
    assert len(set(told) & set(before)) >= 4


def test_an_interest_counts_less_the_more_a_user_has_done(shop: Recommender) -> None:
    def score(user: str, *items: int) -> float:
        ranking = shop.recommend(
            Query(request_id="r", k=ITEMS, user_id=user, interest="red vase"),
            session(*items),
            read(shop, "red vase"),
        )
        return next(each.score for each in ranking.items if each.item.title == "red vase")

    new, one, known = score("nobody"), score("nobody", 5), score("u03")
    assert 3 < new <= 4 > one > known + 0.5, (
        "of at most 1 from all other sources and 3, 2.6 and 1.5 from the interest"
    )


def test_an_interest_passes_the_filters_and_leaves_out_what_was_bought_today(
    shop: Recommender,
) -> None:
    assert declared(shop, "lamp", filters=Filters(max_price=14.0), k=2)[0] == "red lamp"
    assert "blue lamp" not in declared(shop, "lamp", filters=Filters(max_price=14.0), k=16)
    query = Query(request_id="r", k=4, user_id="nobody", interest="lamp")
    found = shop.recommend(query, [event("nobody", 4, "purchase")], read(shop, "lamp"))
    assert found.items[0].item.title == "blue lamp"
    assert "red lamp" not in [each.item.title for each in found.items]


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
    found = shop.recommend(query, [event("u03", 7, "purchase")])
    prices = [each.item.price or 0.0 for each in found.items]
    assert len(prices) == 5
    assert max(prices) <= 20
    assert "i07" not in [each.item.item_id for each in found.items]


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
    monkeypatch.setattr(AtNight, "days", 180)
    assert all(late < early for late, early in zip(again(), soon, strict=True) if early)
    assert sum(early > 0 for early in soon) == len(bought(3))


def test_what_was_bought_by_day_is_not_offered_again_the_same_day(shop: Recommender) -> None:
    user, wanted = 3, left_out(3)
    found = shop.recommend(
        Query(request_id="r", k=ITEMS, user_id=f"u{user:02d}"),
        [event(f"u{user:02d}", wanted, "purchase")],
    )
    offered = [int(each.item.item_id[1:]) for each in found.items]
    assert wanted not in offered
    assert set(bought(user)) <= set(offered)


def test_filters_hold_for_recommendations_and_similar_items(shop: Recommender) -> None:
    cheap = Filters(max_price=15.0)
    for found in (
        shop.recommend(Query(request_id="r", k=4, user_id="u00", filters=cheap)),
        shop.recommend(Query(request_id="r", k=4, user_id="nobody", filters=cheap)),
        shop.similar(Query(request_id="r", k=4, filters=cheap), "i00"),
    ):
        assert found.items
        assert all(each.item.price is not None and each.item.price <= 15.0 for each in found.items)


def test_scores_fall_and_features_are_logged_as_they_were_ranked(shop: Recommender) -> None:
    query = Query(request_id="r9", k=5, user_id="u00", text=title(2))
    ranking = shop.search(query, setup().encoder().encode_queries([title(2)])[0])
    scores = [each.score for each in ranking.items]
    assert scores == sorted(scores, reverse=True)
    shown = build_impression(ranking, "search", query)
    assert shown.request_id == "r9"
    assert shown.item_ids == tuple(each.item.item_id for each in ranking.items)
    assert shown.features == ranking.features
    assert len(shown.features) == 5
    for place, each in enumerate(ranking.items):
        assert each.sources.items() <= shown.features.row(place).items()
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
