"""A running shop's storefront in a browser: python -m jobs.benchmark_storefront --url
http://127.0.0.1:8000/shop/ (make serve, in another terminal). How soon results come while one
types, what pages weigh, whom they ask, and what axe-core finds."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import numpy as np

from recsys.errors import InputError, RecsysError
from recsys.evaluation.results import Criterion, criteria_table, say, summary_line
from recsys.simulation.storefront import (
    check_reachable,
    key_waits,
    open_browser,
    page_weight,
    serious_violations,
)

#: Texts are typed from the titles of the front page.
TEXTS = 12


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000/shop/")
    arguments, started = parser.parse_args(), time.perf_counter()
    try:
        check_reachable(arguments.url)
        with open_browser() as browser:
            criteria = measure_storefront(browser, arguments.url)
    except RecsysError as error:
        print(f"nothing is measured: {error}", file=sys.stderr)
        return 1
    say(criteria_table(criteria))
    rows = [each.as_row() for each in criteria]
    say(summary_line("benchmark_storefront", arguments.url, started, rows))
    return 0 if all(each.reached_floor for each in criteria) else 1


def measure_storefront(browser: Any, url: str) -> list[Criterion]:
    """All criteria of a storefront."""
    page = browser.new_context(locale="en-US").new_page()
    page.goto(url)
    titles = page.locator(".card .title").all_inner_texts()
    if not titles:
        raise InputError(f"{url} shows no item: start the shop with make serve")
    item = page.locator(".card-link").first.evaluate("link => link.href")
    texts = [" ".join(title.lower().split()[:3])[:24] for title in dict.fromkeys(titles)][:TEXTS]
    say(f"types {', '.join(texts)}")
    waits_N = np.array([wait for text in texts for wait in key_waits(page, text)])
    pages = [url, f"{url}?q={texts[0]}", item]
    sizes, others = zip(*(page_weight(browser, each) for each in pages), strict=True)
    violations = serious_violations(browser, [*pages, f"{url}basket", f"{url}items/none"])
    for violation in violations:
        say(violation)
    say(f"{len(waits_N)} keys; bytes of front page, results, item: {', '.join(map(str, sizes))}")
    return [
        _at_most("key press to results p50, ms", float(np.median(waits_N)), 150, 80),
        _at_most("key press to results p95, ms", float(np.quantile(waits_N, 0.95)), 400, 200),
        _at_most("heaviest page, kB", max(sizes) / 1000, 350, 200),
        _at_most("requests to other hosts", sum(others), 0, 0),
        _at_most("accessibility violations", len(violations), 0, 0),
    ]


def _at_most(name: str, value: float, floor: float, goal: float) -> Criterion:
    return Criterion(
        name=name, value=value, interval=(value, value), floor=floor, goal=goal, at_most=True
    )


if __name__ == "__main__":
    sys.exit(main())
