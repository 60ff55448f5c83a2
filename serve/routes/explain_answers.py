"""The answer of GET /explain, and its type as /docs shows it."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict

from recsys.pipeline.explain import Explanation


class FeatureContribution(TypedDict):
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
    contributions: list[FeatureContribution]
    sources: dict[str, float]
    terms: dict[str, float]
    moved: str
    propensity: float
    lost: LostItem | None
    note: str
    summary: str


def explain_answer(request_id: str, explanation: Explanation) -> ExplainAnswer:
    return {
        "request_id": request_id,
        "release": explanation.release,
        "explained": explanation.request_id,
        "surface": explanation.surface,
        "ranker": explanation.ranker,
        "item_id": explanation.item_id,
        "title": explanation.title,
        "shown": explanation.in_answer,
        "place": explanation.place,
        "score": explanation.score,
        "base": explanation.base,
        "contributions": [
            {"feature": part.feature, "value": part.value, "contribution": part.contribution}
            for part in explanation.parts
        ],
        "sources": dict(explanation.sources),
        "terms": dict(explanation.terms),
        "moved": explanation.moved,
        "propensity": explanation.propensity,
        "lost": _lost_item(explanation),
        "note": explanation.note,
        "summary": explanation.summary,
    }


def _lost_item(explanation: Explanation) -> LostItem | None:
    if (excluded := explanation.exclusion) is None:
        return None
    return {
        "stage": excluded.stage,
        "reason": excluded.reason,
        "details": dict(excluded.details),
    }
