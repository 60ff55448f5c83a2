"""What comes in over HTTP, parameters and events, and the errors that refuse it; `answers` are what
goes out."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Annotated, Any, Literal

import orjson
from fastapi.responses import Response
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)

from recsys.config import Day
from recsys.errors import InputError
from recsys.types import SORTS, Filters, Impression, Interaction, Query

MAX_EVENTS = 1000
#: Values that one request may select in a facet.
MAX_SELECTED = 50
#: How far one may page into an answer.
MAX_OFFSET = 1000
MAX_BODY_BYTES = 1 << 20
MAX_URL_BYTES = 16 << 10
#: Of one query string: a few facets full, and all the rest.
MAX_PARAMETERS = 200
DIVERSITY = (
    "0: as ranked; 1: items as little alike as can be. The shop's own where it is not given."
)
INTEREST = "What the user says he wants, in words, such as: running shoes. Counts less the more the user has done."
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_CLOCK_SKEW = timedelta(minutes=5)


class RefusedError(InputError):
    """A request that cannot be used: `field` has `value`, and `allowed` says what it may have."""

    def __init__(
        self, field: str, value: Any, allowed: str, status: int = 422, message: str = ""
    ) -> None:
        super().__init__(message or f"{field} is {_shown(value)!r}: give {allowed}")
        self.field, self.value, self.allowed, self.status = field, value, allowed, status


def allowed(day: Day) -> dict[str, str]:
    """What each field may hold, in words that complete "give"."""
    an_id = "1 to 256 characters, not all spaces, without control characters"
    a_price = "a number from 0 up"
    return {
        **dict.fromkeys(
            ("q", "interest"),
            f"1 to {day.max_query_characters} characters, not all spaces, without control characters",
        ),
        "k": f"a whole number from 1 to {day.max_k}",
        **dict.fromkeys(("user_id", "item_id", "event_id", "request_id"), an_id),
        **dict.fromkeys(("category", "brand"), f"at most {MAX_SELECTED} values, each of {an_id}"),
        **dict.fromkeys(("min_price", "max_price", "price"), a_price),
        **dict.fromkeys(("in_stock", "collapse", "facets"), "true or false"),
        "diversity": "a number from 0 to 1",
        "sort": f"one of {', '.join(SORTS)}",
        "offset": f"a whole number from 0 to {MAX_OFFSET:,}",
        "type": "impression, view, click, cart or purchase",
        "time": "an ISO 8601 time with its zone, from 1970 to 5 minutes from now, such as 2026-01-31T18:00:00Z",
        "quantity": "a number above 0",
        "version": "the version of a release, as /releases lists them",
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
PRINTABLE = r"^\P{Cc}*[^\s\p{Cc}]\P{Cc}*$"
Id = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=PRINTABLE)]
Version = Annotated[str, StringConstraints(max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Text = Annotated[str, StringConstraints(pattern=PRINTABLE)]
Selected = Annotated[list[Id], Field(max_length=MAX_SELECTED)]
Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Quantity = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Time = Annotated[AwareDatetime, BeforeValidator(_text), AfterValidator(_plausible)]


class Page(BaseModel):
    k: int = 10


class Filtered(Page):
    user_id: Id | None = None
    category: Selected = []
    brand: Selected = []
    min_price: Price | None = None
    max_price: Price | None = None
    in_stock: bool | None = None


class Recommend(Filtered):
    diversity: Annotated[Share | None, Field(description=DIVERSITY)] = None
    interest: Annotated[Text | None, Field(description=INTEREST)] = None


class Search(Filtered):
    q: Text
    sort: Literal["relevance", "price", "-price", "newest", "popularity"] = "relevance"
    offset: Annotated[int, Field(ge=0, le=MAX_OFFSET)] = 0
    collapse: bool = False
    facets: bool = False


class Explain(BaseModel):
    request_id: Id
    item_id: Id


class Prefix(BaseModel):
    q: Text
    k: int = 8


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

    def interaction(self, origin: str | None = None) -> Interaction:
        return Interaction(**dict(self), origin=origin)


class Shown(_Event):
    """An impression, from clients that show lists of their own; ours are logged without their
    help."""

    type: Literal["impression"]
    request_id: Id
    item_ids: Annotated[list[Id], Field(min_length=1, max_length=1000)]
    user_id: Id | None = None

    def impression(self, release: str) -> Impression:
        return Impression(
            request_id=self.request_id,
            time=self.time,
            release=release,
            surface="client",
            item_ids=tuple(self.item_ids),
            user_id=self.user_id,
        )


class Json(Response):
    """UTF-8 JSON without NaN or infinity, which become null; half a surrogate pair, which JSON can
    carry and UTF-8 cannot, becomes "?"."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        try:
            return orjson.dumps(content)
        except TypeError:  # half a surrogate pair, or a number beyond 64 bits
            return _carefully(content)


