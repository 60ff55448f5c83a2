"""Ten states of the storefront as pictures under docs/pictures: make pictures, beside a running
shop (make serve, in another terminal)."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from recsys.errors import InputError
from recsys.evaluation.results import say
from recsys.simulation.storefront import check_reachable, open_browser

FOLDER = Path(__file__).parent.parent / "docs" / "pictures"
WIDE, NARROW = {"width": 1280, "height": 860}, {"width": 390, "height": 844}
QUALITY = 82


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000/shop/")
    arguments = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        check_reachable(arguments.url)
        with open_browser() as browser:
            for name, (show, options) in STATES.items():
                page = browser.new_context(**{"viewport": WIDE, "locale": "en-US", **options})
                page = page.new_page()
                show(page, arguments.url)
                page.wait_for_timeout(500)
                say(f"{name}: {save(page.screenshot(), FOLDER / f'{name}.webp'):,} bytes")
                page.context.close()
    except InputError as error:
        print(f"no pictures: {error}", file=sys.stderr)
        return 1
    return 0


def save(png: bytes, path: Path) -> int:
    Image.open(io.BytesIO(png)).save(path, "WEBP", quality=QUALITY, method=6)
    return path.stat().st_size


def at(path: str) -> Callable[[Any, str], None]:
    """Opens one address of the storefront."""
    return lambda page, url: page.goto(f"{url}{path}", wait_until="networkidle")


def typed(text: str) -> Callable[[Any, str], None]:
    """Types a text on the front page."""

    def show(page: Any, url: str) -> None:
        page.goto(url)
        page.locator("#q").press_sequentially(text, delay=80)
        page.wait_for_load_state("networkidle")

    return show


def item(page: Any, url: str) -> None:
    """The best match of a text, in the basket."""
    page.goto(f"{url}?q=running+shoe")
    page.locator(".card-link").first.click()
    page.wait_for_selector("[data-view]")
    page.get_by_role("button", name="Add to basket").click()
    page.wait_for_load_state("networkidle")


def recommended(page: Any, url: str) -> None:
    """The front page of a visitor who looked at three things."""
    page.goto(f"{url}?q=tent")
    for place in range(3):
        page.locator(".card-link").nth(place).click()
        page.wait_for_selector("[data-view]")
        page.wait_for_load_state("networkidle")
        page.go_back()
    page.goto(url, wait_until="networkidle")
    page.locator("#shelf-recommended").scroll_into_view_if_needed()


def why(page: Any, url: str) -> None:
    page.goto(f"{url}?q=red+shoe", wait_until="networkidle")
    page.wait_for_timeout(500)
    page.locator(".card").first.hover()
    page.locator(".why summary").first.click()
    page.wait_for_function("() => document.querySelector('.why-text').textContent")


def filters(page: Any, url: str) -> None:
    page.goto(f"{url}?q=shoe", wait_until="networkidle")
    page.locator(".filters-toggle").click()


DARK, PHONE = {"color_scheme": "dark"}, {"viewport": NARROW, "device_scale_factor": 2}
#: What each picture shows, and the browser that shows it.
STATES: dict[str, tuple[Callable[[Any, str], None], dict[str, Any]]] = {
    "front": (at(""), {}),
    "typing": (typed("runing shoe"), {}),
    "facets": (at("?q=lamp&max_price=80&in_stock=true"), {}),
    "item": (item, {}),
    "recommended": (recommended, {}),
    "why": (why, {}),
    "dark": (at("?q=headphones"), DARK),
    "phone": (at("?q=mug"), PHONE),
    "phone-filters": (filters, PHONE),
    "chinese": (at("?q=%E8%B7%91%E9%9E%8B"), {"locale": "zh-CN"}),
}


if __name__ == "__main__":
    sys.exit(main())
