"""What travels over HTTP: parameters and events coming in, answers and errors going out."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi.responses import Response
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from typing_extensions import TypedDict

from recsys.config import Day
from recsys.errors import InputError
from recsys.types import Filters, Impression, Interaction, Item, Query, Ranking, ScoredItem

MAX_EVENTS = 1000
MAX_BODY_BYTES = 1 << 20
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_CLOCK_SKEW = timedelta(minutes=5)


class RefusedError(InputError):
    """A request that cannot be used: `field` has `value`, and `allowed` says what it may have."""

    def __init__(self, field: str, value: Any, allowed: str, status: int = 422, message: str = "") -> None:
        super().__init__(message or f"{field} is {_shown(value)!r}: give {allowed}")
        self.field, self.value, self.allowed, self.status = field, value, allowed, status


def allowed(day: Day) -> dict[str, str]:
    """What each field may hold, in words that complete "give"."""
    an_id = "1 to 256 characters, not all spaces, without control characters"
    a_price = "a number from 0 up"
    return {
        "q": f"1 to {day.max_query_characters} characters, not all spaces, without control characters",
        "k": f"a whole number from 1 to {day.max_k}",
        **dict.fromkeys(("user_id", "item_id", "event_id", "request_id", "category", "brand"), an_id),
        **dict.fromkeys(("min_price", "max_price", "price"), a_price),
        "in_stock": "true or false",
        "type": "impression, view, click, cart or purchase",
        "time": "an ISO 8601 time with its zone, from 1970 to 5 minutes from now, such as 2026-01-31T18:00:00Z",
        "quantity": "a number above 0",
        "item_ids": "a list of 1 to 1,000 item ids",
    }


def _text(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("not a text")  # pydantic would take a number for seconds since 1970
    return value


def _plausible(time: datetime) -> datetime:
    if not _EARLIEST <= time <= datetime.now(UTC) + _CLOCK_SKEW:
        raise ValueError("out of range")
    return time


#: Text that is safe to store, log and print: no control characters (NUL, newlines, escapes).
Id = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^\P{Cc}*[^\s\p{Cc}]\P{Cc}*$")]
Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Quantity = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Time = Annotated[AwareDatetime, BeforeValidator(_text), AfterValidator(_plausible)]


class Page(BaseModel):
    k: int = 10


class Filtered(Page):
    user_id: Id | None = None
    category: Id | None = None
    brand: Id | None = None
    min_price: Price | None = None
    max_price: Price | None = None
    in_stock: bool | None = None


class Search(Filtered):
    q: Annotated[str, StringConstraints(pattern=r"^\P{Cc}*[^\s\p{Cc}]\P{Cc}*$")]


class _Event(BaseModel):
    model_config = ConfigDict(extra="forbid")
    event_id: Id = Field(default_factory=lambda: uuid.uuid4().hex)
    time: Time = Field(default_factory=lambda: datetime.now(UTC))


class Event(_Event):
    """Something a user did with an item; `request_id` names the answer that showed it."""

    type: Literal["view", "click", "cart", "purchase"]
    user_id: Id
    item_id: Id
    request_id: Id | None = None
    quantity: Quantity = 1.0
    price: Price | None = None

    def interaction(self) -> Interaction:
        return Interaction(**dict(self))


class Shown(_Event):
    """An impression, from clients that show lists of their own; ours are logged without their help."""

    type: Literal["impression"]
    request_id: Id
    item_ids: Annotated[list[Id], Field(min_length=1, max_length=1000)]
    user_id: Id | None = None

    def impression(self, release: str) -> Impression:
        return Impression(self.request_id, self.time, release, "client", tuple(self.item_ids), user_id=self.user_id)


class ItemFields(TypedDict):
    item_id: str
    title: str
    brand: str
    category: str
    price: float | None
    in_stock: bool


class AnswerItem(ItemFields):
    score: float
    sources: dict[str, float]


class Answer(TypedDict):
    request_id: str
    release: str
    personalised: bool
    items: list[AnswerItem]


class EventsAnswer(TypedDict):
    request_id: str
    release: str | None
    accepted: int
    duplicates: int
    quarantined: int
    event_ids: list[str]


class Json(Response):
    """UTF-8 JSON without NaN; half a surrogate pair, which JSON can carry and UTF-8 cannot, becomes "?"."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8", "replace")


