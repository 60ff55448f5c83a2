"""How soon and how rightly changes of the catalogue are seen, over HTTP, on two replicas.

python -m jobs.benchmark_live [--quick] starts a local Ray and the default setup on the release of
$NIGHTSHELF_HOME with a log of changes of its own, changes prices, stock and items, and stops what
it started. Prints a table, and last one line of JSON."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jobs.benchmark_serve import prepare_environment, released_traffic
from jobs.serve_plain import open_shop
from recsys.config import home, load
from recsys.errors import RecsysError
from recsys.evaluation.results import Criterion, criteria_table, say, summary_line
from recsys.simulation import live_benchmark as live
from recsys.simulation.serving_benchmark import INGRESSES, running_server
from recsys.simulation.traffic import Traffic
from recsys.storage.artifacts import ArtifactStore
from recsys.types import Query

SETUP = "tiny"
#: Searches a second beside which changes come.
SEARCHES_PER_S = 4.0


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured."""

    prices: int = 100
    storm_requests: int = 10_000
    storm_rate: float = 200.0
    load_s: float = 30.0
    rates: tuple[float, ...] = (200.0, 1000.0)
    price_changes: int = 1_000_000
    searches: int = 300


QUICK = Size(
    prices=20, storm_requests=500, load_s=10.0, rates=(200.0,), price_changes=20_000, searches=60
)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="about three minutes")
    size = QUICK if parser.parse_args().quick else Size()
    started = time.perf_counter()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with tempfile.TemporaryDirectory(prefix="nightshelf-") as folder:
            _use_own_home(Path(folder))
            prepare_environment(Path(folder))
            setup = load(SETUP)
            traffic = released_traffic(ArtifactStore(setup.home))
            criteria = [measure_segment(traffic, size)]
            with running_server(("serve_local", "--setup", SETUP), INGRESSES["python"]) as (url, _):
                criteria += measure_server(url, traffic, size)
    except RecsysError as error:
        print(f"nothing was measured: {error}", file=sys.stderr)
        return 1
    say(criteria_table(criteria))
    rows = [each.as_row() for each in criteria]
    say(summary_line("benchmark_live", "completejourney", started, rows))
    return 0


def _use_own_home(folder: Path) -> None:
    """A home for the servers with the shop's releases, and logs of its own."""
    for path in Path(home().removeprefix("file://")).glob("*"):
        if ".sqlite" not in path.name:
            (folder / path.name).symlink_to(path)
    os.environ["NIGHTSHELF_HOME"] = str(folder)


def measure_server(url: str, traffic: Traffic, size: Size) -> list[Criterion]:
    """Everything that needs the application over HTTP."""
    client, ids = live.LiveClient(url), list(dict.fromkeys(traffic.item_ids))
    quiet = Traffic(traffic.titles, traffic.item_ids, traffic.user_ids, {"search": 1})
    live.search_latency(url, quiet, SEARCHES_PER_S, 5)
    delays = live.measure_price_delays(client, ids[: size.prices])
    say(f"{len(delays)} prices")
    meanings = live.measure_meaning_delays(client)
    say(f"{len(meanings)} new items")
    criteria = [
        _criterion("change seen p50, s", float(np.median(delays)), 1.0, 0.3),
        _criterion("change seen p99, s", float(np.quantile(delays, 0.99)), 3.0, 1.0),
        _criterion("found by meaning p99, s", float(np.quantile(meanings, 0.99)), 6.0, 2.0),
    ]
    criteria += [measure_rate(url, quiet, ids, rate, size) for rate in size.rates]
    criteria += measure_storm(url, client, ids, size)
    criteria.append(measure_memory(client, ids, size))
    return criteria


