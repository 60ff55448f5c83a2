"""Synthetic traffic: HTTP requests drawn from a release's titles, items and users."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.random import Generator

from recsys.release.release import Release

#: Of 100 requests so many go to each route.
ROUTES = {"search": 45, "recommend": 30, "similar": 15, "events": 10}
#: Of 100 visitors so many are in the release, come for the first time, or send no user id.
VISITORS = {"returning": 70, "new": 15, "anonymous": 15}


@dataclass(frozen=True)
class Call:
    """A request to be sent: a GET of `path`, or a POST of `body`."""

    route: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Traffic:
    """A source of calls to the routes in the proportions of `mix`. Pickles small enough to travel
    to another process."""

    titles: tuple[str, ...]
    item_ids: tuple[str, ...]
    user_ids: tuple[str, ...]
    mix: Mapping[str, int] = field(default_factory=lambda: dict(ROUTES))

    @classmethod
    def of(cls, release: Release, mix: Mapping[str, int] = ROUTES, items: int = 5_000) -> Traffic:
        """Draws `items` titles and ids of the release by popularity, so that popular items are
        requested more often."""
        rng = np.random.default_rng(0)
        weights_I = np.asarray(release.popularity_I, np.float64) + 1e-3
        rows = rng.choice(len(weights_I), items, p=weights_I / weights_I.sum())
        sample = release.items.select(["item_id", "title"]).take(rows).to_pylist()
        titles = tuple(item["title"] or "" for item in sample)
        user_ids = tuple(str(user) for user in release.users["user_id"].to_pylist())
        return cls(titles, tuple(item["item_id"] for item in sample), user_ids, dict(mix))

    def calls(self, seed: int = 0) -> Iterator[Call]:
        """An endless sequence, equal for equal seeds but for the ids of new events."""
        rng, routes = np.random.default_rng(seed), list(self.mix)
        shares = np.array([self.mix[route] for route in routes], float)
        while True:
            for route in rng.choice(routes, 256, p=shares / shares.sum()).tolist():
                yield getattr(self, f"_{route}")(rng)

    def route_calls(self, route: str, seed: int = 1) -> Iterator[Call]:
        """The calls to one route."""
        return (call for call in self.calls(seed) if call.route == route)

    def _search(self, rng: Generator) -> Call:
        """One to three consecutive words of a title; every fourth search counts facets, every fifth
        filters by stock."""
        words = self.titles[rng.integers(len(self.titles))].split() or ["milk"]
        count = min(len(words), int(rng.integers(1, 4)))
        start = int(rng.integers(len(words) - count + 1))
        text = " ".join(words[start : start + count])[:200]
        params = {"q": text, "k": "10", **self._user(rng)}
        if rng.random() < 0.25:
            params["facets"] = "true"
        if rng.random() < 0.2:
            params["in_stock"] = "true"
        return Call("search", "/search", params)

    def _recommend(self, rng: Generator) -> Call:
        return Call("recommend", "/recommend", {"k": "10", **self._user(rng)})

    def _similar(self, rng: Generator) -> Call:
        return Call("similar", f"/similar/{self._item(rng)}", {"k": "10"})

    def _events(self, rng: Generator) -> Call:
        user_id = self._user(rng).get("user_id") or _new_user(rng)
        kind = str(rng.choice(["view", "click", "cart", "purchase"], p=[0.5, 0.3, 0.1, 0.1]))
        ids = {"event_id": uuid.uuid4().hex, "user_id": user_id, "item_id": self._item(rng)}
        return Call("events", "/events", body={**ids, "type": kind})

    def _item(self, rng: Generator) -> str:
        return self.item_ids[rng.integers(len(self.item_ids))]

    def _user(self, rng: Generator) -> dict[str, str]:
        shares = np.array(list(VISITORS.values()))
        visitor = str(rng.choice(list(VISITORS), p=shares / shares.sum()))
        if visitor == "anonymous":
            return {}
        if visitor == "returning" and self.user_ids:
            return {"user_id": self.user_ids[rng.integers(len(self.user_ids))]}
        return {"user_id": _new_user(rng)}


def _new_user(rng: Generator) -> str:
    return f"new-{rng.integers(1 << 40):x}"
