"""What goes out over HTTP: response bodies, and their types as /docs shows them.

`requests` is what comes in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from typing_extensions import TypedDict

from recsys.catalogue.changes import FieldChange
from recsys.pictures.references import main_picture
from recsys.tables import ITEMS_IN
from recsys.types import FacetCount, Item, Query, QueryUnderstanding, Ranking, ScoredItem
from recsys.understanding.suggestions import Suggestion
from serve.routes.attribute_answers import (
    AttributeJson,
    Variants,
    attributes_json,
    variants_json,
)
from serve.routes.requests import MAX_OFFSET, RejectedEvent


class ItemFields(TypedDict):
    """What every answer says of an item. `attributes` are the typed ones by name. `category` is the
    first of `categories`; `list_price` is the higher price before a reduction; `currency` is null
    where nothing says it."""

    item_id: str
    title: str
    brand: str
    category: str
    categories: list[str]
    price: float | None
    list_price: float | None
    currency: str | None
    in_stock: bool
    attributes: dict[str, AttributeJson]


class RankedItem(ItemFields):
    """`sources` are the scores of the candidate sources that retrieved it."""

    score: float
    sources: dict[str, float]


class SearchItem(RankedItem):
    """`highlights` are the ranges (start, end) of the title's characters, by code point, that the
    query matched; `variants`, where the answer is collapsed, the product that the item stands
    for."""

    highlights: list[tuple[int, int]]
    variants: Variants | None


class Correction(TypedDict):
    typed: str
    taken_for: str


class UnderstoodQuery(TypedDict):
    """How the text was understood; `facts` may hold brand, colour, size, min_price and
    max_price, and attributes of the shop by name."""

    normalised: str
    language: str
    corrections: list[Correction]
    identifiers: list[str]
    exact: bool
    facts: dict[str, str | float]
    intent: str | None
    intent_probability: float


class FacetValue(TypedDict):
    """`count` is how many items the answer would have if just this value of its facet were
    selected; `unit` is that of a range of numbers, null where it has none."""

    value: str
    count: int
    selected: bool
    unit: str | None


class _Answer(TypedDict):
    """`snapshot` is the release and the number of the last change of the catalogue in it; a further
    page that names it is of the same state, for some minutes."""

    request_id: str
    release: str
    snapshot: str
    personalised: bool
    skipped: list[str]


class RankingAnswer(_Answer):
    """Of /recommend, /similar and /complements; `skipped` says what there was no time for."""

    items: list[RankedItem]


class SearchAnswer(_Answer):
    """`total` counts the items of all pages; `next_offset` is null on the last one, and where the
    next would begin behind the largest offset; `relaxed` says in words which parts of the request
    were given up, `no_good_match` that even so nothing fits, `skipped` what there was no time
    for."""

    query: UnderstoodQuery | None
    total: int | None
    next_offset: int | None
    no_good_match: bool
    relaxed: list[str]
    facets: dict[str, list[FacetValue]]
    items: list[SearchItem]


class Completion(TypedDict):
    text: str
    kind: str
    weight: float


class SuggestAnswer(TypedDict):
    request_id: str
    release: str
    suggestions: list[Completion]


class ItemDetails(ItemFields):
    """What is `hidden` is in no list and no count."""

    description: str
    image: str | None
    group_id: str | None
    added: str | None
    gtin: str | None
    mpn: str | None
    hidden: bool


class FieldSource(TypedDict):
    """`source` is `release`, or `change`: that of this number, at this time."""

    source: Literal["release", "change"]
    number: int | None
    time: str | None


class ItemAnswer(TypedDict):
    """`sources` says of each field of the catalogue what it is from; null while the log of changes
    does not answer."""

    request_id: str
    release: str
    item: ItemDetails
    sources: dict[str, FieldSource] | None


class ReleasesAnswer(TypedDict):
    """`release` is the live one; each of `releases` has its `version` and what its manifest
    says."""

    request_id: str
    release: str | None
    releases: list[dict[str, Any]]


class PromoteAnswer(TypedDict):
    request_id: str
    release: str


class ForgottenAnswer(TypedDict):
    """Rows by place: `gone` were deleted at once, `left` until releases are amended; `receipt`
    serves to check."""

    request_id: str
    receipt: str
    forgotten: str
    gone: dict[str, int]
    left: dict[str, int]
    done: bool


class ReceiptAnswer(TypedDict):
    """Rows from before `forgotten` that are left now, by place."""

    request_id: str
    forgotten: str
    left: dict[str, int]
    done: bool


class OptOutAnswer(TypedDict):
    request_id: str
    opted_out: bool


class HealthAnswer(TypedDict):
    """`refused` gives the reason for each release that could not be loaded."""

    request_id: str
    release: str | None
    age_s: float | None
    space: str
    refused: dict[str, str]


class RejectedFields(TypedDict):
    """An event of the batch that was not taken: its place from 0, and why."""

    index: int
    event_id: str | None
    field: str
    message: str


class EventsAnswer(TypedDict):
    """`rejected` events were bad; the others of the batch were taken: `event_ids` are theirs."""

    request_id: str
    release: str | None
    accepted: int
    duplicates: int
    quarantined: int
    dropped: int
    event_ids: list[str]
    rejected: list[RejectedFields]


def rejected_event(rejected: RejectedEvent) -> RejectedFields:
    return {
        "index": rejected.index,
        "event_id": rejected.event_id,
        "field": rejected.error.field,
        "message": str(rejected.error),
    }


def ranking_answer(ranking: Ranking) -> RankingAnswer:
    return {
        "request_id": ranking.request_id,
        "release": ranking.release,
        "snapshot": ranking.snapshot,
        "personalised": ranking.personalised,
        "skipped": list(ranking.skipped),
        "items": [_ranked_item(item) for item in ranking.items],
    }


def _ranked_item(scored: ScoredItem) -> RankedItem:
    return {
        **_item_fields(scored.item),
        "score": scored.score if math.isfinite(scored.score) else 0.0,
        "sources": {name: value for name, value in scored.sources.items() if math.isfinite(value)},
    }


def search_answer(ranking: Ranking, query: Query) -> SearchAnswer:
    return {
        "request_id": ranking.request_id,
        "release": ranking.release,
        "snapshot": ranking.snapshot,
        "personalised": ranking.personalised,
        "query": _understood_query(ranking.understanding) if ranking.understanding else None,
        "total": None if ranking.total is None else int(ranking.total),
        "next_offset": _next_offset(ranking, query),
        "no_good_match": ranking.no_good_match,
        "relaxed": list(ranking.relaxed),
        "skipped": list(ranking.skipped),
        "facets": {
            name: [_facet_value(value) for value in values]
            for name, values in ranking.facets.items()
        },
        "items": [_search_item(item) for item in ranking.items],
    }


def _next_offset(ranking: Ranking, query: Query) -> int | None:
    if not ranking.items or ranking.total is None:
        return None
    offset = query.offset + len(ranking.items)
    return offset if offset < ranking.total and offset <= MAX_OFFSET else None


def _search_item(scored: ScoredItem) -> SearchItem:
    return {
        **_ranked_item(scored),
        "highlights": [(int(start), int(end)) for start, end in scored.highlights],
        "variants": variants_json(scored.variants),
    }


def _understood_query(understanding: QueryUnderstanding) -> UnderstoodQuery:
    return {
        "normalised": understanding.normalised,
        "language": understanding.language,
        "corrections": [
            {"typed": typed, "taken_for": word} for typed, word in understanding.corrections
        ],
        "identifiers": list(understanding.identifiers),
        "exact": understanding.exact,
        "facts": {
            name: fact if isinstance(fact, str) else float(fact)
            for name, fact in understanding.facts.items()
        },
        "intent": understanding.intent,
        "intent_probability": float(understanding.intent_probability),
    }


def _facet_value(facet: FacetCount) -> FacetValue:
    return {
        "value": facet.value,
        "count": int(facet.count),
        "selected": facet.selected,
        "unit": facet.unit or None,
    }


def suggest_answer(
    request_id: str, release: str, suggestions: Sequence[Suggestion]
) -> SuggestAnswer:
    completions: list[Completion] = [
        {"text": each.text, "kind": each.kind, "weight": each.weight} for each in suggestions
    ]
    return {"request_id": request_id, "release": release, "suggestions": completions}


def item_answer(
    request_id: str, release: str, item: Item, changed: Mapping[str, FieldChange] | None = None
) -> ItemAnswer:
    details: ItemDetails = {
        **_item_fields(item),
        "description": item.description,
        "image": main_picture(item.image) or "",
        "group_id": item.group_id,
        "added": item.added.isoformat() if item.added else None,
        "gtin": item.gtin or None,
        "mpn": item.mpn or None,
        "hidden": item.hidden,
    }
    sources = None if changed is None else _sources(changed)
    return {"request_id": request_id, "release": release, "item": details, "sources": sources}


def _sources(changed: Mapping[str, FieldChange]) -> dict[str, FieldSource]:
    sources = dict[str, FieldSource]()
    for name in ITEMS_IN.names[1:]:
        change = changed.get(name)
        sources[name] = {
            "source": "change" if change else "release",
            "number": change.number if change else None,
            "time": change.time.isoformat() if change else None,
        }
    return sources


def _item_fields(item: Item) -> ItemFields:
    return {
        "item_id": item.item_id,
        "title": item.title,
        "brand": item.brand,
        "category": item.category,
        "categories": list(item.categories or filter(None, [item.category])),
        "price": _finite(item.price),
        "list_price": _finite(item.list_price),
        "currency": item.currency or None,
        "in_stock": item.in_stock,
        "attributes": attributes_json(item),
    }


def _finite(price: float | None) -> float | None:
    return price if price is not None and math.isfinite(price) else None
