"""A market whose truth is known shops in the running application, day after day and night after
night: what it learns, and what its log says, is compared with the truth.

python -m jobs.simulate_shop [--quick] starts a local Ray and the application; with --url it uses
one that runs with setup recsys.simulation.market:setup and the same $NIGHTSHELF_HOME. Prints a line
a day, a table, and last one line of JSON. Exit code 0 only if every floor was reached."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from recsys.batch.night import begin, run_night
from recsys.config import Setup, load
from recsys.datasets.completejourney import CompleteJourney
from recsys.datasets.uci_online_retail import UciOnlineRetail
from recsys.errors import RecsysError, ReleaseError
from recsys.events import feedback
from recsys.events.sqlite import SqliteEventStore
from recsys.ranking.examination import Examination, from_swaps
from recsys.ranking.logged_rankings import LoggedRankings
from recsys.simulation import measures, trials
from recsys.simulation.ageing import age
from recsys.simulation.clicks import PositionBased, Spam
from recsys.simulation.local_cluster import free_port
from recsys.simulation.market import Market, user_id
from recsys.simulation.measures import Row, Values
from recsys.simulation.picture import draw
from recsys.simulation.shopper import Log, clients, shop
from recsys.storage.version import code_commit
from recsys.types import Ints

SETUP = "recsys.simulation.market:setup"
DATASETS = {"completejourney": CompleteJourney, "uci_online_retail": UciOnlineRetail}
NIGHTS = 10
#: In the afternoon of a flip so many requests are sent between two looks of the trainer: events
#: count there, not time.
CHUNK = 50


@dataclass(frozen=True)
class Size:
    """How much is simulated: requests a day, shoppers, and how often what needs no server is
    tried."""

    requests: int = 3000
    shoppers: int = 500
    repetitions: int = 200
    draws: int = 40


QUICK = Size(requests=1000, repetitions=60, draws=20)


@dataclass
class Simulation:
    """A market, the shop it shops in, and what became of its days."""

    market: Market
    model: PositionBased
    setup: Setup
    folder: Path
    url: str
    size: Size
    days: list[Log] = field(default_factory=list)
    regrets: dict[str, list[float]] = field(default_factory=dict)
    failures: int = 0

    def asked(self, seed: int, count: int | None = None) -> tuple[Ints, Ints]:
        return self.market.requests(count or self.size.requests, seed)

    def shop(
        self, asked: tuple[Ints, Ints], seed: int, market: Market | None = None, **more: Any
    ) -> Log:
        """Sends the requests, as shoppers of `market` do (by default the one that was there from
        the beginning)."""

        async def send() -> Log:
            async with clients(self.url, self.market) as doors:
                return await shop(doors, market or self.market, self.model, asked, seed, **more)

        log = asyncio.run(send())
        self.failures += log.failures
        return log


def main() -> int:
    arguments = parsed()
    begun = time.perf_counter()
    size = QUICK if arguments.quick else Size()
    folder = (arguments.folder or Path(tempfile.mkdtemp(prefix="nightshelf-market-"))).resolve()
    os.environ.setdefault("NIGHTSHELF_COMMIT", code_commit())
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault(
        "NIGHTSHELF_ORIGIN_KEY", secrets.token_hex(8)
    )  # shoppers have addresses of their own
    if not arguments.url:
        os.environ["NIGHTSHELF_HOME"] = str(folder)
    try:
        adapter = DATASETS[arguments.dataset]()
        rows = without_server(adapter, folder, size)
        market, setup = Market.of(adapter, shoppers=size.shoppers), load(SETUP)
        market.write(Path(setup.home) / "market", datetime.now(UTC))
        with application(setup, arguments.url) as url:
            simulation = Simulation(market, PositionBased(), setup, folder, url, size)
            rows += with_server(simulation)
    except RecsysError as error:
        print(f"the simulation stopped: {error}", file=sys.stderr)
        return 1
    say("")
    say(table(rows))
    seconds = round(time.perf_counter() - begun, 1)
    told = {
        "job": "simulate_shop",
        "dataset": arguments.dataset,
        "commit": code_commit(),
        "seconds": seconds,
    }
    print(json.dumps({**told, "rows": [row.told() for row in rows]}), flush=True)
    return 0 if all(row.reached_floor for row in rows) else 2


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--dataset", choices=DATASETS, default="completejourney", help="whose products are sold"
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer requests and repetitions: under 15 minutes"
    )
    parser.add_argument(
        "--folder", type=Path, help="where the shop and the picture lie (default: a new one)"
    )
    parser.add_argument("--url", help="a running application, such as http://127.0.0.1:8000")
    return parser.parse_args()


def without_server(adapter: Any, folder: Path, size: Size) -> list[Row]:
    """The rows of logs drawn from the market itself."""
    model = PositionBased()
    crowd, wide = (Market.of(adapter, shoppers=count) for count in (1000, 2000))
    made = []
    for name, trial in (
        ("debiased learning", lambda: [trials.debiased(crowd, model, folder / "trials")]),
        (
            "off-policy estimates",
            lambda: list(trials.off_policy(wide, model, repetitions=size.repetitions)),
        ),
        ("interleaving", lambda: [trials.interleaving(wide, model, count=20_000)]),
        ("click spam", lambda: [trials.spammed(crowd, model)]),
        ("learning by day", lambda: [trials.flipped(crowd, model, folder / "by-day")]),
    ):
        started = time.perf_counter()
        made += trial()
        say(f"{name:<24}{time.perf_counter() - started:6.0f} s")
    return made


def with_server(simulation: Simulation) -> list[Row]:
    """Ten days and nights, a day with a flip, and a night after spam."""
    night(simulation)
    say(
        f"{'day':>4}  {'policy':<12}{'requests':>9}{'failed':>8}{'clicks':>8}{'true nDCG':>11}{'regret':>9}"
    )
    regret_D = []
    for number in range(1, NIGHTS + 2):
        regret_D.append(day(simulation, number))
        learn(simulation, f"models-{number:02d}")
        night(simulation)
        age(log_path(simulation.setup))
    curve, drawn_DK = examination(simulation)
    rows = [
        measures.examination_error(
            np.array(simulation.model.curve), np.asarray(curve.curve_K), drawn_DK
        ),
        measures.regret_left(regret_D[0], regret_D[-1]),
        flip(simulation),
        spam(simulation),
    ]
    picture = simulation.folder / "simulation.png"
    draw(picture, simulation.regrets, curve, simulation.model.curve)
    say(f"picture {picture}")
    return rows


def day(simulation: Simulation, number: int) -> Values:
    """One day's requests, and beside them what an order by sales would have done with them: the
    regret of each."""
    market, model = simulation.market, simulation.model
    asked = simulation.asked(seed=number)
    log = simulation.shop(asked, seed=number)
    simulation.days.append(log)
    nothing = np.zeros(log.rows_BK.shape, bool)
    sales = Log(
        *asked,
        market.by_sales(asked[1], 10),
        nothing,
        nothing,
        log.request_ids,
        ("",) * len(asked[0]),
    )
    found = {}
    for name, lists in (("nightshelf", log), ("sales", sales)):
        found[name] = measures.regret(market, model, lists)
        simulation.regrets.setdefault(name, []).append(float(found[name].mean()))
        quality = float(measures.true_ndcg(market, lists).mean())
        clicks = (
            int(lists.clicked_BK.sum())
            if name == "nightshelf"
            else round(_expected(market, model, lists))
        )
        counts = f"{len(asked[0]):>9,}{lists.failures:>8,}{clicks:>8,}"
        say(f"{number:>4}  {name:<12}{counts}{quality:>11.3f}{simulation.regrets[name][-1]:>9.3f}")
    return found["nightshelf"]


def _expected(market: Market, model: PositionBased, log: Log) -> float:
    return float(model.expected(market.shown(log.users_B, log.wanted_B, log.rows_BK)).sum())


def learn(simulation: Simulation, name: str) -> None:
    """`jobs.train_models` on the log so far, as a scheduler would start it; what is not better is
    not published."""
    folder = str(simulation.folder / "training" / name)
    command = [
        sys.executable,
        "-m",
        "jobs.train_models",
        "--setup",
        SETUP,
        "--parts",
        "rankers",
        "--folder",
        folder,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    told = [
        line for line in done.stdout.splitlines() if " passed: " in line or " was refused: " in line
    ]
    if done.returncode and not told:
        told = [
            line for line in done.stderr.splitlines() if line.startswith("nothing was published")
        ] or ["see stderr"]
    for line in told:
        say(f"      {line if len(line) <= 110 else line[:107] + '...'}")


def night(simulation: Simulation) -> None:
    """A release out of everything so far, and the application answering from it."""
    with open(simulation.folder / "nights.log", "a") as lines, redirect_stderr(lines):
        try:
            manifest = run_night(begin(simulation.setup), lambda line: print(line, file=lines))
        except ReleaseError as error:
            say(f"      the night published nothing: {error}")
            return
    wait_for(simulation.url, manifest.version)


def wait_for(url: str, version: str) -> None:
    """Until the application answered from this release ten times in a row."""
    row, until = 0, time.monotonic() + 60
    while row < 10:
        if time.monotonic() > until:
            raise ReleaseError(
                f"{url} does not serve release {version} after 60 s: look at its log"
            )
        health = httpx.get(f"{url}/healthz", timeout=10)
        row = row + 1 if health.status_code == 200 and health.json()["release"] == version else 0
        time.sleep(0.05)


def examination(simulation: Simulation) -> tuple[Examination, Values]:
    """The curve from the log of all days, and what resampled requests would have said."""
    lists = logged(simulation.setup)
    rng = np.random.default_rng(0)
    drawn = [
        from_swaps(lists.where(rng.integers(len(lists), size=len(lists))), draws=1).curve_K
        for _ in range(simulation.size.draws)
    ]
    return from_swaps(lists), np.stack(drawn).astype(np.float64)


def logged(setup: Setup) -> LoggedRankings:
    """The live log, as rankers learn from it."""
    store = setup.event_store()
    try:
        return LoggedRankings.of(
            feedback.join(store.impressions(), store.interactions(store.end().interactions)), ()
        )
    finally:
        store.close()


def flip(simulation: Simulation) -> Row:
    """A morning as before; at noon everybody begins to like what is dear. Only what is learned by
    day can help."""
    morning = simulation.shop(simulation.asked(100, simulation.size.requests // 2), seed=100)
    flipped, afternoon = simulation.market.flipped(), simulation.asked(101)
    logs = []
    for start in range(0, simulation.size.requests, CHUNK):
        chunk = afternoon[0][start : start + CHUNK], afternoon[1][start : start + CHUNK]
        logs.append(simulation.shop(chunk, seed=1000 + start, market=flipped))
        time.sleep(trainer_pause(simulation.setup))
    events_B = np.concatenate(
        [(log.clicked_BK.sum(axis=1) + log.bought_BK.sum(axis=1))[log.answered_B] for log in logs]
    )
    after_B = np.concatenate([measures.true_ndcg(flipped, log) for log in logs])
    before_B, at_noon_B = (
        measures.true_ndcg(simulation.market, morning),
        measures.true_ndcg(flipped, morning),
    )
    say(
        f"flip: true nDCG {before_B.mean():.3f} before noon, {at_noon_B.mean():.3f} of the same lists after it"
    )
    for start in range(0, len(after_B), 4 * CHUNK):
        window = slice(start, start + 4 * CHUNK)
        say(f"      after {int(events_B[:start].sum()):>5,} events {after_B[window].mean():.3f}")
    return measures.flip_followed(before_B, at_noon_B, after_B, events_B, int(events_B.sum()))


def trainer_pause(setup: Setup) -> float:
    """Seconds in which the trainer sees what came, and the replicas what it learned."""
    online, day = setup.day.online, setup.day
    return (
        online.patience_s + 2 * online.every_s + online.snapshot_s + 2 * day.refresh_s
        if online
        else 0.0
    )


def spam(simulation: Simulation) -> Row:
    """1 % of the shoppers click one item all day: how far it moves in the answers of others, by the
    next night."""
    market, shoppers = simulation.market, tuple(range(simulation.market.shoppers // 100))
    learn(simulation, "before-spam")
    night(simulation)
    target = int(panel(simulation).rows_BK[0, 10])  # in the middle of the first answer
    before = panel(simulation)
    users_B = np.tile(np.array(shoppers), 40)
    asked = users_B, np.full(len(users_B), market.categories_I[target])
    simulation.shop(asked, seed=200, places=20, spam=Spam(shoppers, target))
    for user in shoppers:
        events = unasked_clicks(user, str(market.ids[target]))
        httpx.post(f"{simulation.url}/events", json=events, timeout=30).raise_for_status()
    learn(simulation, "after-spam")
    night(simulation)
    after = panel(simulation)
    row, others = measures.moved(before, after, target), measures.unrest(before, after, target)
    say(
        f"spam: the item moved by {row.value:.1f} places, the others of its category by {others:.1f} each"
    )
    return row


def panel(simulation: Simulation) -> Log:
    """What 40 honest shoppers are shown who search for one category, look, and do nothing."""
    users_B = np.arange(simulation.market.shoppers - 40, simulation.market.shoppers)
    asked = users_B, np.zeros(40, np.int64)
    return simulation.shop(asked, seed=300, places=20, market=simulation.market.indifferent())


def unasked_clicks(user: int, item: str, count: int = 200) -> list[dict[str, str]]:
    """Clicks that say of no answer that they followed it."""
    event = {"user_id": user_id(user), "item_id": item, "type": "click"}
    return [{**event, "event_id": f"spam-{user}-{number}"} for number in range(count)]


def log_path(setup: Setup) -> Path:
    """The file of the live log."""
    store = setup.event_store()
    store.close()
    if not isinstance(store, SqliteEventStore):
        raise RecsysError(
            "days can be simulated over a log on this machine alone: use events.SqliteEventStore"
        )
    return store.path


@contextmanager
def application(setup: Setup, url: str | None) -> Iterator[str]:
    """Its address: the one given, or that of an application of our own, gone when the block
    ends."""
    import ray
    from ray import serve

    from serve.app import compose

    if url:
        ray.init()
        yield url.rstrip("/")
        return
    # Four logical CPUs: the night's shards need more places than a laptop has cores.
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=300 << 20,
        log_to_driver=False,
    )
    port = free_port()
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(compose(setup, "127.0.0.1"), name="market", route_prefix="/")
        yield f"http://127.0.0.1:{port}"
    finally:
        serve.shutdown()
        ray.shutdown()


def table(rows: list[Row]) -> str:
    """For people: what was asked, what came of it."""
    lines = [f"{'':<46}{'floor':>8}{'goal':>8}{'value':>9}  {'95 % interval':<19}"]
    for row in rows:
        bounds = [
            f"{bound:>8.3g}" if bound is not None else f"{'-':>8}"
            for bound in (row.floor, row.goal)
        ]
        said = (
            "goal"
            if row.reached_floor and row.reached_goal
            else "floor"
            if row.reached_floor
            else "MISSED"
        )
        lines.append(
            f"{row.name:<46}{''.join(bounds)}{row.value:>9.3f}  {row.low:.3f} to {row.high:<10.3f} {said}"
        )
    return "\n".join(lines)


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
