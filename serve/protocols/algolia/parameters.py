"""What comes in: Algolia's search parameters, as JSON or as a URL-encoded text, as our query.

A parameter that makes a difference with Algolia and none with us is named to the client
(`SearchRequest.unsupported`, docs/front-ends.md), never dropped in silence."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from recsys.config import Day
from recsys.types import Filters, Query, ValueFacets
from serve.protocols.algolia.fields import FacetField
from serve.protocols.algolia.filters import (
    conjunction,
    parse_facet_filters,
    parse_filters,
    parse_numeric_filters,
)
from serve.routes.errors import RequestError
from serve.routes.requests import MAX_OFFSET

HITS_PER_PAGE = 20
MAX_VALUES = 1_000
#: What the indices of a shop are called: its own name, with one of these behind it.
SORTS = {
    "": "relevance",
    "_price_asc": "price",
    "_price_desc": "-price",
    "_newest": "newest",
    "_popularity": "popularity",
}
SUGGESTIONS = "_query_suggestions"
#: Parameters that do something here.
_SUPPORTED = frozenset(
    (
        *("query", "page", "hitsPerPage", "offset", "length", "facets", "maxValuesPerFacet"),
        *("sortFacetValuesBy", "facetFilters", "filters", "numericFilters"),
        *("attributesToRetrieve", "attributesToHighlight", "attributesToSnippet"),
        *("highlightPreTag", "highlightPostTag", "snippetEllipsisText", "responseFields"),
        *("getRankingInfo", "distinct", "userToken", "clickAnalytics", "analytics"),
        *("enablePersonalization", "facetQuery", "maxFacetHits", "cursor"),
    )
)
#: Parameters that change no hit: what they are for is another's or always so.
_INERT = frozenset(
    (
        *("analyticsTags", "ruleContexts", "enableABTest", "percentileComputation"),
        *("facetingAfterDistinct", "type", "indexName", "facet"),
        *("restrictHighlightAndSnippetArrays", "replaceSynonymsInHighlight", "explain"),
    )
)
#: Values by which other parameters ask for nothing that is not so here.
_NO_CHANGE: dict[str, tuple[Any, ...]] = {
    "typoTolerance": (True, "true", "min"),
    "allowTyposOnNumericTokens": (True,),
    "ignorePlurals": (True,),
    "removeStopWords": (True,),
    "synonyms": (True,),
    "enableRules": (True, False),
    "enableReRanking": (True,),
    "advancedSyntax": (False, True),
    "queryType": ("prefixLast",),
    "removeWordsIfNoResults": ("none", "allOptional"),
    "sumOrFiltersScores": (False,),
    "decompoundQuery": (True,),
    "mode": ("keywordSearch", "neuralSearch"),
    "minimumAroundRadius": (None,),
    "tagFilters": ("", []),
    "optionalFilters": ("", []),
    "optionalWords": ("", []),
    "naturalLanguages": ([],),
}


@dataclass(frozen=True, kw_only=True)
class SearchRequest:
    """One query of a request: what is answered (`query`), and how its answer is written.

    `sort` is by the index that it names; `attributes` are None where all are to be retrieved;
    `snippets` are lengths in words by attribute."""

    index: str
    query: Query
    parameters: Mapping[str, Any]
    page: int = 0
    facets: tuple[str, ...] = ()
    is_suggestions: bool = False
    unsupported: tuple[str, ...] = field(default=())

    def text(self, name: str, default: str = "") -> str:
        """A parameter that is a text."""
        return _text(self.parameters, name, default)

    def flag(self, name: str) -> bool:
        """A parameter that is true or false; false where it is not sent."""
        return _flag(self.parameters, name)

    def names(self, name: str) -> list[str] | None:
        """A parameter that is a list of names; None where it is not sent."""
        return _names(self.parameters, name)


def read_parameters(body: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a query: its own fields, and those in its `params`, an object or a text as
    in a URL."""
    params = body.get("params") or {}
    if isinstance(params, str):
        params = {name: _decoded(value) for name, value in parse_qsl(params, True)}
    if not isinstance(params, Mapping):
        raise RequestError("params", params, "an object, or a text as in a URL")
    return {name: value for name, value in body.items() if name != "params"} | dict(params)


