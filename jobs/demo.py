"""The whole loop on this machine: `make demo` shows it and stops what it started, `make serve`
leaves it up; over the made-up default shop, or with `make demo SHOP=completejourney` over the
larger one of groceries.

0. starts a local Ray head with its dashboard
1. a night: `ray job submit`
2. the day: `serve deploy`
3. shops over HTTP: searches, similar items, recommendations, explanations
4. a new visitor clicks, and their next recommendation changes
5. the next night learns from the day
6. promotes the first release and the second again, under load, without a failed request

Exit code 0 only if every step worked."""

from __future__ import annotations

import argparse
import itertools
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recsys.config import load
from recsys.errors import RecsysError
from recsys.evaluation.results import say
from recsys.simulation.load import LoadGenerator, LoadShape, check_answer, in_background
from recsys.simulation.local_cluster import DASHBOARD, LocalCluster, ray_head
from recsys.simulation.processes import ROOT, job_command, wait_for_health
from recsys.simulation.shop_client import Answer, ShopClient, answer_table, item_ids
from recsys.simulation.traffic import Call
from recsys.storage.artifacts import ArtifactStore
from recsys.storage.version import code_commit
from serve.ingress import ENVIRONMENT

SHOP = "http://127.0.0.1:8000"
CONFIG = ROOT / "serve" / "config.yaml"
STARTED = time.monotonic()


@dataclass(frozen=True, kw_only=True)
class Tour:
    """A shop by its setup, what is searched for in it, and a shopper who bought before."""

    setup: str
    searches: tuple[str, ...]
    shopper: str


