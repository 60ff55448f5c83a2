"""The storefront's pages: `GET /shop/`, one item, the basket; and the parts that htmx asks for.

The pages answer from the same `Shop` as the API's routes, in this process: no key is in a page.
What a visitor does comes in by `actions`."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from recsys.errors import InputError, NotFoundError
from recsys.types import BELOW, Filters, Item, Query, Ranking, ValueFacets
from serve.access import require_visitor
from serve.admission import deadline_of
from serve.routes.requests import Id
from serve.routes.shop import Shop, shop_of
from serve.web import visitor as visitors
from serve.web.cards import Card, CardMaker, ItemShelf, attribute_rows, text_of
from serve.web.facets import controls_of, value_options
from serve.web.pages import asset_response, is_fragment, page_response, storefront_path
from serve.web.sentences import relaxed_sentences, why_sentence
from serve.web.state import LAST_PAGE, PAGE_SIZE, SearchState, pages_around
from serve.web.visitor import Visitor, basket_of, visitor_of
from serve.web.wording import COOKIE as LANGUAGE_COOKIE
from serve.web.wording import LANGUAGES, Wording, wording_of

SHELF_SIZE, SUGGESTIONS = 12, 6
#: Characters that a value is looked for by.
MAX_FIND = 100
#: Categories that the front page leads to.
FRONT_CATEGORIES = 12
#: Best sellers, among which a picture for each category is looked for.
FRONT_ITEMS = 60

#: The name of a list in the page, its heading, and the answer that it shows.
List = tuple[str, str, Awaitable[Ranking]]

router = APIRouter(prefix="/shop", include_in_schema=False, dependencies=[require_visitor()])
public = APIRouter(prefix="/shop", include_in_schema=False)


@dataclass(frozen=True)
class Visit:
    """A request with what every page needs: the shop, who asks, and in which language."""

    request: Request
    shop: Shop
    visitor: Visitor
    wording: Wording

    @classmethod
    def of(cls, request: Request) -> Visit:
        return cls(request, shop_of(request), visitor_of(request), wording_of(request))

    def query(self, k: int, **fields: Any) -> Query:
        """With an id of its own for each list of a page: a click then names the list."""
        return Query(
            request_id=uuid.uuid4().hex,
            k=min(k, self.shop.day.max_k),
            user_id=self.visitor.user_id,
            deadline=deadline_of(self.request.scope),
            **fields,
        )

    def recommended(self) -> List:
        say = self.wording.text
        named = self.visitor.user_id is not None
        title = say("Recommended for you") if named else say("Popular at the moment")
        query = self.query(SHELF_SIZE, diversity=self.shop.day.diversity)
        return "recommended", title, self.shop.recommend(query)

    async def card_maker(self, items: Iterable[Item]) -> CardMaker:
        """With the paths of these items' pictures."""
        hashes = await self.shop.thumbnails([each.item_id for each in items])
        root = self.request.scope.get("root_path", "")
        paths = {item_id: f"{root}/pictures/{digest}.webp" for item_id, digest in hashes.items()}
        return CardMaker(self.wording, paths)

    async def shelves(self, *lists: List) -> list[ItemShelf]:
        """Without the empty ones."""
        rankings = await asyncio.gather(*(ranking for _, _, ranking in lists))
        items = [each.item for ranking in rankings for each in ranking.items]
        maker = await self.card_maker(items)
        shelves = [
            ItemShelf(name, title, ranking.request_id, maker.cards_of(ranking))
            for (name, title, _), ranking in zip(lists, rankings, strict=True)
        ]
        return [each for each in shelves if each.cards]

    def respond(
        self, template: str, context: dict[str, Any], headers: dict[str, str] | None = None
    ) -> Response:
        """A page, with the cookies that it sets."""
        request, visitor = self.request, self.visitor
        common = {
            "state": SearchState(),
            "suggestions": [],
            "shelves": [],
            "visitor": visitor,
            "wording": self.wording,
            "basket_count": sum(basket_of(request).values()),
            "max_query": self.shop.day.max_query_characters,
            "photo": False,
        }
        response = page_response(request, template, {**common, **context}, headers=headers)
        if visitor.is_new and visitor.secret:
            visitors.keep_visitor(request, response, visitor.secret)
        if (language := request.query_params.get("lang")) in LANGUAGES:
            visitors.set_cookie(request, response, LANGUAGE_COOKIE, language)
        return response