def _decoded(value: str) -> Any:
    """Lists, numbers and flags are JSON in a URL; anything else is a text."""
    if value[:1] in ("[", "{") or value in ("true", "false", "null"):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def search_request(
    request_id: str, index: str, parameters: Mapping[str, Any], day: Day
) -> SearchRequest:
    """Raises RequestError for a value that cannot be used, or an index that is not the shop's."""
    sort, is_suggestions = _sort_of(index, day)
    query, page = _page(request_id, parameters, day)
    facets = tuple(_names(parameters, "facets") or ())
    personal = parameters.get("enablePersonalization", True) is not False
    token = _text(parameters, "userToken").strip()[:256]
    text = _text(parameters, "query").strip()
    if len(text) > day.max_query_characters:
        raise RequestError("query", text, f"at most {day.max_query_characters} characters")
    query = Query(
        request_id=request_id,
        k=query.k,
        offset=query.offset,
        text=" ".join(text.split()),
        user_id=token if token.isprintable() and token and personal else None,
        filters=_filters(parameters),
        sort=sort,
        collapse=_collapses(parameters),
        value_facets=_value_facets(facets),
        logged=query.k > 0 and parameters.get("analytics", True) is not False,
    )
    return SearchRequest(
        index=index,
        query=query,
        parameters=parameters,
        page=page,
        facets=facets,
        is_suggestions=is_suggestions,
        unsupported=_unsupported(parameters, day),
    )


def _sort_of(index: str, day: Day) -> tuple[str, bool]:
    """By the index's name, and whether its records are suggestions."""
    name = day.index_name
    if index == name + SUGGESTIONS:
        return "relevance", True
    for suffix, sort in SORTS.items():
        if index == name + suffix:
            return sort, False
    names = ", ".join(name + suffix for suffix in (*SORTS, SUGGESTIONS))
    message = f"Index {index[:100]} does not exist: give one of {names}"
    raise RequestError("indexName", index, names, status=404, message=message)


def _page(request_id: str, parameters: Mapping[str, Any], day: Day) -> tuple[Query, int]:
    """By `page` and `hitsPerPage`, or `offset` and `length`."""
    if "offset" in parameters or "length" in parameters:
        offset = _number(parameters, "offset", 0)
        length = _number(parameters, "length", HITS_PER_PAGE)
        k = min(length, day.max_k)
        return Query(request_id=request_id, k=k, offset=offset), offset // max(1, k)
    k = min(_number(parameters, "hitsPerPage", HITS_PER_PAGE), day.max_k)
    page = _number(parameters, "page", 0)
    return Query(request_id=request_id, k=k, offset=page * k), page


def last_page(total: int, k: int) -> int:
    """How many pages there are: those that begin within MAX_OFFSET."""
    return 0 if not k else min(math.ceil(total / k), MAX_OFFSET // k + 1)


def _filters(parameters: Mapping[str, Any]) -> Filters:
    return conjunction(
        [
            parse_filters(_text(parameters, "filters")),
            parse_facet_filters(parameters.get("facetFilters") or []),
            parse_numeric_filters(parameters.get("numericFilters") or []),
        ]
    )


def _value_facets(facets: tuple[str, ...]) -> ValueFacets | None:
    if not facets:
        return None
    return ValueFacets(() if "*" in facets else tuple(FacetField.of(each).name for each in facets))


def _collapses(parameters: Mapping[str, Any]) -> bool:
    """`distinct` is true, or a number above 0."""
    value = parameters.get("distinct", False)
    return str(value).casefold() not in ("false", "0", "none", "")


def _unsupported(parameters: Mapping[str, Any], day: Day) -> tuple[str, ...]:
    """The parameters that would have changed the answer of Algolia's."""
    names = []
    for name, value in parameters.items():
        if name not in _SUPPORTED | _INERT and value not in _NO_CHANGE.get(name, ()):
            names.append(name)
    if _number(parameters, "hitsPerPage", 0) > day.max_k:
        names.append(f"hitsPerPage>{day.max_k}")
    if str(parameters.get("distinct", 1)) not in ("1", "0", "True", "False", "true", "false"):
        names.append("distinct>1")
    return tuple("".join(c for c in name if c.isalnum() or c in "_->")[:64] for name in names)


# Values, which a URL has as texts


def _text(parameters: Mapping[str, Any], name: str, default: str = "") -> str:
    value = parameters.get(name)
    if value is None:
        return default
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    raise RequestError(name, value, "a text")


def _flag(parameters: Mapping[str, Any], name: str) -> bool:
    value = parameters.get(name, False)
    if value in (True, False, None, "true", "false", "1", "0"):
        return value in (True, "true", "1")
    raise RequestError(name, value, "true or false")


def _number(parameters: Mapping[str, Any], name: str, default: int) -> int:
    value = parameters.get(name)
    if value is None:
        return default
    text = str(value)
    if isinstance(value, bool) or not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise RequestError(name, value, "a whole number from 0 up")
    return int(text)


def _names(parameters: Mapping[str, Any], name: str) -> list[str] | None:
    value = parameters.get(name)
    if value is None:
        return None
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise RequestError(name, value, "a list of names")
    if len(value) > MAX_VALUES:
        raise RequestError(name, f"{len(value)} names", f"at most {MAX_VALUES}")
    return value


def values_limit(parameters: Mapping[str, Any], name: str, default: int) -> int:
    """Of a facet: at most MAX_VALUES."""
    return min(_number(parameters, name, default), MAX_VALUES)
