"""A stock InstantSearch page, of another origin, in a browser against the application: every widget
does what it is for, with the client of algoliasearch 5 and of 4."""

# ruff: noqa: F811 (fixtures are imported, and named again as parameters)

from __future__ import annotations

import mimetypes
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from tests.algolia_calls import FOLDER, node_modules
from tests.front_end_shop import ORIGIN, Served, outfitters_shop, served_shop, until  # noqa: F401
from tests.storefront_shop import chromium

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    node_modules()
    with chromium() as browser:
        yield browser


@pytest.fixture(params=["5", "4"])
def page(request: Any, browser: Any, served_shop: Served) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1000, "height": 1400})
    # Chromium asks before a page of another host calls this machine.
    context.grant_permissions(["local-network-access"], origin=ORIGIN)
    page = context.new_page()
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.route(f"{ORIGIN}/**", serve_file)
    values = {"host": served_shop.host, "key": served_shop.key, "client": request.param}
    page.goto(f"{ORIGIN}/page.html?{urlencode(values)}")
    page.wait_for_selector("#hits article")
    yield page
    context.close()
    assert page.errors == []


def serve_file(route: Any) -> None:
    """A file of the folder of front-ends, as the page's own host has it."""
    path = (FOLDER / urlsplit(route.request.url).path.lstrip("/")).resolve()
    if not path.is_relative_to(FOLDER) or not path.is_file():
        return route.fulfill(status=404)
    kind = mimetypes.guess_type(path.name)[0] or "text/plain"
    return route.fulfill(body=path.read_bytes(), content_type=kind)


def hits(page: Any) -> list[str]:
    return page.locator("#hits article").evaluate_all("all => all.map(each => each.dataset.id)")


def shows(page: Any, selector: str, text: str) -> None:
    """Waits until an element has that text."""
    page.locator(selector, has_text=text).first.wait_for()


def total(page: Any, count: int) -> None:
    text = re.compile(rf"^{count} result")
    page.locator("#stats .ais-Stats-text", has_text=text).first.wait_for()


def test_hits_search_box_and_stats(page: Any) -> None:
    total(page, 48)
    assert len(hits(page)) == 10
    page.fill("#searchbox input", "mug")
    total(page, 8)
    assert page.locator("#hits h2").first.inner_html().count("<mark") == 1
    assert "mug" in page.locator("#hits h2 mark").first.inner_text()
    assert "…" in page.locator("#hits p").first.inner_text()
    assert page.locator("#hits b").first.inner_text().endswith("EUR")


def test_refinement_lists(page: Any) -> None:
    page.click("#brand label:has-text('Acme')")
    total(page, 24)
    shows(page, "#brand label:has-text('Globex') .ais-RefinementList-count", "24")
    page.click("#colour label:has-text('red')")
    total(page, 6)
    page.click("#colour label:has-text('blue')")
    total(page, 12)
    assert {int(each[1:]) % 8 for each in hits(page)} <= {0, 1}


def test_values_of_a_refinement_list_are_searched(page: Any) -> None:
    page.fill("#colour input[type=search]", "bl")
    page.locator("#colour mark").first.wait_for()
    until(lambda: page.locator("#colour .ais-RefinementList-item").count() == 2)
    page.click("#colour label:has-text('black')")
    total(page, 12)


def test_hierarchical_menu_and_breadcrumb(page: Any) -> None:
    page.click("#categories a:has-text('Home')")
    total(page, 24)
    page.click("#categories a:has-text('Kitchen')")
    total(page, 16)
    page.click("#categories a:has-text('Plates')")
    total(page, 8)
    shows(page, "#categories a:has-text('Clothing') .ais-HierarchicalMenu-count", "24")
    shows(page, "#categories a:has-text('Mugs') .ais-HierarchicalMenu-count", "8")
    page.click("#breadcrumb li:nth-child(2) a")  # the first is the widget's own Home
    total(page, 24)


def test_range_input(page: Any) -> None:
    low, high = (page.locator(f"#price .ais-RangeInput-input--{side}") for side in ("min", "max"))
    assert (low.get_attribute("min"), high.get_attribute("max")) == ("10", "57")
    low.fill("20")
    high.fill("24")
    page.click("#price button")
    total(page, 5)


def test_numeric_menu_toggle_and_menu(page: Any) -> None:
    page.click("#prices label:has-text('Over 40')")
    total(page, 18)
    page.click("#stock label")
    total(page, 12)
    page.click("#clear button")
    total(page, 48)
    page.click("#menu a:has-text('true')")
    total(page, 24)


def test_sort_by(page: Any) -> None:
    page.select_option("#sort select", "products_price_desc")
    until(lambda: hits(page)[:3] == ["i47", "i46", "i45"])
    page.select_option("#sort select", "products_price_asc")
    until(lambda: hits(page)[:3] == ["i00", "i01", "i02"])


def test_pagination_and_hits_per_page(page: Any) -> None:
    page.select_option("#sort select", "products_price_asc")
    until(lambda: hits(page)[0] == "i00")
    page.click("#pagination a[aria-label='Page 2']")
    until(lambda: hits(page)[0] == "i10")
    page.click("#pagination a[aria-label^='Last']")
    until(lambda: len(hits(page)) == 8)
    page.select_option("#per-page select", "20")
    until(lambda: len(hits(page)) == 20)


def test_refinements_are_listed_and_cleared(page: Any) -> None:
    page.click("#brand label:has-text('Globex')")
    total(page, 24)
    shows(page, "#current .ais-CurrentRefinements-category", "Globex")
    page.click("#current .ais-CurrentRefinements-delete")
    total(page, 48)


def test_autocomplete_with_query_suggestions(page: Any) -> None:
    page.locator("#autocomplete input").press_sequentially("gre", delay=20)
    items = page.locator(".aa-Item")
    items.first.wait_for()
    assert 1 <= items.count() <= 4
    assert all("green" in each for each in items.all_inner_texts())
    items.filter(has_text="green mug").first.click()
    page.locator("#autocomplete form").evaluate("form => form.requestSubmit()")
    total(page, 2)


def test_insights(page: Any, served_shop: Served) -> None:
    """A click and an addition to the cart arrive with the answer that showed the item, which is
    logged as one impression; lists that were rendered are no views."""
    log = served_shop.shop.events
    before = log.counts()["interactions"]
    page.fill("#searchbox input", "lamp")
    total(page, 8)
    with page.expect_response("**/1/events**") as answer:
        page.locator("#hits article").nth(1).click()
    assert answer.value.status == 200
    with page.expect_response(lambda each: "addToCart" in (each.request.post_data or "")):
        page.locator("#hits article button").nth(1).click()
    user_id = page.evaluate("() => new Promise(r => aa('getUserToken', null, (_, t) => r(t)))")
    until(lambda: len(interactions(served_shop, user_id)) >= 2)
    events = interactions(served_shop, user_id)
    assert {each.type for each in events} == {"click", "cart"}
    assert {each.item_id for each in events} == {hits(page)[1]}
    assert log.counts()["interactions"] - before == len(events)
    (request_id,) = {each.request_id for each in events}
    impression = until(lambda: log.impression(request_id))
    assert (impression.query, impression.user_id) == ("lamp", user_id)
    assert impression.item_ids == tuple(hits(page))


def interactions(served_shop: Served, user_id: str) -> list[Any]:
    from datetime import UTC, datetime

    after = datetime(2020, 1, 1, tzinfo=UTC)
    return served_shop.shop.events.user_events(user_id, after, 100).interactions
