"""Simulated shoppers against a shop that always shows the same list."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import pytest

from recsys.errors import InputError
from recsys.market.click_models import CascadeModel, ClickModel, ClickSpam, PositionBasedModel
from recsys.simulation.shoppers import ClickLog, ShopperClients, Shoppers, send_requests
from tests.test_market import market

POSITION_BASED = PositionBasedModel()
LIST = ["i03", "i00", "i07"]


@dataclass
class FixedShop:
    """Answers every `fails_at`-th request with 503, and records requests and events."""

    fails_at: int = 0
    refuses: bool = False
    requests: list[httpx.URL] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            self.events += json.loads(request.content)
            return httpx.Response(422 if self.refuses else 200, json={})
        self.requests.append(request.url)
        number = len(self.requests)
        if self.fails_at and number % self.fails_at == 0:
            return httpx.Response(503)
        items = [{"item_id": item} for item in LIST]
        answer = {"request_id": f"r{number}", "release": "v1", "items": items}
        return httpx.Response(200, json=answer)


def day(
    shop: FixedShop, model: ClickModel = POSITION_BASED, spam: Any = None, seed: int = 0
) -> ClickLog:
    async def run() -> ClickLog:
        transport = httpx.MockTransport(shop)
        async with httpx.AsyncClient(base_url="http://shop", transport=transport) as client:
            requests = market().requests(60, seed=1)
            return await send_requests([client], Shoppers(market(), model, spam), requests, seed, 4)

    return asyncio.run(run())


def test_the_log_has_the_lists_and_the_clicks_that_the_shop_received() -> None:
    shop = FixedShop()
    log = day(shop)
    assert log.rows_BK.tolist() == [[3, 0, 7, -1]] * 60
    assert log.failures == 0
    received = {
        (event["request_id"], event["item_id"]) for event in shop.events if event["type"] == "click"
    }
    clicked = {
        (log.request_ids[b], market().ids[log.rows_BK[b, k]])
        for b, k in np.argwhere(log.clicked_BK)
    }
    assert received == clicked != set()
    ids = {event["event_id"] for event in shop.events}
    assert len(ids) == len(shop.events) == log.events_B.sum()


def test_searches_are_for_the_category_in_words_and_name_the_user() -> None:
    shop = FixedShop()
    requests = day(shop).requests
    queries = [url.params["q"] for url in shop.requests if url.path == "/search"]
    assert sorted(queries) == sorted(market().queries[c] for c in requests.categories_B if c >= 0)
    users = {url.params["user_id"] for url in shop.requests}
    assert users == {f"u{user:04d}" for user in requests.users_B}


def test_failures_are_counted_and_nothing_is_clicked_in_them() -> None:
    log = day(FixedShop(fails_at=4))
    assert log.failures == 15
    assert not log.clicked_BK[~log.is_answered_B].any()
    assert (log.rows_BK[~log.is_answered_B] == -1).all()


def test_refused_events_stop_the_day() -> None:
    with pytest.raises(InputError, match="refused"):
        day(FixedShop(refuses=True))


def test_the_same_seed_clicks_the_same() -> None:
    first, again, other = (day(FixedShop(), seed=seed).clicked_BK for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_spammer_clicks_the_item_at_any_position_and_buys_nothing() -> None:
    spam = ClickSpam(tuple(range(10)), row=7)
    log = day(FixedShop(), model=CascadeModel(), spam=spam)
    by_spammer = log.requests.users_B < 10
    clicks = log.clicked_BK[by_spammer].tolist()
    assert clicks == [[False, False, True, False]] * int(by_spammer.sum())
    assert not log.purchased_BK[by_spammer].any()


def test_every_shopper_has_an_address_of_their_own() -> None:
    async def addresses() -> set[Any]:
        async with ShopperClients("http://127.0.0.1:1", market().shoppers) as clients:
            transports: list[Any] = [clients[user]._transport for user in range(len(clients))]
            return {transport._pool._local_address for transport in transports}

    assert len(asyncio.run(addresses())) == market().shoppers