def query_of(request_id: str, page: Page, day: Day) -> Query:
    """Raises RefusedError on what only the setup can judge: k, the query's length, the order of the price bounds."""
    words = allowed(day)
    if not 1 <= page.k <= day.max_k:
        raise RefusedError("k", page.k, words["k"])
    if not isinstance(page, Filtered):
        return Query(request_id, page.k)
    text = page.q.strip() if isinstance(page, Search) else None
    if text is not None and len(text) > day.max_query_characters:
        raise RefusedError("q", text, words["q"])
    return Query(request_id, page.k, page.user_id, text, _filters(page))


def _filters(page: Filtered) -> Filters:
    if page.min_price is not None and page.max_price is not None and page.min_price > page.max_price:
        raise RefusedError("min_price", page.min_price, f"at most max_price, which is {page.max_price:g}")
    category = (page.category,) if page.category else ()
    brand = (page.brand,) if page.brand else ()
    return Filters(category, brand, page.min_price, page.max_price, page.in_stock)


def events_of(body: bytes) -> list[Event | Shown]:
    """One event, a list of them, or {"events": [...]}; pydantic.ValidationError or RefusedError names the bad one."""
    shape = f'one event, a list of at most {MAX_EVENTS:,}, or {{"events": [...]}}, as JSON'
    try:
        sent = json.loads(body)
    except (ValueError, RecursionError):
        raise RefusedError("body", body[:100].decode("utf-8", "replace"), shape, status=400) from None
    rows = sent["events"] if isinstance(sent, dict) and set(sent) == {"events"} else sent
    rows = [rows] if isinstance(rows, dict) else rows
    if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_EVENTS:
        count = f"{len(rows):,} events" if isinstance(rows, list) else rows
        raise RefusedError("body", count, shape)
    return [_event(at, row) for at, row in enumerate(rows)]


def _event(at: int, row: Any) -> Event | Shown:
    if not isinstance(row, dict):
        raise RefusedError(f"events[{at}]", row, "an object with user_id, item_id and type")
    return (Shown if row.get("type") == "impression" else Event).model_validate(row)


def refusal(errors: Sequence[Mapping[str, Any]], words: Mapping[str, str]) -> RefusedError:
    """The first of pydantic's errors as ours."""
    error = errors[0]
    field = next((str(part) for part in reversed(error["loc"]) if isinstance(part, str)), "body")
    if error["type"] == "missing":
        message = f"{field} is missing: give {words.get(field, 'it')}"
        return RefusedError(field, None, words.get(field, ""), message=message)
    if error["type"] == "extra_forbidden":
        return RefusedError(field, error["input"], "only the fields of an event, as /docs lists them")
    return RefusedError(field, error["input"], words.get(field, error["msg"]))


def error(message: str, request_id: str, field: str | None = None, value: Any = None, words: str | None = None) -> Any:
    """The body of every answer above 399."""
    told = {"message": message, "field": field, "value": _shown(value), "allowed": words}
    return {"error": told, "request_id": request_id}


def _shown(value: Any) -> str | int | bool | None:
    """A value as an error shows it: short, and never NaN."""
    if value is None or isinstance(value, bool) or (isinstance(value, int) and abs(value) < 2**53):
        return value
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."


def answer(ranking: Ranking) -> Answer:
    return {
        "request_id": ranking.request_id,
        "release": ranking.release,
        "personalised": ranking.personalised,
        "items": [_scored(item) for item in ranking.items],
    }


def _scored(scored: ScoredItem) -> AnswerItem:
    return {
        **item_fields(scored.item),
        "score": scored.score if math.isfinite(scored.score) else 0.0,
        "sources": {name: value for name, value in scored.sources.items() if math.isfinite(value)},
    }


def item_fields(item: Item) -> ItemFields:
    price = item.price if item.price is not None and math.isfinite(item.price) else None
    return {
        "item_id": item.item_id,
        "title": item.title,
        "brand": item.brand,
        "category": item.category,
        "price": price,
        "in_stock": item.in_stock,
    }