TOURS = {
    "demo": Tour(
        setup="demo", searches=("red sneakers", "wireles headfones", "雨伞"), shopper="u0042"
    ),
    "completejourney": Tour(setup="tiny", searches=("frozen pizza",), shopper="900"),
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stay", action="store_true", help="leave everything running until Ctrl-C")
    parser.add_argument("--shop", choices=TOURS, default="demo")
    arguments = parser.parse_args()
    tour = TOURS[arguments.shop]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the head ends, too
    token = secrets.token_hex(32)
    home = Path(os.environ.get("NIGHTSHELF_HOME", ROOT / ".nightshelf")).resolve()
    home.mkdir(parents=True, exist_ok=True)
    _prepare_environment(home, token)
    step(f"a Ray head on 127.0.0.1 (its output: {home}/ray.log)")
    try:
        # The shop's files are made while Ray starts.
        shop_files = threading.Thread(target=load(tour.setup).dataset, args=(datetime.now(UTC),))
        shop_files.start()
        with ray_head(home / "ray.log", token) as cluster:
            shop_files.join()
            run_steps(cluster, home, tour)
            if arguments.stay:
                step(f"up: {SHOP}/shop/; the dashboard asks for the token {token}; Ctrl-C stops")
                threading.Event().wait()
    except RecsysError as error:
        print(f"\nthe demo stopped: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    step("stopped what was started; all steps worked")
    return 0


def _prepare_environment(home: Path, token: str) -> None:
    """What Ray, the night and the application inherit."""
    # Everything listens on 127.0.0.1; without keys it answers nobody else.
    os.environ.pop("NIGHTSHELF_KEYS", None)
    os.environ.update(
        ENVIRONMENT,
        NIGHTSHELF_HOME=str(home),
        NIGHTSHELF_COMMIT=code_commit(),
        RAY_AUTH_MODE="token",  # some of Ray's ports listen on every interface, and run code
        RAY_AUTH_TOKEN=token,
        RAY_USAGE_STATS_ENABLED="0",
        RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S="0",  # nobody waits for an answer at the end
        HF_HUB_OFFLINE="1",
        TOKENIZERS_PARALLELISM="false",
        PYTHONUNBUFFERED="1",
        PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    )


def run_steps(cluster: LocalCluster, home: Path, tour: Tour) -> None:
    step("1. a night: ingest, embed, candidates, index, verify, publish")
    first = submit_night(cluster, tour.setup)

    step(f"2. the day: serve deploy serve/config.yaml, with setup {tour.setup}")
    cluster.deploy(str(serve_config(home, tour.setup)), "nightshelf")
    wait_for_health(SHOP, first)
    step(f"the storefront: {SHOP}/shop/")

    with ShopClient(SHOP) as shop:
        step("3. search in stock, as people type")
        search, *_ = [search_and_say(shop, text) for text in tour.searches]
        shop_around(shop, search, tour.shopper)

        visitor = f"visitor-{secrets.token_hex(3)}"
        step(f"4. recommended for {visitor}, who is new")
        click_and_compare(shop, visitor, search)

        step("5. the next night: events of the day come in, unchanged texts are carried over")
        second = submit_night(cluster, tour.setup)
        if second == first:
            raise RecsysError(f"the second night published nothing: {first} is still current")
        wait_for_health(SHOP, second)

        step(f"6. promote {first}, and {second} again, under load")
        promote_under_load(shop, [first, second], tour.searches[0])
    report = Path(load(tour.setup).home) / "releases" / second / "report.html"
    step(f"storefront {SHOP}/shop/   API {SHOP}/docs   dashboard {DASHBOARD}   report {report}")


def submit_night(cluster: LocalCluster, setup: str) -> str:
    """Submits a night; the release that is current after it."""
    cluster.submit(job_command("nightly", "--setup", setup))
    home = load(setup).home
    version = ArtifactStore(home).current()
    if version is None:
        raise RecsysError(f"the night published nothing in {home}: its output says why")
    return version


def serve_config(home: Path, setup: str) -> Path:
    """A copy of CONFIG that serves the setup."""
    path = home / "serve.yaml"
    path.write_text(CONFIG.read_text().replace("setup: tiny", f"setup: {setup}"))
    return path


def search_and_say(shop: ShopClient, text: str) -> Answer:
    step(f"search '{text}'")
    answer = shop.get("/search", q=text, in_stock=True, k=5)
    say(answer_table(answer))
    return answer


def shop_around(shop: ShopClient, search: Answer, shopper: str) -> None:
    """Similar items, recommendations of a shopper who bought before, and two explanations."""
    item = search["items"][0]
    step(f"similar to {item['title']}")
    say(answer_table(shop.get(f"/similar/{item['item_id']}", k=5)))
    step(f"recommended for {shopper}, who bought before")
    recommendation = shop.get("/recommend", user_id=shopper, k=5)
    say(answer_table(recommendation))
    for item_id in (item_ids(recommendation)[0], item["item_id"]):
        explanation = shop.explain(recommendation["request_id"], item_id)
        step(f"explained: {explanation['title']}. {explanation['summary']}")


def click_and_compare(shop: ShopClient, visitor: str, search: Answer) -> None:
    """Recommendations of a new visitor before and after a click. Raises RecsysError where they are
    the same."""
    before = shop.get("/recommend", user_id=visitor, k=5)
    say(answer_table(before))
    shop.click(visitor, search)
    step(f"{visitor} clicks {search['items'][0]['title']}")
    after = shop.get("/recommend", user_id=visitor, k=5)
    step(f"recommended for {visitor} after the click")
    say(answer_table(after, before))
    if item_ids(before) == item_ids(after):
        raise RecsysError("the click did not change the next recommendation")


def promote_under_load(shop: ShopClient, versions: list[str], text: str) -> None:
    """Promotes each version in turn while a client keeps searching. Raises RecsysError where one of
    its requests fails."""

    def check_release(call: Call, body: Mapping[str, Any]) -> str:
        release = body.get("release")
        return check_answer(call, body) if release in versions else f"release {release}"

    searches = itertools.repeat(Call("search", "/search", {"q": text, "k": "3"}))
    load = LoadGenerator(SHOP, searches, LoadShape(clients=1), check=check_release)
    with in_background(load):
        for version in versions:
            shop.promote(version)
            wait_for_health(SHOP, version)
    failures = [result.failure for result in load.results if result.failure]
    if failures:
        count = f"{len(failures)} of {len(load.results)} requests"
        raise RecsysError(f"{count} failed during the swaps, the first: {failures[0]}")
    step(f"{len(load.results)} requests meanwhile, none failed")


def step(sentence: str) -> None:
    say(f"\n[{time.monotonic() - STARTED:4.0f} s] {sentence}")


if __name__ == "__main__":
    sys.exit(main())
