"""The storefront on Ray Serve in a real browser: what a visitor does changes what they are
recommended, whichever replica answers."""

# ruff: noqa: F811 (fixtures are imported, and named again as parameters)

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.serving import URL, home, run  # noqa: F401
from tests.storefront_shop import chromium

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_recommendations_follow_what_a_visitor_does(run: Callable[..., object]) -> None:
    """Whoever looks at red things in the checkerboard shop gets red ones."""
    run("fused", replicas=2)
    with chromium() as browser:
        page = browser.new_context().new_page()
        page.goto(f"{URL}/shop/")
        shelf = "#shelf-recommended .title"
        before = page.locator(shelf).all_inner_texts()
        page.locator("#q").press_sequentially("redd chair", delay=60)
        page.wait_for_selector(".said >> text=redd")
        page.locator(".card-link >> text=red chair").click()
        page.wait_for_selector("[data-view]")
        page.get_by_role("button", name="Add to basket").click()
        page.wait_for_selector("#toast >> text=is in your basket")
        page.goto(f"{URL}/shop/")
        after = page.locator(shelf).all_inner_texts()
        assert after != before
        assert sum(title.startswith("red") for title in after[:5]) >= 4
