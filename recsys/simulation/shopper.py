"""Shoppers over HTTP: they search, ask for recommendations, look, click and buy in a shop that is
running.

Legend: B requests, K places. What a request does is drawn from its number, so that it does not
matter which of many answers comes first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np

from recsys.errors import InputError
from recsys.simulation.clicks import ClickModel, Spam, purchases
from recsys.simulation.market import Market, user_id
from recsys.types import Floats, Ints, Mask, Rows

#: Requests under way at once.
AT_ONCE = 8


@dataclass(frozen=True)
class Visit:
    """What one answer showed and what was done with it; `release` is None where there was no
    answer."""

    request_id: str
    release: str | None
    rows_K: Rows
    clicked_K: Mask
    bought_K: Mask


@dataclass(frozen=True)
class Log:
    """A day: who asked for what (`market.Market.requests`), what was shown (rows_BK, -1 pads),
    clicked and bought."""

    users_B: Ints
    wanted_B: Ints
    rows_BK: Rows
    clicked_BK: Mask
    bought_BK: Mask
    request_ids: tuple[str, ...]
    releases: tuple[str | None, ...]

    @classmethod
    def of(cls, users_B: Ints, wanted_B: Ints, visits: Sequence[Visit]) -> Log:
        """`visits[b]` is what came of request b."""
        return cls(
            users_B,
            wanted_B,
            np.stack([visit.rows_K for visit in visits]),
            np.stack([visit.clicked_K for visit in visits]),
            np.stack([visit.bought_K for visit in visits]),
            tuple(visit.request_id for visit in visits),
            tuple(visit.release for visit in visits),
        )

    @property
    def failures(self) -> int:
        """Requests without an answer."""
        return sum(release is None for release in self.releases)

    @property
    def answered_B(self) -> Mask:
        return np.array([release is not None for release in self.releases])

    @property
    def events(self) -> int:
        return int(self.clicked_BK.sum() + self.bought_BK.sum())


class Doors:
    """A client for each shopper, made when he first comes.

    On this machine each has an address of its own below 127.0.0.0/8: a shop that counts what comes
    from one address then sees shoppers, not a crowd in one house."""

    def __init__(self, url: str, shoppers: int) -> None:
        self.url, self.shoppers = url, shoppers
        self.here = urlsplit(url).hostname in ("127.0.0.1", "localhost")
        self.made: dict[int, httpx.AsyncClient] = {}

    def __len__(self) -> int:
        return self.shoppers

    def __getitem__(self, number: int) -> httpx.AsyncClient:
        if number not in self.made:
            address = f"127.1.{number // 250}.{number % 250 + 1}" if self.here else None
            transport = httpx.AsyncHTTPTransport(verify=False, local_address=address)
            self.made[number] = httpx.AsyncClient(
                base_url=self.url, timeout=30, transport=transport
            )
        return self.made[number]


@asynccontextmanager
async def clients(url: str, market: Market) -> AsyncIterator[Doors]:
    """One a shopper, closed at the end."""
    doors = Doors(url, market.shoppers)
    try:
        yield doors
    finally:
        for client in doors.made.values():
            await client.aclose()


async def shop(
    to: Doors | Sequence[httpx.AsyncClient],
    market: Market,
    model: ClickModel,
    asked: tuple[Ints, Ints],
    seed: int,
    places: int = 10,
    spam: Spam | None = None,
) -> Log:
    """Sends the requests `asked` (`Market.requests`), in order but AT_ONCE under way, each followed
    by what the shopper then does. `to[u]` is the client of shopper u, the same for all where it has
    length 1.

    An answer other than 200 is a failure, and so is no answer; refused events are an InputError:
    what the shop learns from would not be what happened."""
    users_B, wanted_B = asked
    open_doors = asyncio.Semaphore(AT_ONCE)

    async def visit(number: int, user: int, wanted: int) -> Visit:
        async with open_doors:
            client = to[user % len(to)]
            answer = await _answer(client, _request(market, user, wanted, places))
            done = _visited(
                market,
                model,
                user,
                wanted,
                answer,
                np.random.default_rng([seed, number]),
                places,
                spam,
            )
            await _post(client, _events(market, user, done))
            return done

    pairs = enumerate(zip(users_B.tolist(), wanted_B.tolist(), strict=True))
    visits = await asyncio.gather(
        *(visit(number, user, wanted) for number, (user, wanted) in pairs)
    )
    return Log.of(users_B, wanted_B, visits)


def _request(market: Market, user: int, wanted: int, places: int) -> tuple[str, dict[str, Any]]:
    """Path and parameters."""
    shared = {"user_id": user_id(user), "k": places}
    return (
        ("/search", {"q": market.words[wanted], **shared})
        if wanted >= 0
        else ("/recommend", shared)
    )


async def _answer(
    client: httpx.AsyncClient, request: tuple[str, dict[str, Any]]
) -> Mapping[str, Any] | None:
    path, params = request
    try:
        response = await client.get(path, params=params)
    except httpx.HTTPError:
        return None
    return response.json() if response.status_code == 200 else None


def _visited(
    market: Market,
    model: ClickModel,
    user: int,
    wanted: int,
    answer: Mapping[str, Any] | None,
    rng: np.random.Generator,
    places: int,
    spam: Spam | None,
) -> Visit:
    if answer is None:
        nothing_K = np.zeros(places, bool)
        return Visit("", None, np.full(places, -1, np.int32), nothing_K, nothing_K)
    user_1, wanted_1 = np.array([user]), np.array([wanted])
    rows_1K = market.rows([item["item_id"] for item in answer["items"]], places)[None]
    clicked_1K, bought_1K = acted(market, model, (user_1, wanted_1), rows_1K, rng, spam)
    return Visit(answer["request_id"], answer["release"], rows_1K[0], clicked_1K[0], bought_1K[0])


def acted(
    market: Market,
    model: ClickModel,
    asked: tuple[Ints, Ints],
    rows_BK: Rows,
    rng: np.random.Generator,
    spam: Spam | None = None,
) -> tuple[Mask, Mask]:
    """What is clicked and what bought of the lists that answered `asked`, each [B, K]."""
    attraction_BK: Floats = market.shown(*asked, rows_BK)
    clicked_BK = model.clicks(attraction_BK, rng)
    bought_BK = purchases(clicked_BK, attraction_BK, rng)
    if spam:
        bought_BK &= ~np.isin(asked[0], spam.shoppers)[:, None]
        clicked_BK = spam.clicks(clicked_BK, asked[0], rows_BK)
    return clicked_BK, bought_BK


def _events(market: Market, user: int, done: Visit) -> list[dict[str, Any]]:
    """As POST /events takes them; the id of each is made of its request and place: sent twice it
    counts once."""
    kinds = (("click", done.clicked_K), ("purchase", done.bought_K))
    return [
        {
            "event_id": f"{done.request_id}-{place}-{kind}",
            "user_id": user_id(user),
            "item_id": str(market.ids[done.rows_K[place]]),
            "type": kind,
            "request_id": done.request_id,
        }
        for kind, there_K in kinds
        for place in np.flatnonzero(there_K).tolist()
    ]


async def _post(client: httpx.AsyncClient, events: list[dict[str, Any]]) -> None:
    if not events:
        return
    response = await client.post("/events", json=events)
    if response.status_code != 200:
        raise InputError(
            f"the shop refused {len(events)} events ({response.text[:300]}): see its log"
        )