def _carefully(content: Any) -> bytes:
    whole = json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")
    known = json.loads(whole, parse_constant=lambda _: None)
    return json.dumps(known, ensure_ascii=False, separators=(",", ":")).encode()


def query_of(request_id: str, page: Page, day: Day) -> Query:
    """Raises RefusedError on what only the setup can judge: k, the query's length, the order of the
    price bounds."""
    check_size(page, day)
    if not isinstance(page, Filtered):
        return Query(request_id=request_id, k=page.k)
    if isinstance(page, Recommend):
        diversity = day.diversity if page.diversity is None else page.diversity
        interest = page.interest.strip() if page.interest is not None else None
        filters = _filters(page)
        return Query(
            request_id=request_id,
            k=page.k,
            user_id=page.user_id,
            filters=filters,
            diversity=diversity,
            interest=interest,
        )
    if not isinstance(page, Search):
        return Query(request_id=request_id, k=page.k, user_id=page.user_id, filters=_filters(page))
    return Query(
        request_id=request_id,
        k=page.k,
        user_id=page.user_id,
        text=page.q.strip(),
        filters=_filters(page),
        sort=page.sort,
        offset=page.offset,
        collapse=page.collapse,
        facets=page.facets,
    )


def check_size(asked: Page | Prefix, day: Day) -> None:
    """Raises RefusedError when more is asked for, or by more words, than the setup allows."""
    if not 1 <= asked.k <= day.max_k:
        raise RefusedError("k", asked.k, allowed(day)["k"])
    texts = {"q": getattr(asked, "q", None), "interest": getattr(asked, "interest", None)}
    for name, text in texts.items():
        if text is not None and len(text.strip()) > day.max_query_characters:
            raise RefusedError(name, text.strip(), allowed(day)[name])


def _filters(page: Filtered) -> Filters:
    if (
        page.min_price is not None
        and page.max_price is not None
        and page.min_price > page.max_price
    ):
        raise RefusedError(
            "min_price", page.min_price, f"at most max_price, which is {page.max_price:g}"
        )
    return Filters(
        category=tuple(page.category),
        brand=tuple(page.brand),
        min_price=page.min_price,
        max_price=page.max_price,
        in_stock=page.in_stock,
    )


def events_of(body: bytes) -> list[Event | Shown]:
    """One event, a list of them, or {"events": [...]}; pydantic.ValidationError or RefusedError
    names the bad one."""
    shape = f'one event, a list of at most {MAX_EVENTS:,}, or {{"events": [...]}}, as JSON'
    try:
        sent = json.loads(body)
    except (ValueError, RecursionError):
        raise RefusedError(
            "body", body[:100].decode("utf-8", "replace"), shape, status=400
        ) from None
    rows = sent["events"] if isinstance(sent, dict) and set(sent) == {"events"} else sent
    rows = [rows] if isinstance(rows, dict) else rows
    if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_EVENTS:
        count = f"{len(rows):,} events" if isinstance(rows, list) else rows
        raise RefusedError("body", count, shape)
    return [_event(at, row) for at, row in enumerate(rows)]


def origin_of(address: str | None) -> str | None:
    """A client's address as a hash under the key $NIGHTSHELF_ORIGIN_KEY, so that clicks of one
    address can be counted together and no address is stored; None without a key."""
    key = os.environ.get("NIGHTSHELF_ORIGIN_KEY", "")
    return (
        blake2b(address.encode(), key=key.encode()[:64], digest_size=8).hexdigest()
        if address and key
        else None
    )


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
        return RefusedError(
            field, error["input"], "only the fields of an event, as /docs lists them"
        )
    return RefusedError(field, error["input"], words.get(field, error["msg"]))


def error(
    message: str,
    request_id: str,
    field: str | None = None,
    value: Any = None,
    words: str | None = None,
) -> Any:
    """The body of every answer above 399."""
    told = {"message": message, "field": field, "value": _shown(value), "allowed": words}
    return {"error": told, "request_id": request_id}


def _shown(value: Any) -> str | int | bool | None:
    """A value as an error shows it: short, and never NaN."""
    if value is None or isinstance(value, bool) or (isinstance(value, int) and abs(value) < 2**53):
        return value
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."
