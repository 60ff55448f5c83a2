"""How soon and how rightly the catalogue's changes are seen over HTTP. Knows nothing of Ray."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np
import psutil

from recsys.catalogue.changes import FieldChange, ItemState
from recsys.errors import RecsysError
from recsys.release.release import Release
from recsys.simulation.load import LoadGenerator, LoadShape, in_background, summarize
from recsys.simulation.traffic import Traffic

#: An item that a shop of groceries lacks, and how somebody asks for it who knows none of its words.
FOREIGN = (
    ("running shoes", "sneakers for jogging"),
    ("office chair", "seat for a desk"),
    ("trousers", "pants"),
    ("refrigerator with freezer", "fridge"),
)
#: An answer that is not new by then is lost.
LIMIT_S = 30.0


@dataclass
class Shelf:
    """What a client knows of the items that it changed: their states by number of the change."""

    prices: dict[str, list[tuple[int, float | None]]] = field(default_factory=dict)
    hidden: dict[str, list[tuple[int, bool]]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, row: Mapping[str, Any], number: int) -> None:
        with self.lock:
            if "price" in row:
                self.prices.setdefault(row["item_id"], []).append((number, row["price"]))
            if "hidden" in row:
                self.hidden.setdefault(row["item_id"], []).append((number, row["hidden"]))

    def price(self, item_id: str, number: int) -> float | None:
        """As of this change; NaN where none of ours came before."""
        with self.lock:
            return _as_of(self.prices.get(item_id, ()), number, math.nan)

    def is_hidden(self, item_id: str, number: int) -> bool:
        with self.lock:
            return bool(_as_of(self.hidden.get(item_id, ()), number, False))


def _as_of(states: Sequence[tuple[int, Any]], number: int, default: Any) -> Any:
    earlier = [state for state in states if state[0] <= number]
    return max(earlier)[1] if earlier else default


class LiveClient:
    """Changes and searches of one shop at `url`."""

    def __init__(self, url: str) -> None:
        self.url, self.http = url, httpx.Client(base_url=url, timeout=60)

    def search(self, q: str, **params: Any) -> dict[str, Any]:
        """An answer without a shed one in between."""
        for _ in range(100):
            answer = self.http.get("/search", params={"q": q, **params})
            if answer.status_code == 200:
                return answer.json()
            time.sleep(0.05)
        raise RecsysError(f"/search?q={q} answers {answer.status_code}: {answer.text[:300]}")

    def change(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The outcome of each row; raises RecsysError unless all are accepted or unchanged."""
        answer = self.http.post("/items", json=list(rows))
        if answer.status_code != 200:
            raise RecsysError(f"POST /items answers {answer.status_code}: {answer.text[:300]}")
        outcomes: list[dict[str, Any]] = answer.json()["items"]
        for each in outcomes:
            if each["status"] not in ("accepted", "unchanged"):
                raise RecsysError(f"a change was not accepted: {each}")
        return outcomes

    def seconds_until(self, is_new: Any, quiet_s: float = 0.6) -> float:
        """From now to the last answer that was not new, over all replicas: it ends once none was
        stale for `quiet_s`. Raises RecsysError after LIMIT_S."""
        started = last = time.perf_counter()
        while (now := time.perf_counter()) - last < quiet_s:
            if now - started > LIMIT_S:
                raise RecsysError(f"a change was not seen in {LIMIT_S:g} s")
            if not is_new():
                last = time.perf_counter()
        return last - started


def measure_price_delays(client: LiveClient, item_ids: Sequence[str]) -> list[float]:
    """Seconds from the acknowledgement of each price to the last answer without it."""
    delays = []
    for at, item_id in enumerate(item_ids):
        price = round(1000 + at + 0.01 * (at % 97), 2)
        client.change([{"item_id": item_id, "op": "patch", "price": price}])
        delays.append(client.seconds_until(lambda i=item_id, p=price: _has_price(client, i, p)))
    return delays


def _has_price(client: LiveClient, item_id: str, price: float) -> bool:
    items = client.search(item_id, k=1)["items"]
    return bool(items) and items[0]["item_id"] == item_id and items[0]["price"] == price


def measure_meaning_delays(client: LiveClient) -> list[float]:
    """The same of new items, each found by words that it does not have."""
    delays = []
    for at, (title, query) in enumerate(FOREIGN):
        item_id = f"live-{time.time_ns()}-{at}"
        client.change([{"item_id": item_id, "title": title, "price": 9.0}])
        delays.append(client.seconds_until(lambda i=item_id, q=query: _finds(client, i, q)))
        client.change([{"item_id": item_id, "op": "delete"}])
    return delays


def _finds(client: LiveClient, item_id: str, query: str) -> bool:
    return item_id in [item["item_id"] for item in client.search(query, k=50)["items"]]