@public.get("/assets/{digest}/{name}")
async def get_asset(request: Request, digest: str, name: str) -> Response:
    response = asset_response(request, name)
    if response is None:
        raise NotFoundError(f"there is no {name[:100]!r} among the assets: run make assets")
    return response


@router.get("")
async def get_storefront(request: Request) -> Response:
    return RedirectResponse(storefront_path(request))


@router.get("/")
async def get_page(request: Request) -> Response:
    state = SearchState.of(request)
    visit = Visit.of(request)
    return await (_front_page(visit) if state.is_home else _results_page(visit, state))


@router.get("/items/{item_id:path}")
async def get_item_page(request: Request, item_id: Id) -> Response:
    visit = Visit.of(request)
    shop, wording, say = visit.shop, visit.wording, visit.wording.text
    release, item = await shop.item(item_id)
    if item.hidden:
        raise NotFoundError(f"item {item_id!r} is not in release {release}: it is hidden")
    variants = await shop.variants(item_id)
    maker = await visit.card_maker([item, *variants])
    sold = Filters(in_stock=True)
    complements = shop.complements(visit.query(SHELF_SIZE, filters=sold), item_id)
    similar = shop.similar(visit.query(SHELF_SIZE, filters=sold), item_id)
    context = {
        "item": item,
        "card": maker.card_of(item),
        "description": text_of(item, "description", wording),
        "levels": _category_levels(item, wording),
        "attributes": attribute_rows(item, wording),
        "variants": [
            (maker.card_of(each), _difference(each, variants, wording)) for each in variants
        ],
        "shelves": await visit.shelves(
            ("complements", say("Goes well with it"), complements),
            ("similar", say("Similar items"), similar),
            visit.recommended(),
        ),
    }
    return visit.respond("item.html", context)


@router.get("/basket")
async def get_basket(request: Request) -> Response:
    visit = Visit.of(request)
    lines = await _basket_lines(visit, basket_of(request))
    context = {
        "lines": lines,
        "total": _total(lines, visit.wording),
        "shelves": await visit.shelves(visit.recommended()),
        "ordered": request.query_params.get("ordered") == "true",
    }
    return visit.respond("basket.html", context)


@router.get("/recommended")
async def get_recommended(request: Request) -> Response:
    """The shelf alone, after the visitor did something."""
    visit = Visit.of(request)
    [shelf] = await visit.shelves(visit.recommended()) or [ItemShelf("recommended", "", "", ())]
    return visit.respond("shelf.html", {"shelf": shelf})


@router.get("/values")
async def get_values(request: Request, facet: Id, find: str = "") -> Response:
    """The values of a facet in which the words of `find` begin some: of 100,000 brands a page has
    few."""
    visit, state = Visit.of(request), SearchState.of(request)
    query = state.without_facet(facet).query(uuid.uuid4().hex, None, deadline_of(request.scope))
    values = ValueFacets((facet,), find[:MAX_FIND])
    query = replace(query, k=0, offset=0, facets=False, value_facets=values, logged=False)
    ranking = await visit.shop.search(query)
    options = value_options(facet, ranking, state, visit.wording)
    return visit.respond("values.html", {"options": options})


@router.get("/why")
async def get_why(request: Request, request_id: Id, item_id: Id) -> Response:
    """Why an item is in an answer. Who has the answer's id, which is random, has the answer."""
    visit = Visit.of(request)
    try:
        explanation = await visit.shop.explain(request_id, item_id)
        sentence = why_sentence(explanation, visit.wording)
    except (InputError, NotFoundError):
        sentence = visit.wording.text("It is like the item on this page, or bought with it.")
    return visit.respond("why.html", {"sentence": sentence})


async def _front_page(visit: Visit) -> Response:
    say, shop = visit.wording.text, visit.shop
    query = visit.query(FRONT_ITEMS, text="", collapse=True, sort="popularity", facets=True)
    newest = visit.query(SHELF_SIZE, text="", collapse=True, sort="newest")
    lists = [visit.recommended()] if visit.visitor.user_id else []
    new = ("new", say("New in the shop"), shop.search(newest))
    best, shelves = await asyncio.gather(shop.search(query), visit.shelves(*lists, new))
    maker = await visit.card_maker(each.item for each in best.items)
    cards = maker.cards_of(best)
    title = say("Best sellers")
    shelves.insert(len(lists), ItemShelf("best", title, best.request_id, cards[:SHELF_SIZE]))
    context = {
        "categories": _front_categories(best, cards),
        "shelves": [each for each in shelves if each.cards],
    }
    return visit.respond("front.html", context, _history(visit.request, SearchState()))


