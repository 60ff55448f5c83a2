"""What comes in over HTTP: query parameters and event bodies, checked and turned into our types.

`answers` is what goes out."""

from __future__ import annotations

import json
import os
import re
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Annotated, Any, Literal, get_origin

from fastapi import Depends, Request
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from recsys.config import Day
from recsys.datasets.event_words import meaning_of
from recsys.types import EVENT_TYPES, SORTS, Filters, Impression, Interaction, Query
from serve.routes.attribute_filters import PREFIX
from serve.routes.errors import RequestError, from_pydantic, short_value

#: Events of one call.
MAX_EVENTS = 1000
#: Values that one request may select in a facet.
MAX_SELECTED = 50
#: The furthest page of an answer begins here.
MAX_OFFSET = 1000
DIVERSITY = (
    "0: as ranked; 1: items as little alike as can be. The shop's own where it is not given."
)
INTEREST = (
    "What the user says they want, in words, such as: running shoes. "
    "Counts less the more the user has done."
)
PHOTO_WORDS = "Words that what is found must fit too: like this, but blue."
CROP = "The part of the upright photo to look at: left,top,right,bottom as shares of its sides."
PHOTO_WEIGHT = "Of the photo beside the words, from 0 (words alone) to 1 (look alone)."
SNAPSHOT = (
    "The snapshot that the page before names: this one is then of the same state of the catalogue, "
    "where the replica still has it. Without it of the newest."
)
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_CLOCK_SKEW = timedelta(minutes=5)

# Types of single values


def _one_line(value: Any) -> Any:
    return re.sub(r"[\t\r\n]+", " ", value) if isinstance(value, str) else value


def _require_time_text(value: Any) -> Any:
    # pydantic would take a number, and a text of digits, for seconds since 1970.
    if not isinstance(value, str) or not re.match(r"\d{4}-\d\d-\d\d[T ]", value):
        raise ValueError("no ISO 8601 time")
    return value


def _require_plausible(time: datetime) -> datetime:
    if not _EARLIEST <= time <= datetime.now(UTC) + _CLOCK_SKEW:
        raise ValueError("out of range")
    return time


