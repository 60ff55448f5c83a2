"""Simulated shoppers over HTTP: they search, ask for recommendations, click and buy in a running
shop.

Legend: B requests, K positions. The random numbers of a request are seeded by its number, so that
the order in which concurrent answers arrive does not matter."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np

from recsys.errors import InputError
from recsys.market.click_models import ClickModel, ClickSpam, draw_purchases
from recsys.market.market import Market, RequestBatch, user_id
from recsys.types import Ints, Mask, Rows

CONCURRENT_REQUESTS = 8


@dataclass(frozen=True)
class Shoppers:
    """A population that behaves by a market and a click model, some of it spammers."""

    market: Market
    model: ClickModel
    spam: ClickSpam | None = None

    def act(
        self, requests: RequestBatch, rows_BK: Rows, rng: np.random.Generator
    ) -> tuple[Mask, Mask]:
        """The clicks on and the purchases from the lists that answer these requests, each
        [B, K]."""
        attraction_BK = self.market.attraction_of(requests, rows_BK)
        clicked_BK = self.model.draw_clicks(attraction_BK, rng)
        purchased_BK = draw_purchases(clicked_BK, attraction_BK, rng)
        if self.spam:
            purchased_BK &= ~self.spam.is_spammer(requests.users_B)
            clicked_BK = self.spam.replace_clicks(clicked_BK, requests.users_B, rows_BK)
        return clicked_BK, purchased_BK


@dataclass(frozen=True, eq=False, kw_only=True)
class ClickLog:
    """Requests, the lists that answered them (rows_BK, padded with -1), clicks and purchases.
    `releases` is None where a request failed."""

    requests: RequestBatch
    rows_BK: Rows
    clicked_BK: Mask
    purchased_BK: Mask
    request_ids: tuple[str, ...]
    releases: tuple[str | None, ...]

    @classmethod
    def of_lists(cls, requests: RequestBatch, rows_BK: Rows) -> ClickLog:
        """Lists that nobody clicked."""
        no_action_BK = np.zeros(rows_BK.shape, bool)
        return cls(
            requests=requests,
            rows_BK=rows_BK,
            clicked_BK=no_action_BK,
            purchased_BK=no_action_BK,
            request_ids=("",) * len(rows_BK),
            releases=("",) * len(rows_BK),
        )

    @property
    def failures(self) -> int:
        """Requests without an answer."""
        return sum(release is None for release in self.releases)

    @property
    def is_answered_B(self) -> Mask:
        return np.array([release is not None for release in self.releases])

    @property
    def events_B(self) -> Ints:
        return self.clicked_BK.sum(axis=1) + self.purchased_BK.sum(axis=1)

    def answered(self) -> tuple[RequestBatch, Rows]:
        """The requests that were answered, and their lists."""
        return self.requests.take(self.is_answered_B), self.rows_BK[self.is_answered_B]


class ShopperClients:
    """An HTTP client for each shopper, opened on first use and closed with the block.

    Against a server on this machine each has an address of its own below 127.0.0.0/8: to a shop
    that counts votes by address they are many shoppers, not one household."""

    def __init__(self, url: str, shoppers: int) -> None:
        self.url, self.shoppers = url, shoppers
        self.is_local = urlsplit(url).hostname in ("127.0.0.1", "localhost")
        self.clients: dict[int, httpx.AsyncClient] = {}

    def __len__(self) -> int:
        return self.shoppers

    def __getitem__(self, number: int) -> httpx.AsyncClient:
        if number not in self.clients:
            address = f"127.1.{number // 250}.{number % 250 + 1}" if self.is_local else None
            transport = httpx.AsyncHTTPTransport(verify=False, local_address=address)
            self.clients[number] = httpx.AsyncClient(
                base_url=self.url, timeout=30, transport=transport
            )
        return self.clients[number]

    async def __aenter__(self) -> ShopperClients:
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for client in self.clients.values():
            await client.aclose()


async def send_requests(
    clients: ShopperClients | Sequence[httpx.AsyncClient],
    shoppers: Shoppers,
    requests: RequestBatch,
    seed: int,
    k: int = 10,
) -> ClickLog:
    """Sends the requests in order, CONCURRENT_REQUESTS at once, each followed by the events of its
    clicks and purchases. `clients[u]` is the client of shopper u, modulo their number.

    An answer other than 200 is a failure. Raises InputError where events are refused: what the shop
    learns from would not be what happened."""
    slots = asyncio.Semaphore(CONCURRENT_REQUESTS)

    async def send(number: int) -> tuple[Mapping[str, Any], Rows, Mask, Mask]:
        request = requests.take(slice(number, number + 1))
        client = clients[int(request.users_B[0]) % len(clients)]
        async with slots:
            answer = await _get(client, *_path_and_params(shoppers.market, request, k))
            items = [item["item_id"] for item in answer["items"]]
            rows_1K = shoppers.market.rows(items, k)[None]
            rng = np.random.default_rng([seed, number])
            clicked_1K, purchased_1K = shoppers.act(request, rows_1K, rng)
            events = _events(answer, items, request, clicked_1K[0], purchased_1K[0])
            await _post_events(client, events)
        return answer, rows_1K[0], clicked_1K[0], purchased_1K[0]

    results = await asyncio.gather(*(send(number) for number in range(len(requests))))
    answers, rows, clicked, purchased = zip(*results, strict=True)
    return ClickLog(
        requests=requests,
        rows_BK=np.stack(rows),
        clicked_BK=np.stack(clicked),
        purchased_BK=np.stack(purchased),
        request_ids=tuple(answer["request_id"] for answer in answers),
        releases=tuple(answer["release"] for answer in answers),
    )


def _path_and_params(market: Market, request: RequestBatch, k: int) -> tuple[str, dict[str, Any]]:
    [user], [category] = request.users_B.tolist(), request.categories_B.tolist()
    params = {"user_id": user_id(user), "k": k}
    if category < 0:
        return "/recommend", params
    return "/search", {"q": market.queries[category], **params}


async def _get(client: httpx.AsyncClient, path: str, params: dict[str, Any]) -> Mapping[str, Any]:
    """The answer; without one an empty list of no release, on which nobody clicks."""
    failed: dict[str, Any] = {"request_id": "", "release": None, "items": []}
    try:
        response = await client.get(path, params=params)
    except httpx.HTTPError:
        return failed
    return response.json() if response.status_code == 200 else failed


def _events(
    answer: Mapping[str, Any],
    items: Sequence[str],
    request: RequestBatch,
    clicked_K: Mask,
    purchased_K: Mask,
) -> list[dict[str, Any]]:
    """As POST /events takes them. Ids are made of request and position: sent twice, an event counts
    once."""
    return [
        {
            "event_id": f"{answer['request_id']}-{position}-{kind}",
            "user_id": user_id(int(request.users_B[0])),
            "item_id": items[position],
            "type": kind,
            "request_id": answer["request_id"],
        }
        for kind, mask_K in (("click", clicked_K), ("purchase", purchased_K))
        for position in np.flatnonzero(mask_K).tolist()
    ]


async def _post_events(client: httpx.AsyncClient, events: list[dict[str, Any]]) -> None:
    if not events:
        return
    response = await client.post("/events", json=events)
    if response.status_code != 200:
        raise InputError(
            f"the shop refused {len(events)} events ({response.text[:300]}): see its log"
        )
