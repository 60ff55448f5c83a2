"""Impressions: what is logged of an answer, so that rankers can learn from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from recsys.types import AttributeFilter, Filters, Impression, Query, Ranking

#: Fields of a request that no answer depends on.
_NO_PART = ("filters", "deadline", "value_facets", "logged")
_CONDITIONS = frozenset(("attributes", "variants"))


def build_impression(ranking: Ranking, surface: str, query: Query) -> Impression:
    """Every item of the answer, in order, with its features, scores, propensities and teams."""
    items = ranking.items
    propensities = tuple(each.propensity for each in items)
    teams = tuple(each.team for each in items)
    return Impression(
        request_id=ranking.request_id,
        time=datetime.now(UTC),
        release=ranking.release,
        surface=surface,
        item_ids=tuple(each.item.item_id for each in items),
        features=ranking.features,
        user_id=query.user_id,
        query=query.text,
        offset=query.offset,
        scores=tuple(each.score for each in items),
        propensities=propensities if any(p != 1 for p in propensities) else (),
        teams=teams if any(teams) else (),
        ranker=ranking.ranker,
        arms=dict(ranking.arms),
        parameters=_other_fields(query),
    )


def _other_fields(query: Query) -> dict[str, Any]:
    """Fields of the request that are no defaults and have no column of their own."""
    bare = Query(
        request_id=query.request_id, user_id=query.user_id, text=query.text, offset=query.offset
    )
    fields, defaults = vars(query), vars(bare)
    return filter_fields(query.filters) | {
        name: value
        for name, value in fields.items()
        if name not in _NO_PART and value != defaults[name]
    }


def filter_fields(filters: Filters) -> dict[str, Any]:
    """The fields that are no defaults, as JSON has them; `filters_of` reads them."""
    bare = vars(Filters())
    fields = {name: value for name, value in vars(filters).items() if value != bare[name]}
    for name in _CONDITIONS & fields.keys():
        fields[name] = [asdict(each) for each in fields[name]]
    if filters.any_of:
        fields["any_of"] = [[*map(filter_fields, choice)] for choice in filters.any_of]
    if filters.none_of:
        fields["none_of"] = [*map(filter_fields, filters.none_of)]
    return fields


def filters_of(fields: Mapping[str, Any]) -> Filters:
    """From what `filter_fields` made, after JSON or before."""
    values = dict(fields)
    for name in ("category", "brand"):
        values[name] = tuple(fields.get(name, ()))
    for name in _CONDITIONS:
        values[name] = tuple(AttributeFilter(**each) for each in fields.get(name, ()))
    values["any_of"] = tuple(tuple(map(filters_of, choice)) for choice in fields.get("any_of", ()))
    values["none_of"] = tuple(map(filters_of, fields.get("none_of", ())))
    return Filters(**values)