#: Text that is safe to store, log and print: no control characters (NUL, newlines, escapes).
PRINTABLE = r"^\P{Cc}*[^\s\p{Cc}]\P{Cc}*$"
Id = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=PRINTABLE)]
Version = Annotated[str, StringConstraints(max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Snapshot = Annotated[str, StringConstraints(max_length=100, pattern=r"^[A-Za-z0-9._-]+@\d+$")]
#: What shoppers type; tabs and line ends come with what they paste.
Text = Annotated[str, BeforeValidator(_one_line), StringConstraints(pattern=PRINTABLE)]
Selection = Annotated[list[Id], Field(max_length=MAX_SELECTED)]
Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Quantity = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Time = Annotated[
    AwareDatetime, BeforeValidator(_require_time_text), AfterValidator(_require_plausible)
]


def allowed_values(day: Day) -> dict[str, str]:
    """What each field may hold, in words that complete "give"."""
    printable = "not all spaces, without control characters"
    an_id = f"1 to 256 characters, {printable}"
    a_text = f"1 to {day.max_query_characters} characters, {printable}"
    return {
        **dict.fromkeys(("q", "interest"), a_text),
        "k": f"a whole number from 1 to {day.max_k}",
        **dict.fromkeys(("user_id", "item_id", "event_id", "request_id"), an_id),
        **dict.fromkeys(("category", "brand"), f"at most {MAX_SELECTED} values, each of {an_id}"),
        **dict.fromkeys(("min_price", "max_price", "price"), "a number from 0 up"),
        **dict.fromkeys(("in_stock", "collapse", "facets"), "true or false"),
        **dict.fromkeys(("diversity", "photo_weight"), "a number from 0 to 1"),
        "crop": "left,top,right,bottom as shares from 0 to 1, such as 0.1,0.2,0.9,0.8",
        "sort": f"one of {', '.join(SORTS)}",
        "offset": f"a whole number from 0 to {MAX_OFFSET:,}",
        "type": "impression, view, click, cart or purchase",
        "time": "an ISO 8601 time with its zone, from 1970 to 5 minutes from now, "
        "such as 2026-01-31T18:00:00Z",
        "quantity": "a number above 0",
        "version": "the version of a release, as /releases lists them",
        "snapshot": "the snapshot of the page before",
        "item_ids": "a list of 1 to 1,000 item ids",
    }


# Query parameters


class PageParams(BaseModel):
    """Of /similar, and part of the others'."""

    k: int = 10


class FilterParams(PageParams):
    """What /search and /recommend have in common."""

    user_id: Id | None = None
    category: Selection = []
    brand: Selection = []
    min_price: Price | None = None
    max_price: Price | None = None
    in_stock: bool | None = None


class RecommendParams(FilterParams):
    diversity: Annotated[Share | None, Field(description=DIVERSITY)] = None
    interest: Annotated[Text | None, Field(description=INTEREST)] = None


class SearchParams(FilterParams):
    q: Text
    sort: Literal["relevance", "price", "-price", "newest", "popularity"] = "relevance"
    offset: Annotated[int, Field(ge=0, le=MAX_OFFSET)] = 0
    collapse: bool = False
    facets: bool = False
    snapshot: Annotated[Snapshot | None, Field(description=SNAPSHOT)] = None


class PhotoParams(SearchParams):
    """`q` are words beside the photo, which may be left out."""

    q: Annotated[Text, Field(description=PHOTO_WORDS)] = ""
    crop: Annotated[str | None, Field(description=CROP, max_length=100)] = None
    photo_weight: Annotated[Share, Field(description=PHOTO_WEIGHT)] = 0.5

    def box(self) -> tuple[float, float, float, float] | None:
        """Raises RequestError for what is no part of a picture."""
        if self.crop is None:
            return None
        try:
            left, top, right, bottom = map(float, self.crop.split(","))
        except ValueError:
            raise RequestError("crop", self.crop, allowed_values(Day())["crop"]) from None
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise RequestError("crop", self.crop, allowed_values(Day())["crop"])
        return left, top, right, bottom


class ExplainParams(BaseModel):
    request_id: Id
    item_id: Id


class SuggestParams(BaseModel):
    q: Text
    k: int = 8


def accept_only(model: type[BaseModel] | None = None) -> Any:
    """A route's dependency: refuses a query parameter that is no field of `model`, or comes twice
    and is not a list. Filters of attributes are `attribute_filters`' to check."""
    fields = model.model_fields if model else {}
    lists = [name for name, field in fields.items() if get_origin(field.annotation) is list]
    exception = f" but {' and '.join(lists)}" if lists else ""
    allowed = f"only {', '.join(fields)}, each once{exception}" if fields else ""
    allowed = allowed or "no query parameters here"
    filtered = model is not None and issubclass(model, FilterParams)

    async def check(request: Request) -> None:
        names = [name for name, _ in request.query_params.multi_items()]
        for name in names:
            if filtered and name.startswith(PREFIX):
                continue
            if name not in fields or (names.count(name) > 1 and name not in lists):
                message = f"parameter {name[:100]!r} is unknown or repeated: give {allowed}"
                value = request.query_params[name]
                raise RequestError(name[:100], value, allowed, message=message)

    return Depends(check)


def build_query(request_id: str, params: PageParams, day: Day) -> Query:
    """Raises RequestError on what only the setup can judge: k, the query's length, the order of the
    price bounds."""
    check_bounds(params, day)
    query = Query(request_id=request_id, k=params.k)
    if isinstance(params, FilterParams):
        query = replace(query, user_id=params.user_id, filters=_filters(params))
    if isinstance(params, RecommendParams):
        diversity = day.diversity if params.diversity is None else params.diversity
        interest = None if params.interest is None else params.interest.strip()
        query = replace(query, diversity=diversity, interest=interest)
    if isinstance(params, SearchParams):
        query = replace(
            query,
            text=params.q.strip(),
            sort=params.sort,
            offset=params.offset,
            collapse=params.collapse,
            facets=params.facets,
            snapshot=params.snapshot,
        )
    return query


def anonymous_if_refused(request: Request, query: Query) -> Query:
    """With Global Privacy Control: not personalised, and logged without the user."""
    return replace(query, user_id=None) if request.headers.get("sec-gpc") == "1" else query


def check_bounds(params: PageParams | SuggestParams, day: Day) -> None:
    """Raises RequestError for more items, or a longer text, than the setup allows."""
    if not 1 <= params.k <= day.max_k:
        raise RequestError("k", params.k, allowed_values(day)["k"])
    for name in ("q", "interest"):
        text = getattr(params, name, None)
        if text is not None and len(text.strip()) > day.max_query_characters:
            raise RequestError(name, text.strip(), allowed_values(day)[name])


def _filters(params: FilterParams) -> Filters:
    low, high = params.min_price, params.max_price
    if low is not None and high is not None and low > high:
        raise RequestError("min_price", low, f"at most max_price, which is {high:g}")
    return Filters(
        category=tuple(params.category),
        brand=tuple(params.brand),
        min_price=low,
        max_price=high,
        in_stock=params.in_stock,
    )


# Events


class _Event(BaseModel):
    model_config = ConfigDict(extra="forbid")
    event_id: Id = Field(default_factory=lambda: uuid.uuid4().hex)
    time: Time = Field(default_factory=lambda: datetime.now(UTC))


class InteractionEvent(_Event):
    """Something a user did with an item; `request_id` names the answer that showed it."""

    type: Literal["view", "click", "cart", "purchase"]
    user_id: Id
    item_id: Id
    request_id: Id | None = None
    quantity: Quantity = 1.0
    price: Price | None = None

    def interaction(self, origin: str | None = None) -> Interaction:
        return Interaction(**dict(self), origin=origin)


class ImpressionEvent(_Event):
    """A list that a client assembled itself and showed; our own answers are logged without its
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


Event = InteractionEvent | ImpressionEvent


@dataclass(frozen=True)
class RejectedEvent:
    """An event of a batch that cannot be used: its place, and why."""

    index: int
    event_id: str | None
    error: RequestError


def parse_events(body: bytes) -> tuple[list[Event], list[RejectedEvent]]:
    """One event, a list of them, or {"events": [...]}: those that can be used, and the others.

    Raises RequestError where none can be used: it names the first bad one."""
    shape = f'one event, a list of at most {MAX_EVENTS:,}, or {{"events": [...]}}, as JSON'
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        text = body[:100].decode("utf-8", "replace")
        raise RequestError("body", text, shape, status=400) from None
    wrapped = isinstance(content, dict) and set(content) == {"events"}
    rows = content["events"] if wrapped else content
    is_one = isinstance(rows, dict)
    rows = [rows] if is_one else rows
    if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_EVENTS:
        value = f"{len(rows):,} events" if isinstance(rows, list) else rows
        raise RequestError("body", value, shape)
    return parse_rows(rows, is_one)


def parse_rows(rows: list[Any], is_one: bool) -> tuple[list[Event], list[RejectedEvent]]:
    """The rows that are events, and the others. Raises RequestError where none is one."""
    events, rejected = list[Event](), list[RejectedEvent]()
    for index, row in enumerate(rows):
        try:
            events.append(_parse_event(index, row))
        except (RequestError, ValidationError) as error:
            rejected.append(_rejected(index, row, error, is_one))
    if not events:
        raise rejected[0].error
    return events, rejected


def _parse_event(index: int, row: Any) -> Event:
    if not isinstance(row, dict):
        raise RequestError(f"events[{index}]", row, "an object with user_id, item_id and type")
    model = ImpressionEvent if row.get("type") == "impression" else InteractionEvent
    return model.model_validate(row)


def _rejected(
    index: int, row: Any, error: RequestError | ValidationError, is_one: bool
) -> RejectedEvent:
    """The sentence of one of several begins with its place."""
    if isinstance(error, ValidationError):
        allowed = allowed_values(Day())
        if isinstance(row, dict) and (meaning := meaning_of(str(row.get("type")))) in EVENT_TYPES:
            allowed["type"] += f" ({meaning} for {short_value(row['type'])})"
        error = from_pydantic(error.errors(), allowed)
        if not is_one:
            message = f"events[{index}]: {error}"
            error = RequestError(error.field, error.value, error.allowed, message=message)
    event_id = row.get("event_id") if isinstance(row, dict) else None
    return RejectedEvent(index, event_id if isinstance(event_id, str) else None, error)


def hash_address(address: str | None) -> str | None:
    """A client's address hashed under the key $NIGHTSHELF_ORIGIN_KEY, so that clicks of one address
    can be counted together and no address is stored; None without a key."""
    key = os.environ.get("NIGHTSHELF_ORIGIN_KEY", "")
    if not address or not key:
        return None
    return blake2b(address.encode(), key=key.encode()[:64], digest_size=8).hexdigest()
