"""A declared interest: one more source of a recommendation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recsys.pipeline.recommender import Recommender
from recsys.types import Filters, Floats, Query
from recsys.understanding.query_parser import ParsedQuery
from tests.checkerboard import ITEMS, setup
from tests.checkerboard_online import NightClock, event, open_recommender, session


@pytest.fixture(scope="module")
def shop(shop_home: Path) -> Recommender:
    return open_recommender(shop_home)


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is still the hour of the night: what is due to be bought again changes from day to day."""
    monkeypatch.setattr("recsys.pipeline.recommender.datetime", NightClock)


def encode_interest(shop: Recommender, text: str) -> tuple[ParsedQuery, Floats]:
    parsed = shop.understand(text)
    return parsed, setup().encoder().encode_queries([parsed.understanding.normalised])[0]


def declared(
    shop: Recommender, text: str, user: str = "nobody", k: int = 4, **choices: Any
) -> list[str]:
    ranking = shop.recommend(
        Query(request_id="r", k=k, user_id=user, interest=text, **choices),
        (),
        encode_interest(shop, text),
    )
    return [each.item.title for each in ranking.items]


def test_a_stranger_gets_the_declared_interest_then_what_sells(shop: Recommender) -> None:
    assert declared(shop, "blue lamp", k=1) == ["blue lamp"]
    assert set(declared(shop, "lamp", k=2)) == {"red lamp", "blue lamp"}
    assert len(declared(shop, "lamp", k=9)) == 9
    ranking = shop.recommend(
        Query(request_id="r", k=2, user_id="nobody", interest="lamp"),
        (),
        encode_interest(shop, "lamp"),
    )
    assert ranking.personalised
    assert all(each.sources["interest"] > 0 for each in ranking.items)
    assert "interest" in ranking.features.names


def test_an_interest_is_found_by_its_words_where_nothing_encoded_it(shop: Recommender) -> None:
    ranking = shop.recommend(Query(request_id="r", k=2, user_id="nobody", interest="clocks"))
    assert {each.item.title for each in ranking.items} == {"red clock", "blue clock"}


def test_an_interest_is_found_by_its_meaning_too(shop: Recommender) -> None:
    parsed, lamp_D = shop.understand("zeppelin"), encode_interest(shop, "red lamp")[1]
    ranking = shop.recommend(
        Query(request_id="r", k=1, user_id="nobody", interest="zeppelin"), (), (parsed, lamp_D)
    )
    assert ranking.items[0].item.title == "red lamp"


def test_an_interest_in_what_the_shop_has_not_leaves_what_sells(shop: Recommender) -> None:
    sells = shop.recommend(Query(request_id="r", k=5, user_id="nobody"))
    ranking = shop.recommend(Query(request_id="r", k=5, user_id="nobody", interest="zeppelin"))
    assert [each.item for each in ranking.items] == [each.item for each in sells.items]
    assert not ranking.personalised


def test_an_interest_stands_beside_a_history(shop: Recommender) -> None:
    """u03 buys blue things; of the red ones only the vase is offered, and what they buy again
    still is."""
    before = [
        each.item.title for each in shop.recommend(Query(request_id="r", k=6, user_id="u03")).items
    ]
    titles = declared(shop, "red vase", "u03", 6)
    assert "red vase" not in before
    assert "red vase" in titles
    assert len(set(titles) & set(before)) >= 4


def test_an_interest_counts_less_the_more_a_user_has_done(shop: Recommender) -> None:
    def score(user: str, *items: int) -> float:
        ranking = shop.recommend(
            Query(request_id="r", k=ITEMS, user_id=user, interest="red vase"),
            session(*items),
            encode_interest(shop, "red vase"),
        )
        return next(each.score for each in ranking.items if each.item.title == "red vase")

    new, one, regular = score("nobody"), score("nobody", 5), score("u03")
    assert 3 < new <= 4 > one > regular + 0.5, (
        "of at most 1 from all other sources and 3, 2.6 and 1.5 from the interest"
    )


def test_an_interest_passes_the_filters_and_leaves_out_what_was_bought_today(
    shop: Recommender,
) -> None:
    assert declared(shop, "lamp", filters=Filters(max_price=14.0), k=2)[0] == "red lamp"
    assert "blue lamp" not in declared(shop, "lamp", filters=Filters(max_price=14.0), k=16)
    query = Query(request_id="r", k=4, user_id="nobody", interest="lamp")
    ranking = shop.recommend(query, [event("nobody", 4, "purchase")], encode_interest(shop, "lamp"))
    assert ranking.items[0].item.title == "blue lamp"
    assert "red lamp" not in [each.item.title for each in ranking.items]
