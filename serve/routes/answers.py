"""What goes out over HTTP: the bodies of answers, and their types as /docs shows them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from typing_extensions import TypedDict

from recsys.pipeline.explain import Explanation
from recsys.types import FacetCount, Item, Query, QueryUnderstanding, Ranking, ScoredItem
from recsys.understanding.suggest import Suggestion
from serve.routes.wire import MAX_OFFSET


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


class FoundItem(AnswerItem):
    """`highlights` are the ranges (start, end) of the title's characters, by code point, that the
    query hit."""

    highlights: list[tuple[int, int]]


class Correction(TypedDict):
    typed: str
    taken_for: str


class Understood(TypedDict):
    """What the text was taken to mean; `facts` may hold brand, colour, size, min_price and
    max_price."""

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
    selected."""

    value: str
    count: int
    selected: bool


class _Answer(TypedDict):
    request_id: str
    release: str
    personalised: bool
    skipped: list[str]


class Answer(_Answer):
    items: list[AnswerItem]


class SearchAnswer(_Answer):
    """`total` counts the items found; `next_offset` is null on the last page; `relaxed` says in
    words what of the request was given up, `no_good_match` that even so nothing fits, `skipped`
    what there was no time for."""

    query: Understood | None
    total: int | None
    next_offset: int | None
    no_good_match: bool
    relaxed: list[str]
    facets: dict[str, list[FacetValue]]
    items: list[FoundItem]


class Completion(TypedDict):
    text: str
    kind: str
    weight: float


class SuggestAnswer(TypedDict):
    request_id: str
    release: str
    suggestions: list[Completion]


class ExplainedPart(TypedDict):
    feature: str
    value: float
    contribution: float


class LostItem(TypedDict):
    """`stage`: catalogue, filter, retrieval, depth, ranking or page; `details` are the numbers of
    `reason`."""

    stage: str
    reason: str
    details: dict[str, Any]


class ExplainAnswer(TypedDict):
    """`base` and the contributions add up to `score`. `explained` is the request that is
    explained."""

    request_id: str
    release: str
    explained: str
    surface: str
    ranker: str
    item_id: str
    title: str
    shown: bool
    place: int | None
    score: float | None
    base: float
    contributions: list[ExplainedPart]
    sources: dict[str, float]
    terms: dict[str, float]
    moved: str
    propensity: float
    lost: LostItem | None
    note: str
    summary: str


class OneItem(ItemFields):
    description: str
    image: str | None
    group_id: str | None
    added: str | None


class ItemAnswer(TypedDict):
    request_id: str
    release: str
    item: OneItem


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
    """Rows by place: `gone` at once, `left` until releases are amended, which `receipt` tells
    of."""

    request_id: str
    receipt: str
    forgotten: str
    gone: dict[str, int]
    left: dict[str, int]
    done: bool


class ReceiptAnswer(TypedDict):
    """What is left now, by place, of what was before `forgotten`."""

    request_id: str
    forgotten: str
    left: dict[str, int]
    done: bool


class OptOutAnswer(TypedDict):
    request_id: str
    opted_out: bool


class HealthAnswer(TypedDict):
    """`refused` says of each release that could not be loaded why."""

    request_id: str
    release: str | None
    age_s: float | None
    space: str
    refused: dict[str, str]


class EventsAnswer(TypedDict):
    request_id: str
    release: str | None
    accepted: int
    duplicates: int
    quarantined: int
    dropped: int
    event_ids: list[str]


def answer(ranking: Ranking) -> Answer:
    return {
        "request_id": ranking.request_id,
        "release": ranking.release,
        "personalised": ranking.personalised,
        "skipped": list(ranking.skipped),
        "items": [_scored(item) for item in ranking.items],
    }


def _scored(scored: ScoredItem) -> AnswerItem:
    return {
        **item_fields(scored.item),
        "score": scored.score if math.isfinite(scored.score) else 0.0,
        "sources": {name: value for name, value in scored.sources.items() if math.isfinite(value)},
    }


def search_answer(ranking: Ranking, query: Query) -> SearchAnswer:
    seen = query.offset + len(ranking.items)
    more = (
        ranking.items and ranking.total is not None and seen < ranking.total and seen <= MAX_OFFSET
    )
    return {
        "request_id": ranking.request_id,
        "release": ranking.release,
        "personalised": ranking.personalised,
        "query": _understood(ranking.understanding) if ranking.understanding else None,
        "total": None if ranking.total is None else int(ranking.total),
        "next_offset": seen if more else None,
        "no_good_match": ranking.no_good_match,
        "relaxed": list(ranking.relaxed),
        "skipped": list(ranking.skipped),
        "facets": {
            name: [_facet(value) for value in values] for name, values in ranking.facets.items()
        },
        "items": [_found(item) for item in ranking.items],
    }


def _found(scored: ScoredItem) -> FoundItem:
    return {
        **_scored(scored),
        "highlights": [(int(start), int(end)) for start, end in scored.highlights],
    }


def _understood(understanding: QueryUnderstanding) -> Understood:
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


def _facet(facet: FacetCount) -> FacetValue:
    return {"value": facet.value, "count": int(facet.count), "selected": facet.selected}


def suggest_answer(
    request_id: str, release: str, suggestions: Sequence[Suggestion]
) -> SuggestAnswer:
    told: list[Completion] = [
        {"text": each.text, "kind": each.kind, "weight": each.weight} for each in suggestions
    ]
    return {"request_id": request_id, "release": release, "suggestions": told}


def explain_answer(request_id: str, told: Explanation) -> ExplainAnswer:
    lost: LostItem | None = None
    if told.lost:
        lost = {
            "stage": told.lost.stage,
            "reason": told.lost.reason,
            "details": dict(told.lost.details),
        }
    parts = [(part.feature, part.value, part.contribution) for part in told.parts]
    return {
        "request_id": request_id,
        "release": told.release,
        "explained": told.request_id,
        "surface": told.surface,
        "ranker": told.ranker,
        "item_id": told.item_id,
        "title": told.title,
        "shown": told.shown,
        "place": told.place,
        "score": told.score,
        "base": told.base,
        "contributions": [
            {"feature": name, "value": value, "contribution": added} for name, value, added in parts
        ],
        "sources": dict(told.sources),
        "terms": dict(told.terms),
        "moved": told.moved,
        "propensity": told.propensity,
        "lost": lost,
        "note": told.note,
        "summary": told.summary,
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
