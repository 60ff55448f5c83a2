"""Simulated days and nights of a running shop: shoppers by day, a release and newly trained rankers
by night, and the criteria that the ground truth gives."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from recsys.config import Setup
from recsys.errors import RecsysError, ReleaseError
from recsys.evaluation.results import Criterion, say
from recsys.events.joins import label_examples
from recsys.events.sqlite import SqliteEventStore
from recsys.market.click_models import ClickSpam, PositionBasedModel
from recsys.market.market import Market, RequestBatch, user_id
from recsys.ranking.examination import Examination, intervention_harvesting
from recsys.ranking.logged_rankings import LoggedRankings
from recsys.release.manifest import Manifest
from recsys.simulation import truth_metrics
from recsys.simulation.plots import plot_simulation
from recsys.simulation.processes import job_command, run_command, wait_for_health
from recsys.simulation.shoppers import ClickLog, ShopperClients, Shoppers, send_requests
from recsys.simulation.time_shift import shift_times
from recsys.simulation.truth_metrics import Values

SETUP = "recsys.simulation.shop:setup"
NIGHTS = 10
#: After the preference shift so many requests are sent between two steps of the online trainer: it
#: is judged by events, not by time.
CHUNK = 50
_HEADING = f"{'day':>4}  {'policy':<12}{'requests':>9}{'failed':>8}{'clicks':>8}"


@dataclass(kw_only=True)
class ShopSimulation:
    """A market, the shop that serves it at `url`, and the regret so far, by policy and day.
    `run_night` publishes a release from the log; it is given a function that logs a line."""

    market: Market
    model: PositionBasedModel
    setup: Setup
    folder: Path
    url: str
    run_night: Callable[[Callable[[Any], None]], Manifest]
    requests_per_day: int
    bootstrap_draws: int
    regret_PD: dict[str, list[float]] = field(default_factory=dict)

    def send(
        self,
        requests: RequestBatch,
        seed: int,
        *,
        market: Market | None = None,
        spam: ClickSpam | None = None,
        k: int = 10,
    ) -> ClickLog:
        """The shoppers send these requests; they behave by another `market` if one is given."""
        shoppers = Shoppers(market or self.market, self.model, spam)

        async def send() -> ClickLog:
            async with ShopperClients(self.url, self.market.shoppers) as clients:
                return await send_requests(clients, shoppers, requests, seed, k)

        return asyncio.run(send())


def simulate_days(simulation: ShopSimulation) -> list[Criterion]:
    """NIGHTS days and nights and one day more, a day with a preference shift, and a night after
    click spam. Writes `simulation.png`."""
    publish_night(simulation)
    say(f"{_HEADING}{'true nDCG':>11}{'regret':>9}")
    regret_D = []
    for day in range(1, NIGHTS + 2):
        regret_D.append(simulate_day(simulation, day))
        train_on_log(simulation, f"models-{day:02d}")
        publish_night(simulation)
        shift_times(log_path(simulation.setup))
    examination, bootstrap_DK = estimate_examination(simulation)
    truth_K = simulation.model.curve
    criteria = [
        truth_metrics.examination_error(
            np.array(truth_K), np.asarray(examination.curve_K), bootstrap_DK
        ),
        truth_metrics.regret_ratio(regret_D[0], regret_D[-1]),
        simulate_preference_shift(simulation),
        simulate_click_spam(simulation),
    ]
    picture = simulation.folder / "simulation.png"
    plot_simulation(picture, simulation.regret_PD, examination, truth_K)
    say(f"picture {picture}")
    return criteria


def simulate_day(simulation: ShopSimulation, day: int) -> Values:
    """Sends a day's requests; the regret of each, and a line of output beside that of a ranking by
    sales."""
    market, model = simulation.market, simulation.model
    requests = market.requests(simulation.requests_per_day, seed=day)
    log = simulation.send(requests, seed=day)
    sales = ClickLog.of_lists(requests, market.sales_ranking(requests, 10))
    expected = model.expected_clicks(market.attraction_of(requests, sales.rows_BK)).sum()
    regrets = {}
    for policy, lists, clicks in (
        ("nightshelf", log, log.clicked_BK.sum()),
        ("sales", sales, round(expected)),
    ):
        regrets[policy] = truth_metrics.regret(market, model, lists)
        mean = float(regrets[policy].mean())
        simulation.regret_PD.setdefault(policy, []).append(mean)
        ndcg = truth_metrics.true_ndcg(market, lists).mean()
        counts = f"{len(requests):>9,}{lists.failures:>8,}{clicks:>8,}"
        say(f"{day:>4}  {policy:<12}{counts}{ndcg:>11.3f}{mean:>9.3f}")
    return regrets["nightshelf"]


def train_on_log(simulation: ShopSimulation, name: str) -> None:
    """`jobs.train_models` on the log so far, as a scheduler would start it; its gate publishes only
    what is better."""
    folder = simulation.folder / "training" / name
    arguments = ("--setup", SETUP, "--parts", "rankers", "--folder", folder)
    job = run_command(job_command("train_models", *arguments))
    output, errors = job.stdout.splitlines(), job.stderr.splitlines()
    lines = [line for line in output if " passed: " in line or " was refused: " in line]
    if job.returncode and not lines:
        refusals = [line for line in errors if line.startswith("nothing was published")]
        lines = refusals or ["see stderr"]
    for line in lines:
        say(f"      {line if len(line) <= 110 else line[:107] + '...'}")


def publish_night(simulation: ShopSimulation) -> None:
    """Publishes a release from the log so far, and waits until the shop serves it."""
    with open(simulation.folder / "nights.log", "a") as log, redirect_stderr(log):

        def write_line(line: object) -> None:
            log.write(f"{line}\n")

        try:
            manifest = simulation.run_night(write_line)
        except ReleaseError as error:
            say(f"      the night published nothing: {error}")
            return
    wait_for_health(simulation.url, manifest.version)


def estimate_examination(simulation: ShopSimulation) -> tuple[Examination, Values]:
    """The examination curve estimated from the log of all days, and [D, K] estimates from resampled
    requests."""
    lists, rng = read_log(simulation.setup), np.random.default_rng(0)
    draws = [
        intervention_harvesting(
            lists.where(rng.integers(len(lists), size=len(lists))), draws=1
        ).curve_K
        for _ in range(simulation.bootstrap_draws)
    ]
    return intervention_harvesting(lists), np.stack(draws).astype(np.float64)


def read_log(setup: Setup) -> LoggedRankings:
    """The live event log, as rankers learn from it."""
    store = setup.event_store()
    try:
        events = store.interactions(store.end().interactions)
        return LoggedRankings.of(label_examples(store.impressions(), events), ())
    finally:
        store.close()


def simulate_preference_shift(simulation: ShopSimulation) -> Criterion:
    """A morning as before; at noon everybody begins to prefer expensive products. Only online
    learning can help."""
    count, market = simulation.requests_per_day, simulation.market
    morning = simulation.send(market.requests(count // 2, seed=100), seed=100)
    shifted, afternoon = market.with_price_effect_reversed(), market.requests(count, seed=101)
    logs = []
    for start in range(0, count, CHUNK):
        requests = afternoon.take(slice(start, start + CHUNK))
        logs.append(simulation.send(requests, seed=1000 + start, market=shifted))
        time.sleep(trainer_delay(simulation.setup))
    events_B = np.concatenate([log.events_B[log.is_answered_B] for log in logs])
    after_B = np.concatenate([truth_metrics.true_ndcg(shifted, log) for log in logs])
    before_B, shifted_B = (truth_metrics.true_ndcg(truth, morning) for truth in (market, shifted))
    say(
        f"flip: true nDCG {before_B.mean():.3f} before noon,"
        f" {shifted_B.mean():.3f} of the same lists after it"
    )
    for start in range(0, len(after_B), 4 * CHUNK):
        mean = after_B[start : start + 4 * CHUNK].mean()
        say(f"      after {int(events_B[:start].sum()):>5,} events {mean:.3f}")
    return truth_metrics.adaptation(before_B, shifted_B, after_B, events_B)


def trainer_delay(setup: Setup) -> float:
    """Seconds until the online trainer has seen new events, and the replicas what it learned."""
    online, day = setup.day.online, setup.day
    if not online:
        return 0.0
    return (
        online.feedback_delay_s
        + 2 * online.poll_interval_s
        + online.snapshot_interval_s
        + 2 * day.refresh_s
    )


def simulate_click_spam(simulation: ShopSimulation) -> Criterion:
    """1 % of the shoppers click one item all day: how far it moves in the answers to others, by the
    next night."""
    market = simulation.market
    spammers = tuple(range(market.shoppers // 100))
    train_on_log(simulation, "before-spam")
    publish_night(simulation)
    target = int(probe_answers(simulation).rows_BK[0, 10])  # in the middle of the first answer
    before = probe_answers(simulation)
    users_B = np.tile(np.array(spammers), 40)
    searches = RequestBatch(users_B, np.full(len(users_B), market.categories_I[target]))
    simulation.send(searches, seed=200, spam=ClickSpam(spammers, target), k=20)
    for user in spammers:
        events = unattributed_clicks(user, str(market.ids[target]))
        httpx.post(f"{simulation.url}/events", json=events, timeout=30).raise_for_status()
    train_on_log(simulation, "after-spam")
    publish_night(simulation)
    after = probe_answers(simulation)
    criterion = truth_metrics.displacement(before, after, target)
    others = truth_metrics.background_displacement(before, after, target)
    say(
        f"spam: the item moved by {criterion.value:.1f} places,"
        f" the others of its category by {others:.1f} each"
    )
    return criterion


def probe_answers(simulation: ShopSimulation) -> ClickLog:
    """The answers to 40 honest shoppers who search for one category and click nothing."""
    market = simulation.market
    users_B = np.arange(market.shoppers - 40, market.shoppers)
    requests = RequestBatch(users_B, np.zeros(40, np.int64))
    return simulation.send(requests, seed=300, market=market.without_clicks(), k=20)


def unattributed_clicks(user: int, item: str, count: int = 200) -> list[dict[str, str]]:
    """Clicks that name no request."""
    event = {"user_id": user_id(user), "item_id": item, "type": "click"}
    return [{**event, "event_id": f"spam-{user}-{number}"} for number in range(count)]


def log_path(setup: Setup) -> Path:
    """The file of the live event log. Raises RecsysError where it is not SQLite."""
    store = setup.event_store()
    store.close()
    if not isinstance(store, SqliteEventStore):
        raise RecsysError(
            "days can be simulated over a log on this machine alone: use events.SqliteEventStore"
        )
    return store.path