def _front_categories(best: Ranking, cards: Sequence[Card]) -> list[tuple[str, int, Card | None]]:
    """Top categories, their counts, and a best seller of each that has a picture, else any."""
    categories = []
    for each in best.facets.get("category", ()):
        if BELOW in each.value:
            continue
        start = f"{each.value}{BELOW}".casefold()
        own = [
            card for card in cards if f"{card.item.category}{BELOW}".casefold().startswith(start)
        ]
        pictured = next((card for card in own if card.picture), own[0] if own else None)
        categories.append((each.value, each.count, pictured))
    return categories[:FRONT_CATEGORIES]


async def _results_page(visit: Visit, state: SearchState) -> Response:
    request, shop, wording = visit.request, visit.shop, visit.wording
    query = state.query(request.state.request_id, visit.visitor.user_id, deadline_of(request.scope))
    ranking, suggestions = await asyncio.gather(shop.search(query), _suggestions(shop, state.text))
    maker = await visit.card_maker(each.item for each in ranking.items)
    last = max(1, min(LAST_PAGE, -(-int(ranking.total or 0) // PAGE_SIZE)))
    context = {
        "state": state,
        "ranking": ranking,
        "cards": maker.cards_of(ranking),
        "controls": controls_of(ranking, state, wording),
        "sentences": relaxed_sentences(ranking, wording),
        "suggestions": suggestions,
        "last_page": last,
        "pages": pages_around(state.page, last) if last > 1 else [],
    }
    if not ranking.items or ranking.no_good_match:
        context["shelves"] = await visit.shelves(visit.recommended())
    return visit.respond("results.html", context, _history(request, state))


def _history(request: Request, state: SearchState) -> dict[str, str]:
    """What htmx does to the browser's history: a text that grows replaces its beginning."""
    if not is_fragment(request):
        return {}
    path = f"{storefront_path(request)}{state.link()}"
    before = request.headers.get("hx-current-url", "")
    types = request.headers.get("hx-trigger") == "search" and "q=" in before
    return {"HX-Replace-Url" if types else "HX-Push-Url": path}


async def _suggestions(shop: Shop, text: str) -> list[str]:
    if not text:
        return []
    _, suggestions = await shop.suggest(text, SUGGESTIONS)
    return [each.text for each in suggestions if each.text.casefold() != text.casefold()]


def _category_levels(item: Item, wording: Wording) -> list[tuple[str, str]]:
    """Each level of the category: its whole path, and its name in the visitor's language."""
    levels = item.category.split(BELOW) if item.category else []
    names = text_of(item, "category", wording).split(BELOW)
    names = names if len(names) == len(levels) else levels
    paths = [BELOW.join(levels[: at + 1]) for at in range(len(levels))]
    return list(zip(paths, names, strict=True))


def _difference(item: Item, variants: Sequence[Item], wording: Wording) -> str:
    """What tells a variant from the others: the attributes in which they differ, else its
    title."""
    rows = [dict(attribute_rows(each, wording)) for each in variants]
    own = dict(attribute_rows(item, wording))
    words = [value for name, value in own.items() if len({row.get(name) for row in rows}) > 1]
    return ", ".join(words) or text_of(item, "title", wording)


async def _basket_lines(visit: Visit, basket: dict[str, int]) -> list[tuple[Card, int]]:
    """Cards and counts; without what the shop does not sell any more."""
    items = dict[str, Item]()
    for item_id in basket:
        with suppress(NotFoundError):  # not sold any more
            items[item_id] = (await visit.shop.item(item_id))[1]
    maker = await visit.card_maker(items.values())
    return [(maker.card_of(item), basket[item_id]) for item_id, item in items.items()]


def _total(lines: Sequence[tuple[Card, int]], wording: Wording) -> str:
    """ "" where an item has no price."""
    prices = [(card.item.price, count) for card, count in lines]
    if not lines or any(price is None for price, _ in prices):
        return ""
    total = sum((price or 0.0) * count for price, count in prices)
    return wording.price(total, lines[0][0].item.currency)
