"""The storefront as a visitor's browser sees it: how soon results come, what pages weigh, whom they
ask, whom they shut out.

Needs playwright and a Chromium (Debian's `chromium`); both are for development alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx

from recsys.errors import InputError

#: Between two keys, so that a search does not wait for the one before it.
KEY_PAUSE_MS = 60
SERIOUS = ("serious", "critical")
#: Types a text; resolves with the milliseconds until its results have been painted.
_TYPE = """([text]) => new Promise((resolve) => {
  const box = document.getElementById("q"), started = performance.now();
  const observer = new MutationObserver(() => {
    if (document.querySelector("h1")?.textContent !== text.trim()) return;
    observer.disconnect();
    requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - started)));
  });
  observer.observe(document.body, { childList: true, subtree: true });
  box.value = text;
  box.dispatchEvent(new InputEvent("input", { bubbles: true }));
})"""


@contextmanager
def open_browser() -> Iterator[Any]:
    """A headless Chromium, as playwright's Browser. Raises InputError where one of the two is
    missing."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise InputError("the browser needs playwright: pip install 'nightshelf[dev]'") from None
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        raise InputError("there is no chromium on the path: apt-get install chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def check_reachable(url: str) -> None:
    """Raises InputError where nothing answers there."""
    try:
        status = httpx.get(url, timeout=30).status_code
    except httpx.HTTPError as error:
        raise InputError(f"{url} does not answer ({error}): start it with make serve") from None
    if status != 200:
        raise InputError(f"{url} answers {status}: its page says why")


def key_waits(page: Any, text: str) -> list[float]:
    """Milliseconds from each key of a text to its results on the screen; spaces, which change
    nothing, excepted."""
    page.locator("#q").fill("")
    page.locator("#q").focus()
    waits = []
    for at, character in enumerate(text, 1):
        if character.strip():
            waits.append(float(page.evaluate(_TYPE, [text[:at]])))
            page.wait_for_timeout(KEY_PAUSE_MS)
    return waits


def page_weight(browser: Any, url: str) -> tuple[int, int]:
    """Compressed bytes of a page and all that it loads but pictures, with nothing in the cache; and
    how many requests went to other hosts."""
    context, requests = browser.new_context(), list[Any]()
    page = context.new_page()
    page.on("requestfinished", lambda request: requests.append(request))
    page.on("requestfailed", lambda request: requests.append(request))
    page.goto(url, wait_until="networkidle")
    others = sum(urlsplit(each.url).netloc != urlsplit(url).netloc for each in requests)
    weighed = [each for each in requests if each.resource_type != "image" and each.response()]
    size = sum(each.sizes()["responseBodySize"] for each in weighed)
    context.close()
    return size, others


def serious_violations(browser: Any, urls: Iterable[str]) -> list[str]:
    """What axe-core calls serious or worse, wide and narrow, light and dark."""
    from axe_playwright_python.sync_playwright import Axe

    violations = []
    for scheme, width in (("light", 1280), ("dark", 1280), ("light", 390), ("dark", 390)):
        # axe is put into the page as a script, which the page's own policy would refuse.
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True
        )
        page = context.new_page()
        for url in urls:
            page.goto(url)
            violations += [
                f"{url} ({scheme}, {width}): {each['id']} {each['nodes'][0]['html'][:150]}"
                for each in Axe().run(page).response["violations"]
                if each["impact"] in SERIOUS
            ]
        context.close()
    return violations