def measure_rate(
    url: str, traffic: Traffic, ids: Sequence[str], rate: float, size: Size
) -> Criterion:
    """p99 of /search while so many changes a second come, over that without."""
    _, quiet = live.search_latency(url, traffic, SEARCHES_PER_S, size.load_s)
    with live.changing(url, ids, rate) as counted:
        _, busy = live.search_latency(url, traffic, SEARCHES_PER_S, size.load_s)
    achieved = sum(counted) / (size.load_s + 1)
    say(f"{achieved:.0f} changes/s: /search p99 {quiet:.0f} ms without, {busy:.0f} ms with")
    return _criterion(f"search p99 at {rate:g} changes/s over quiet", busy / quiet, 1.2, 1.2)


def measure_storm(
    url: str, client: live.LiveClient, ids: Sequence[str], size: Size
) -> list[Criterion]:
    """Answers in a storm of changes, each against its own snapshot; and what of the storm is there
    in the end."""
    shelf, changed = live.Shelf(), ids[:2_000]
    queries = ["milk", "bread", "cheese", "frozen pizza", "apples", "coffee", "soup", "chicken"]
    with live.changing(url, changed, size.storm_rate, shelf, seed=1):
        answers = live.storm_answers(client, queries, size.storm_requests)
    wrong, sentences = live.count_wrong(answers, shelf)
    for sentence in sentences:
        say(sentence)
    time.sleep(2)
    number = 1 << 62
    lost = [
        item_id
        for item_id in list(shelf.prices)[:500]
        if not shelf.is_hidden(item_id, number)
        and client.http.get(f"/items/{item_id}").json()["item"]["price"]
        != shelf.price(item_id, number)
    ]
    return [
        _criterion(f"wrong of {size.storm_requests:,} answers in a storm", wrong, 0, 0),
        _criterion("changes lost", len(lost), 0, 0),
    ]


def measure_memory(client: live.LiveClient, ids: Sequence[str], size: Size) -> Criterion:
    """Memory of the largest replica after many price changes, over that before."""
    before, rng = live.resident_mb(live.replica_processes()), np.random.default_rng(2)
    for _ in range(0, size.price_changes, 1_000):
        rows = [
            {"item_id": ids[at], "op": "patch", "price": round(float(rng.uniform(1, 50)), 2)}
            for at in rng.choice(len(ids), 1_000, replace=len(ids) < 1_000)
        ]
        client.change(rows)
    time.sleep(3)
    after = live.resident_mb(live.replica_processes())
    say(f"replica {before:.0f} MiB, after {size.price_changes:,} changes {after:.0f} MiB")
    return _criterion(f"memory after {size.price_changes:,} prices", after / before, 1.05, 1.01)


def measure_segment(traffic: Traffic, size: Size) -> Criterion:
    """p50 of a search in process with 5 % of the catalogue in the segment over that with none."""
    with open_shop(load(SETUP)) as (shop, _):
        base = shop.live.catalogue
        assert base is not None
        titles = traffic.titles[: size.searches]
        empty = base.recommender
        release = base.base.release
        states = live.new_items(release, len(release.item_ids) // 20)
        full = base.advance(states, states[-1].number)
        say(f"{len(states):,} items in the segment")
        parsed = [(empty.understand(t), full.understand(t)) for t in titles]
        zeros = np.zeros(release.item_vectors_ID.shape[1], np.float32)
        times = np.zeros((len(titles), 2))
        for _ in range(3):
            for at, title in enumerate(titles):
                query = Query(request_id="r", text=title, k=10)
                for side, shop_now in enumerate((empty, full)):
                    begun = time.perf_counter()
                    vector_D = np.array(release.item_vectors_ID[at]) if at % 2 else zeros
                    shop_now.search(query, vector_D, parsed[at][side])
                    times[at, side] += time.perf_counter() - begun
    ratio = float(np.median(times[:, 1]) / np.median(times[:, 0]))
    return _criterion("search p50 with 5 % in the segment over none", ratio, 1.2, 1.05)


def _criterion(name: str, value: float, floor: float, goal: float) -> Criterion:
    interval = (value, value)
    return Criterion(
        name=name, value=value, interval=interval, floor=floor, goal=goal, at_most=True
    )


if __name__ == "__main__":
    sys.exit(main())
