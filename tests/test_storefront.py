"""The storefront's pages over a shop in memory: what they say, what they escape, whom they know."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from recsys.types import FacetCount, Item, Query, QueryUnderstanding, Ranking, ScoredItem
from serve.access import KeyAccess
from serve.routes.api import build_api
from serve.web import visitor
from serve.web.state import PAGE_SIZE
from tests.fake_shop import FakeShop

PAGE = {"Accept": "text/html"}
EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


class PageShop(FakeShop):
    """Answers every search with the items, facets and fields that a test sets."""

    def __init__(self, *items: Item, **fields: Any) -> None:
        super().__init__()
        self.day = replace(self.day, max_k=100, max_query_characters=500)
        self.items, self.fields = (
            items or (Item(item_id="i1", title="red chair", price=10.0),),
            fields,
        )

    async def search(self, query: Query) -> Ranking:
        await super().search(query)
        scored = tuple(ScoredItem(item=item, score=1.0, sources={}) for item in self.items)
        answer = Ranking(request_id=query.request_id, release="v1", items=scored[: query.k])
        return replace(answer, **{"total": len(scored), **self.fields})

    recommend = search

    async def item(self, item_id: str) -> tuple[str, Item]:
        for item in self.items:
            if item.item_id == item_id:
                return "v1", item
        return await super().item(item_id)

    async def variants(self, item_id: str) -> list[Item]:
        return list(self.items)


def browser(shop: FakeShop, **options: Any) -> TestClient:
    client = TestClient(build_api(shop, **options), follow_redirects=False)
    client.headers.update(PAGE)
    return client


@pytest.fixture
def shop() -> PageShop:
    return PageShop()


@pytest.fixture
def client(shop: PageShop) -> Iterator[TestClient]:
    with browser(shop) as client:
        yield client


# Pages


@pytest.mark.parametrize(
    "path", ["/shop/", "/shop/?q=chair", "/shop/items/i1", "/shop/basket", "/shop/recommended"]
)
def test_every_page_runs_nothing_but_its_own_scripts(client: TestClient, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 200
    assert "red chair" in response.text or path == "/shop/basket"
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert not re.search(r"<script(?! src)|\son\w+=|style=|javascript:", response.text)
    hosts = re.findall(r'(?:src|href|action)="(https?:)?//', response.text)
    assert hosts == []


def test_what_is_looked_for_is_in_the_address(client: TestClient, shop: PageShop) -> None:
    client.get(
        "/shop/?q=+lamp+&category=home&category=home+%2F+lamps&brand=a&brand=b&min_price=20"
        "&max_price=5&in_stock=true&filter%5Bcolour%5D=red&sort=price&page=3"
    )
    [query] = shop.queries
    assert (query.text, query.sort, query.offset) == ("lamp", "price", 2 * PAGE_SIZE)
    assert query.filters.category == ("home / lamps",)
    assert query.filters.brand == ("a", "b")
    assert (query.filters.min_price, query.filters.max_price) == (5, 20)
    assert query.filters.in_stock
    assert [(each.name, each.value) for each in query.filters.attributes] == [("colour", "red")]
    assert query.collapse
    assert query.facets


def test_a_part_of_a_page_tells_the_browser_its_address(client: TestClient) -> None:
    typing = {"HX-Request": "true", "HX-Trigger": "search"}
    first = client.get("/shop/?q=c", headers={**typing, "HX-Current-URL": "http://x/shop/"})
    assert first.headers["HX-Push-Url"] == "/shop/?q=c"
    second = client.get("/shop/?q=ch", headers={**typing, "HX-Current-URL": "http://x/shop/?q=c"})
    assert second.headers["HX-Replace-Url"] == "/shop/?q=ch"
    assert "<html" not in second.text
    history = {"HX-Request": "true", "HX-History-Restore-Request": "true"}
    assert "<html" in client.get("/shop/?q=ch", headers=history).text


def test_corrections_and_what_was_given_up_are_said() -> None:
    understanding = QueryUnderstanding(
        text="redd", normalised="red", corrections=(("redd", "red"),)
    )
    relaxed = (
        "no item has 'blue': found without",
        "nothing found costs under 5: shown at any price",
    )
    shop = PageShop(understanding=understanding, relaxed=relaxed, no_good_match=True)
    text = browser(shop).get("/shop/?q=redd").text
    assert "<strong>red</strong>, not “redd”" in text
    assert "Nothing has blue: found without." in text
    assert "Nothing costs under 5: shown at any price." in text
    assert "Nothing fits “redd” well" in text
    chinese = browser(shop).get("/shop/?q=redd", headers={"Accept-Language": "zh-CN,en;q=0.5"}).text
    assert "没有商品包含“blue”" in chinese
    assert 'lang="zh-Hans-CN"' in chinese


def test_a_language_stays_once_it_is_chosen(client: TestClient) -> None:
    assert "为您推荐" in client.get("/shop/?lang=zh").text
    assert "为您推荐" in client.get("/shop/").text
    assert "Recommended for you" in client.get("/shop/?lang=en").text


def test_facets_become_controls() -> None:
    facets = {
        "category": (FacetCount("home", 9), FacetCount("home / lamps", 4), FacetCount("garden", 2)),
        "brand": tuple(FacetCount(f"brand {at}", 100 - at) for at in range(50)),
        "price": (FacetCount("0-10", 5), FacetCount("10-25", 5), FacetCount("25-", 3)),
        "width": (FacetCount("0-40", 2, unit="cm"), FacetCount("40-", 1, unit="cm")),
        "colour": (FacetCount("red", 3, True), FacetCount("blue", 3)),
    }
    text = browser(PageShop(facets=facets)).get("/shop/?category=home&filter%5Bcolour%5D=red").text
    assert 'name="category" value="home / lamps"' in text  # open below what is selected
    assert text.count('name="brand"') == 50
    assert "data-filterable" in text
    assert "40 cm and more" in text
    assert re.search(r'name="filter\[colour\]" value="red" checked', text)
    assert "[0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 13.0" in text.replace("&#34;", '"')
    closed = browser(PageShop(facets=facets)).get("/shop/?q=a").text
    assert "home / lamps" not in closed


# Bad inputs

BAD = Item(
    item_id=EVIL,
    title=EVIL,
    brand=EVIL,
    category=EVIL,
    description=EVIL,
    image=f"javascript:{EVIL}",
)


@pytest.mark.parametrize(
    "path",
    ["/shop/", "/shop/?q=%3Cscript%3Ealert(1)%3C/script%3E%22%27%3E", "/shop/?brand=%3Cscript%3E"],
)
def test_nothing_of_a_title_or_a_query_is_markup(path: str) -> None:
    facets = {"brand": (FacetCount(EVIL, 1), FacetCount("b", 1))}
    text = browser(PageShop(BAD, facets=facets)).get(path).text
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert "javascript:" not in text


def test_a_long_title_is_cut_on_a_card_and_whole_on_its_page() -> None:
    title = "very long " * 500
    client = browser(PageShop(Item(item_id="i1", title=title)))
    assert title.strip() not in client.get("/shop/?q=a").text
    assert title.strip() in client.get("/shop/items/i1").text


def test_right_to_left_titles_turn_by_themselves() -> None:
    text = browser(PageShop(Item(item_id="i1", title="كرسي"))).get("/shop/?q=a").text
    assert re.search(r'class="title" dir="auto">كرسي', text)


@pytest.mark.parametrize("image", ["", "broken", "javascript:alert(1)", "//host/x", "data:x"])
def test_what_is_no_picture_leaves_the_tile(image: str) -> None:
    item = Item(item_id="i1", title="lamp", category="home / lamps", image=image)
    text = browser(PageShop(item)).get("/shop/?q=a").text
    assert "<img" not in text
    assert ">L</span>" in text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/shop/items/none", 404),
        ("/shop/?sort=chaos", 422),
        ("/shop/?min_price=-1", 422),
        ("/shop/nowhere", 404),
        (f"/shop/?q={'x' * 17_000}", 414),
    ],
)
def test_refusals_are_pages(client: TestClient, path: str, status: int) -> None:
    response = client.get(path)
    assert response.status_code == status
    assert response.headers["content-type"].startswith("text/html")
    assert "data-retry" not in response.text


def test_a_page_without_a_release_says_so_and_asks_again(shop: PageShop) -> None:
    shop.release = None
    response = browser(shop).get("/shop/?q=a")
    assert response.status_code == 503
    assert "data-retry" in response.text
    fragment = browser(shop).get("/shop/?q=a", headers={"HX-Request": "true"})
    assert fragment.headers["content-type"] == "application/json"


# Visitors


def click(client: TestClient, **headers: str) -> Any:
    body = {"type": "click", "item_id": "i1", "request_id": "r1", "user_id": "customer"}
    return client.post("/shop/events", json=body, headers=headers)


def test_a_visitor_is_the_cookie_s_whatever_a_body_says(client: TestClient, shop: PageShop) -> None:
    cookie = client.get("/shop/").headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert click(client).status_code == 204
    [event] = shop.stored.values()
    assert event.user_id == f"visitor-{client.cookies['nightshelf_visitor']}"
    assert event.request_id == "r1"
    client.get("/shop/?q=a")
    assert shop.queries[-1].user_id == event.user_id


@pytest.mark.parametrize("secret", ["900", "u1", "../x", "a" * 23, "a b" * 7])
def test_no_cookie_names_a_customer(client: TestClient, shop: PageShop, secret: str) -> None:
    client.get("/shop/?q=a", headers={"Cookie": f"nightshelf_visitor={secret}"})
    assert re.fullmatch(r"visitor-[\w-]{22}", str(shop.queries[-1].user_id))
    assert secret not in str(shop.queries[-1].user_id)


def test_who_asks_for_privacy_is_nobody(client: TestClient, shop: PageShop) -> None:
    response = client.get("/shop/", headers={"Sec-GPC": "1"})
    assert "set-cookie" not in response.headers
    assert {query.user_id for query in shop.queries} == {None}
    client.get("/shop/")
    click(client, **{"Sec-GPC": "1"})
    assert not shop.stored


def test_a_visitor_who_opts_out_is_forgotten(client: TestClient, shop: PageShop) -> None:
    client.get("/shop/")
    click(client)
    [event] = shop.stored.values()
    client.post("/shop/privacy", data={"action": "forget"})
    assert shop.privacy_requests == [("forget", event.user_id)]
    assert client.cookies["nightshelf_visitor"] == visitor.NOBODY
    click(client)
    assert len(shop.stored) == 1
    assert client.post("/shop/privacy", data={"action": "start"}).status_code == 303
    client.get("/shop/")
    assert client.cookies["nightshelf_visitor"] != visitor.NOBODY


def test_a_basket_is_filled_and_ordered(client: TestClient, shop: PageShop) -> None:
    client.get("/shop/")
    form = {"item_id": "i1", "action": "add", "request_id": "r7"}
    assert client.post("/shop/basket", data=form).status_code == 303
    part = client.post("/shop/basket", data=form, headers={"HX-Request": "true"})
    assert "is in your basket" in part.text
    assert part.headers["HX-Trigger"] == "basket"
    assert 'value="2"' in client.get("/shop/basket").text
    client.post("/shop/order", data={"": ""})
    assert [(e.type, e.quantity, e.request_id) for e in shop.stored.values()] == [
        ("cart", 1, "r7"), ("cart", 1, "r7"), ("purchase", 2, None),
    ]  # fmt: skip
    assert "Nothing is in it yet" in client.get("/shop/basket").text


@pytest.mark.parametrize("basket", ["x", "i1~0", "i1~1000", "~3", "i1~9.i1", "%", "." * 9_000])
def test_a_damaged_basket_is_read_as_far_as_it_goes(client: TestClient, basket: str) -> None:
    response = client.get("/shop/basket", headers={"Cookie": f"nightshelf_basket={basket}"})
    assert response.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
)
def test_no_page_of_another_site_acts_for_a_visitor(
    client: TestClient, shop: PageShop, headers: dict[str, str]
) -> None:
    client.get("/shop/")
    assert click(client, **headers).status_code == 403
    for path in ("basket", "order", "privacy"):
        form = {"item_id": "i1", "action": "add"}
        assert client.post(f"/shop/{path}", data=form, headers=headers).status_code == 403
    assert not shop.stored


@pytest.mark.parametrize("kind", ["purchase", "cart", "impression", None, 3])
def test_scripts_report_views_and_clicks_alone(client: TestClient, kind: Any) -> None:
    client.get("/shop/")
    event = {"type": kind, "item_id": "i1"}
    assert client.post("/shop/events", json=event).status_code == 422


# Keys


def test_with_keys_there_is_no_storefront_unless_the_setup_says_so(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text('{"keys": []}')
    shop = PageShop()
    assert browser(shop, access=KeyAccess(keys)).get("/shop/").status_code == 404
    shop.day = replace(shop.day, storefront=True)
    client = browser(shop, access=KeyAccess(keys))
    assert client.get("/shop/").status_code == 200
    assert client.get("/search?q=a").status_code == 401
    shop.day = replace(shop.day, storefront=False)
    assert browser(shop).get("/shop/").status_code == 404


def test_assets_are_compressed_and_kept(client: TestClient) -> None:
    page = client.get("/shop/").text
    [style] = re.findall(r'href="(/shop/assets/\w+/shop.css)"', page)
    response = client.get(style)
    assert response.headers["Content-Encoding"] == "gzip"
    assert "immutable" in response.headers["Cache-Control"]
    assert client.get("/shop/assets/x/secret.py").status_code == 404
    for name in ("swagger-ui-bundle.js", "swagger-ui.css", "docs.js"):
        assert f"docs/assets/{name}" in client.get("/docs").text
        assert client.get(f"/docs/assets/{name}").status_code == 200


def test_pictures_are_small_copies_of_the_shop_s_own(shop: PageShop) -> None:
    shop.items = (Item(item_id="pictured", title="lamp", image="https://elsewhere.example/x"),)
    client = browser(shop)
    [path] = re.findall(r'<img src="(/pictures/\w+\.webp)"', client.get("/shop/?q=a").text)
    response = client.get(path)
    assert response.headers["content-type"] == "image/webp"
    assert "immutable" in response.headers["Cache-Control"]
    assert client.get(f"/pictures/{'1' * 32}.webp").status_code == 404
    assert client.get("/pictures/..%2Fx.webp").status_code in (404, 422)


def test_titles_are_in_the_visitor_s_language(shop: PageShop) -> None:
    words = {"title_zh": "红色椅子", "category_zh": "家居 / 椅子", "colour": "red"}
    shop.items = (
        Item(item_id="i1", title="red chair", category="home / chairs", attribute_values=words),
    )
    client = browser(shop)
    assert "红色椅子" not in client.get("/shop/items/i1").text
    chinese = client.get("/shop/items/i1?lang=zh").text
    assert "红色椅子</h1>" in chinese
    assert ">椅子</a>" in chinese
    assert "Title zh" not in chinese


def test_of_many_brands_the_shop_looks_for_one(shop: PageShop) -> None:
    brands = tuple(FacetCount(f"brand {at}", 100 - at) for at in range(50))
    shop.fields = {"facets": {"brand": brands}}
    client = browser(shop)
    assert "/shop/values?facet=brand" in client.get("/shop/?q=a&brand=x").text
    values = client.get("/shop/values?facet=brand&find=bra&q=a&brand=x&in_stock=true").text
    assert values.count('name="brand"') == 20
    query = shop.queries[-1]
    assert (query.k, query.logged, query.user_id, query.filters.brand) == (0, False, None, ())
    assert query.filters.in_stock
    assert query.value_facets is not None
    assert (query.value_facets.names, query.value_facets.text) == (("brand",), "bra")
