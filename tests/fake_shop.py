"""A shop of three items behind the HTTP routes, without Ray, a release or a disk."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from recsys.catalogue.changes import (
    ChangeResult,
    FieldChange,
    ItemChange,
    ItemState,
    apply_change,
)
from recsys.catalogue.validation import InvalidChange, read_changes
from recsys.config import Day
from recsys.datasets.choices import CatalogueChoices
from recsys.errors import NotFoundError, SpaceMismatchError
from recsys.pictures.decode import decode_picture
from recsys.pipeline.attribution import Contribution
from recsys.pipeline.exclusion import Exclusion
from recsys.pipeline.explain import Explanation
from recsys.privacy.receipts import Receipt
from recsys.types import FacetCount, Impression, Interaction, Item, Query, Ranking, ScoredItem
from recsys.understanding.suggestion_builder import KINDS
from recsys.understanding.suggestions import Suggestion
from serve.routes.shop import Health, NotReadyError, Photo, RecordedEvents

CHAIR, LAMP = (
    Item(item_id="i1", title="red chair", category="home", brand="acme", price=10.0),
    Item(item_id="a/b", title="lamp", price=math.nan),
)
NOW = datetime(2026, 1, 3, tzinfo=UTC)
SCORED = (
    ScoredItem(item=CHAIR, score=0.5, sources={"dense": 0.5}),
    ScoredItem(item=LAMP, score=-math.inf, sources={"dense": math.nan, "lexical": 1.0}),
)


@dataclass
class FakeShop:
    """Answers from memory and records the requests."""

    day: Day = field(default_factory=lambda: Day(max_k=20, max_query_characters=30))
    queries: list[Query] = field(default_factory=list)
    photos: list[Photo] = field(default_factory=list)
    stored: dict[str, Interaction] = field(default_factory=dict)
    impressions: list[Impression] = field(default_factory=list)
    privacy_requests: list[tuple[str, str]] = field(default_factory=list)
    release: str | None = "v1"
    broken: bool = False
    states: dict[str, ItemState] = field(default_factory=dict)
    log_is_down: bool = False

    async def search(self, query: Query) -> Ranking:
        if self.broken:
            raise ZeroDivisionError(f"secret detail of {query.text} and {query.user_id}")
        if self.release is None:
            raise NotReadyError("nothing is published yet")
        self.queries.append(query)
        return Ranking(
            request_id=query.request_id,
            release=self.release,
            items=SCORED[: query.k],
            personalised=True,
            facets={"brand": (FacetCount("acme", 1),)} if query.value_facets else {},
            stages_ms={"encode": 1.0},
        )

    async def search_photo(self, query: Query, photo: Photo) -> Ranking:
        decode_picture(photo.content)
        self.photos.append(photo)
        return await self.search(query)

    recommend = search

    async def similar(self, query: Query, item_id: str) -> Ranking:
        await self.item(item_id)
        return await self.search(query)

    complements = similar

    async def variants(self, item_id: str) -> list[Item]:
        return [item for item in (CHAIR, LAMP) if item.item_id == item_id]

    async def thumbnails(self, item_ids: Sequence[str]) -> dict[str, str]:
        return {item_id: "0" * 32 for item_id in item_ids if item_id == "pictured"}

    async def thumbnail(self, content_hash: str) -> bytes:
        if content_hash != "0" * 32:
            raise NotFoundError(f"release v1 has no thumbnail of picture {content_hash}")
        return b"RIFF"

    async def suggest(self, prefix: str, k: int) -> tuple[str, list[Suggestion]]:
        return "v1", [Suggestion(f"{prefix}chair", kind, 1.5) for kind in KINDS][:k]

    async def explain(self, request_id: str, item_id: str) -> Explanation:
        if request_id != "r1":
            raise NotFoundError(f"request {request_id!r} is not in the log")
        parts = (Contribution("log_price", 2.3, 0.4), Contribution("taste vector", 0.0, -0.1))
        common: dict[str, Any] = {
            "request_id": request_id,
            "item_id": item_id,
            "release": "v1",
            "surface": "search",
            "ranker": "net@m1",
            "title": "red chair",
        }
        if item_id == "i1":
            return Explanation(
                **common,
                place=1,
                score=0.5,
                base=0.2,
                parts=parts,
                sources={"dense": 1.0},
            )
        return Explanation(**common, exclusion=Exclusion("filter", "it does not pass brand"))

    async def item(self, item_id: str) -> tuple[str, Item]:
        for item in (CHAIR, LAMP):
            if item.item_id == item_id:
                return "v1", item
        raise NotFoundError(f"item {item_id!r} is not in release v1")

    async def changed_fields(self, item_id: str) -> Mapping[str, FieldChange] | None:
        state = self.states.get(item_id)
        return None if self.log_is_down else dict(state.fields) if state else {}

    async def change_items(self, rows: Sequence[Any]) -> list[ChangeResult | InvalidChange]:
        outcomes = list[ChangeResult | InvalidChange]()
        for each in read_changes(rows, CatalogueChoices(), NOW):
            if isinstance(each, ItemChange):
                state, each = apply_change(
                    self.states.get(each.item_id),
                    each,
                    number=len(self.states) + 1,
                    time=NOW,
                    exists=lambda item_id: item_id in ("i1", "a/b"),
                )
                if state:
                    self.states[state.item_id] = state
            outcomes.append(each)
        return outcomes

    async def record(
        self, interactions: Sequence[Interaction], impressions: Sequence[Impression]
    ) -> RecordedEvents:
        valid = [event for event in interactions if event.item_id == "i1"]
        new = {event.event_id: event for event in valid if event.event_id not in self.stored}
        self.stored |= new
        self.impressions += impressions
        return RecordedEvents(
            len(new) + len(impressions), len(valid) - len(new), len(interactions) - len(valid)
        )

    async def releases(self) -> list[dict[str, Any]]:
        return [{"version": "v1"}, {"version": "v2"}]

    async def promote(self, version: str) -> None:
        if version == "other-space":
            raise SpaceMismatchError(
                "release other-space holds vectors of space 'a' but the encoder makes 'b'"
            )
        if version not in ("v1", "v2"):
            raise NotFoundError(f"release {version!r} is not there: choose one of v1, v2")
        self.release = version

    def health(self) -> Health:
        return Health(
            self.release,
            datetime(2026, 1, 1, tzinfo=UTC) if self.release else None,
            "s",
            {"v0": "damaged"},
        )

    async def forget(self, user_id: str) -> Receipt:
        self.privacy_requests.append(("forget", user_id))
        return Receipt("token", NOW, {"log/interactions": 2}, {"releases/v1/users.arrow": 1})

    async def check_receipt(self, token: str) -> tuple[datetime, dict[str, int]]:
        if token != "token":
            raise NotFoundError("this is no receipt of this shop's event log")
        return NOW, {}

    async def opt_out(self, user_id: str, opted_out: bool) -> None:
        self.privacy_requests.append(("out" if opted_out else "in", user_id))

    def close(self) -> None: ...


# Requests and answers


def event(**changes: Any) -> dict[str, Any]:
    return {"event_id": "e1", "user_id": "u1", "item_id": "i1", "type": "cart", **changes}


def strict_json(response: Any) -> Any:
    """The body, which must be JSON without NaN."""
    return json.loads(
        response.content, parse_constant=lambda name: pytest.fail(f"{name} in {response.text}")
    )


def error_of(response: Any, status: int, field: str | None) -> Any:
    """The error of a refusal, which must have that status and name that field."""
    body = strict_json(response)
    assert response.status_code == status, body
    assert set(body) == {"error", "request_id"}
    assert set(body["error"]) == {"message", "field", "value", "allowed"}
    assert body["error"]["field"] == field
    assert len(response.content) < 2000
    return body["error"]