@contextmanager
def changing(
    client_url: str, item_ids: Sequence[str], rate: float, shelf: Shelf | None = None, seed: int = 0
) -> Iterator[list[int]]:
    """So many prices and stocks a second, in batches of a tenth of a second, while the block runs;
    the list counts what was accepted."""
    closed, counted = threading.Event(), list[int]()
    client, rng = LiveClient(client_url), np.random.default_rng(seed)

    def run() -> None:
        due = time.perf_counter()
        while not closed.is_set():
            ids = rng.choice(len(item_ids), max(1, int(rate / 10)), replace=False)
            rows = [_random_patch(item_ids[at], rng) for at in ids.tolist()]
            for row, outcome in zip(rows, client.change(rows), strict=True):
                if shelf is not None:
                    shelf.note(row, outcome["number"])
            counted.append(len(rows))
            due += 0.1
            time.sleep(max(0.0, due - time.perf_counter()))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield counted
    finally:
        closed.set()
        thread.join()


def _random_patch(item_id: str, rng: np.random.Generator) -> dict[str, Any]:
    row: dict[str, Any] = {"item_id": item_id, "op": "patch"}
    row["price"] = round(float(rng.uniform(1, 50)), 2)
    row["in_stock"] = bool(rng.random() < 0.9)
    if rng.random() < 0.2:
        row["hidden"] = bool(rng.random() < 0.3)
    return row


def search_latency(url: str, traffic: Traffic, rate: float, seconds: float) -> tuple[float, float]:
    """p50 and p99 of searches that arrive at this rate, in milliseconds."""
    load = LoadGenerator(url, traffic.calls(), LoadShape(rate=rate, seconds=seconds))
    with in_background(load):
        time.sleep(seconds + 1)
    summary = summarize(load.results, "search")
    if summary.failed:
        raise RecsysError(f"searches failed: {dict(summary.failures)}")
    return summary.p50_ms, summary.p99_ms


def storm_answers(
    client: LiveClient, queries: Sequence[str], requests: int
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Searches with sorts and bounds, each with its answer."""
    answers = []
    for at in range(requests):
        params: dict[str, Any] = {"k": 50, "sort": ("price", "relevance", "-price")[at % 3]}
        if at % 4 == 0:
            params["max_price"] = 20
        answers.append((params, client.search(queries[at % len(queries)], **params)))
    return answers


def count_wrong(
    answers: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], shelf: Shelf
) -> tuple[int, list[str]]:
    """How many answers say what the catalogue of their snapshot does not, and some of them in
    words. All changes must have been noted."""
    wrong, sentences = 0, list[str]()
    for params, answer in answers:
        faults = _faults(answer, params, shelf)
        wrong += bool(faults)
        sentences += [f"{params}: {fault}" for fault in faults]
    return wrong, sentences[:10]


def _faults(answer: Mapping[str, Any], params: Mapping[str, Any], shelf: Shelf) -> list[str]:
    number = int(answer["snapshot"].rpartition("@")[2])
    prices = [item["price"] for item in answer["items"]]
    faults = []
    for item in answer["items"]:
        expected = shelf.price(item["item_id"], number)
        if expected is not None and not math.isnan(expected) and item["price"] != expected:
            faults.append(f"{item['item_id']} costs {item['price']}, not {expected} at {number}")
        if shelf.is_hidden(item["item_id"], number):
            faults.append(f"{item['item_id']} is hidden at {number}")
    bound = params.get("max_price", math.inf)
    if not answer["relaxed"] and any(p is not None and p > bound for p in prices):
        faults.append(f"a price is above {bound}: {prices}")
    numbers = [price for price in prices if price is not None]
    if params["sort"] == "price" and numbers != sorted(numbers):
        faults.append(f"prices do not rise: {prices}")
    if params["sort"] == "-price" and numbers != sorted(numbers, reverse=True):
        faults.append(f"prices do not fall: {prices}")
    if answer["total"] < len(answer["items"]):
        faults.append(f"{len(answer['items'])} items of a total of {answer['total']}")
    return faults


def new_items(release: Release, count: int) -> list[ItemState]:
    """States of so many new items, each with the title of some item and another id."""
    now, rows = datetime.now(UTC), np.linspace(0, len(release.item_ids) - 1, count).astype(int)
    first = release.manifest.changes + 1
    states = []
    for at, row in enumerate(rows.tolist()):
        item = release.item(row)
        cells = {"title": item.title, "category": item.category, "price": 9.0, "in_stock": True}
        fields = {name: FieldChange(value, first + at, now) for name, value in cells.items()}
        states.append(
            ItemState(item_id=f"new-{row}", number=first + at, time=now, whole=True, fields=fields)
        )
    return states


def replica_processes(name: str = "Shop") -> list[psutil.Process]:
    """The processes of a deployment's replicas on this machine."""
    title = f"ServeReplica:nightshelf:{name}"
    return [each for each in psutil.process_iter(["cmdline"]) if title in " ".join(each.cmdline())]


def resident_mb(processes: Sequence[psutil.Process]) -> float:
    """Of the largest: memory that is its own."""
    return max(process.memory_full_info().uss for process in processes) / 2**20
