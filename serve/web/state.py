"""What a visitor is looking for, as the address of the page says it: text, filters, order, page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from starlette.requests import Request

from recsys.types import BELOW, SORTS, Filters, Query
from serve.routes.attribute_filters import PREFIX, parse_attribute_filters
from serve.routes.requests import MAX_OFFSET, SearchParams

PAGE_SIZE = 24
LAST_PAGE = MAX_OFFSET // PAGE_SIZE + 1
Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class SearchState:
    """`attributes` are the parameters `filter[name]` with their values. Two prices in the wrong
    order change places."""

    text: str = ""
    categories: tuple[str, ...] = ()
    brands: tuple[str, ...] = ()
    min_price: float | None = None
    max_price: float | None = None
    in_stock: bool = False
    attributes: Pairs = ()
    sort: str = "relevance"
    page: int = 1

    @classmethod
    def of(cls, request: Request) -> SearchState:
        """Raises pydantic's ValidationError or RequestError for what no page links to."""
        parameters = request.query_params
        low, high = parameters.get("min_price") or None, parameters.get("max_price") or None
        # A blank text browses; the API's own must not be blank.
        params = SearchParams.model_validate({
            "q": parameters.get("q", "").strip() or "*",
            "category": [each for each in parameters.getlist("category") if each],
            "brand": [each for each in parameters.getlist("brand") if each],
            "min_price": low,
            "max_price": high,
            "sort": parameters.get("sort") or "relevance",
        })  # fmt: skip
        bounds = (params.min_price, params.max_price)
        if params.min_price is not None and params.max_price is not None:
            bounds = (min(bounds, key=float), max(bounds, key=float))  # type: ignore[arg-type]
        pairs = [(name, value) for name, value in parameters.multi_items() if value.strip()]
        parse_attribute_filters(pairs)
        page = parameters.get("page", "1")
        return cls(
            text=parameters.get("q", "").strip() and params.q.strip(),
            categories=tuple(dict.fromkeys(params.category)),
            brands=tuple(dict.fromkeys(params.brand)),
            min_price=bounds[0],
            max_price=bounds[1],
            in_stock=parameters.get("in_stock") == "true",
            attributes=tuple(pair for pair in pairs if pair[0].startswith(PREFIX)),
            sort=params.sort,
            page=max(1, min(int(page), LAST_PAGE)) if page.isdecimal() and len(page) < 6 else 1,
        )

    @property
    def is_filtered(self) -> bool:
        return bool(self.pairs(text="", sort="relevance", page=1))

    @property
    def is_home(self) -> bool:
        """Whether nothing is looked for."""
        return not self.pairs(page=1)

    @property
    def filters(self) -> Filters:
        """Of a category and one below it, the one below."""
        narrow = [each for each in self.categories if not _has_below(each, self.categories)]
        return Filters(
            category=tuple(narrow),
            brand=self.brands,
            min_price=self.min_price,
            max_price=self.max_price,
            in_stock=True if self.in_stock else None,
            attributes=parse_attribute_filters(self.attributes),
        )

    def query(self, request_id: str, user_id: str | None, deadline: float) -> Query:
        """One item of each product, with facets."""
        return Query(
            request_id=request_id,
            k=PAGE_SIZE,
            user_id=user_id,
            text=self.text,
            filters=self.filters,
            sort=self.sort if self.sort in SORTS else "relevance",
            offset=(self.page - 1) * PAGE_SIZE,
            collapse=True,
            facets=True,
            deadline=deadline,
        )

    def without_facet(self, name: str) -> SearchState:
        """Without what is selected of one facet: all of its values can be looked for."""
        if name == "brand":
            return replace(self, brands=())
        own = f"{PREFIX}{name}]"
        return replace(self, attributes=tuple(pair for pair in self.attributes if pair[0] != own))

    def pairs(self, **changes: object) -> list[tuple[str, str]]:
        """The address's parameters, without those that say what is so anyway."""
        state = replace(self, **changes)  # type: ignore[arg-type]
        pairs = [("q", state.text)] if state.text else []
        pairs += [("category", each) for each in state.categories]
        pairs += [("brand", each) for each in state.brands]
        for name, price in (("min_price", state.min_price), ("max_price", state.max_price)):
            pairs += [(name, f"{price:.15g}")] if price is not None else []
        pairs += [("in_stock", "true")] if state.in_stock else []
        pairs += state.attributes
        pairs += [("sort", state.sort)] if state.sort != "relevance" else []
        return pairs + ([("page", str(state.page))] if state.page > 1 else [])

    def link(self, **changes: object) -> str:
        """The address of a page that differs so, relative to the storefront."""
        pairs = self.pairs(**changes)
        return f"?{urlencode(pairs)}" if pairs else ""

    def without(self, name: str, value: str) -> str:
        """The address of the first page without one of the filters."""
        pairs = [pair for pair in self.pairs(page=1) if pair != (name, value)]
        return f"?{urlencode(pairs)}" if pairs else ""


def _has_below(category: str, categories: Iterable[str]) -> bool:
    start = f"{category}{BELOW}".casefold()
    return any(each.casefold().startswith(start) for each in categories)


def pages_around(page: int, last: int) -> Sequence[int]:
    """Numbers of pages to link: the first, the last, and two on each side; 0 is a gap."""
    near = sorted({1, last, *range(max(1, page - 2), min(last, page + 2) + 1)})
    numbers = list[int]()
    for number in near:
        numbers += [0] if numbers and number > numbers[-1] + 1 else []
        numbers.append(number)
    return numbers
