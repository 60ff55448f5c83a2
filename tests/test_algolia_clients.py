"""Algolia's own clients, of npm (5, its lite build, 4) and PyPI, against the application over HTTP:
each call of the subset gives what is recorded."""

# ruff: noqa: F811 (fixtures are imported, and named again as parameters)

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from tests.algolia_calls import (
    FOLDER,
    INSIGHTS,
    OBJECTS,
    SEARCHES,
    SINGLES,
    npm_results,
    pypi_results,
    reduced,
)
from tests.front_end_shop import ITEMS, Served, outfitters_shop, served_shop  # noqa: F401

pytestmark = pytest.mark.slow
RECORD = os.environ.get("NIGHTSHELF_RECORD") == "1"
EXPECTED = FOLDER / "expected.json"
CALLS = {
    "full": [*SEARCHES, *SINGLES, *OBJECTS],
    "pypi": [*SEARCHES, *SINGLES, *OBJECTS],
    "four": [*SEARCHES, *SINGLES, *OBJECTS],
    "lite": SEARCHES,
    "browser": SEARCHES,
}


@pytest.fixture(scope="module")
def results_of(served_shop: Served) -> Callable[[str], dict[str, Any]]:
    """What all calls of a client give; they are made once."""
    cache: dict[str, dict[str, Any]] = {}

    def results(client: str) -> dict[str, Any]:
        if client not in cache:
            host, key = served_shop.host, served_shop.key
            calls = CALLS[client]
            if client == "pypi":
                cache[client] = pypi_results(host, key, calls)
            else:
                cache[client] = npm_results(client, host, key, calls)
        return cache[client]

    return results


@pytest.mark.skipif(not RECORD, reason="NIGHTSHELF_RECORD=1 writes the expectations anew")
def test_record(results_of: Callable[[str], dict[str, Any]]) -> None:
    expected = {name: reduced(result) for name, result in results_of("full").items()}
    EXPECTED.write_text(json.dumps(expected, indent=1, ensure_ascii=False, sort_keys=True) + "\n")


@pytest.mark.parametrize(
    ("client", "name"),
    [(client, name) for client, calls in CALLS.items() for name, _, _ in calls],
)
def test_a_call_gives_what_is_recorded(
    client: str, name: str, results_of: Callable[[str], dict[str, Any]]
) -> None:
    result = reduced(results_of(client)[name])
    expected = json.loads(EXPECTED.read_text())[name]
    assert comparable(result, client) == comparable(expected, client)


def comparable(value: Any, client: str) -> Any:
    """Clients differ in what they make of a refusal, and the Python one in numbers of facets."""
    if client == "four" and "ids" in value and len(value["ids"]) == ITEMS:
        return sorted(value["ids"])  # its browsing gives hits alone
    if "error" in value:
        return {"error": value["error"]["status"]}
    return value


def test_calls_of_insights_are_our_events(served_shop: Served) -> None:
    events = served_shop.shop.events
    before = events.counts()["interactions"]
    results = npm_results("insights", served_shop.host, served_shop.key, INSIGHTS)
    assert {name: each.get("error") for name, each in results.items()} == dict.fromkeys(results)
    assert len(results) == len(INSIGHTS)
    assert events.counts()["interactions"] - before == len(INSIGHTS) - 1  # a filter is none
