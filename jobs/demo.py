"""The whole loop on this machine: `make demo` shows it and stops what it started, `make serve`
leaves it up.

Starts a local Ray head with its dashboard, submits a night with `ray job submit`, deploys the
application with `serve deploy`, shops over HTTP, submits a second night that learns from it, and
rolls back and forward under load. Exit code 0 only if every step worked."""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from recsys.simulation.processes import free_port
from recsys.storage.artifacts import ArtifactStore
from recsys.storage.version import code_commit
from serve.ingress import ENVIRONMENT

ROOT = Path(__file__).resolve().parents[1]
DASHBOARD, SHOP = "http://127.0.0.1:8265", "http://127.0.0.1:8000"
PORTS = {6379: "Ray's head", 8265: "Ray's dashboard", 8000: "Ray Serve"}
HOUSEHOLD, TEXT = "900", "frozen pizza"
STARTED = time.monotonic()
TOKEN = secrets.token_hex(32)
BEARER = {"Authorization": f"Bearer {TOKEN}"}


class DemoError(Exception):
    """A step that did not work, as a sentence."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stay", action="store_true", help="leave everything running until Ctrl-C")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the head goes, too
    home = Path(os.environ.get("NIGHTSHELF_HOME", ROOT / ".nightshelf")).resolve()
    os.environ.pop(
        "NIGHTSHELF_KEYS", None
    )  # all of it listens on 127.0.0.1, and without keys answers nobody else
    os.environ.update(
        NIGHTSHELF_HOME=str(home),
        NIGHTSHELF_COMMIT=code_commit(),
        RAY_AUTH_MODE="token",  # some of Ray's ports listen on every interface, and who reaches them runs code
        RAY_AUTH_TOKEN=TOKEN,
        RAY_USAGE_STATS_ENABLED="0",
        **ENVIRONMENT,
        HF_HUB_OFFLINE="1",
        TOKENIZERS_PARALLELISM="false",
        RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S="0",  # nobody waits for an answer when the demo ends
        PYTHONUNBUFFERED="1",
        PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    )
    try:
        with ray_head(home):
            show(home)
            if args.stay:
                say(f"up: the dashboard asks for the token {TOKEN}; Ctrl-C stops it")
                threading.Event().wait()
    except DemoError as error:
        print(f"\nthe demo stopped: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    say("stopped what was started; all steps worked")
    return 0


def show(home: Path) -> None:
    store = ArtifactStore(str(home))
    say("a night: ingest, embed, candidates, index, verify, publish")
    night()
    say("the day: serve deploy serve/config.yaml")
    deploy()
    with httpx.Client(base_url=SHOP, timeout=10) as shop:
        first = healthy(shop, store.current())
        table(
            f"search '{TEXT}', in stock", found := get(shop, "/search", q=TEXT, in_stock=True, k=5)
        )
        first_item = found["items"][0]
        table(
            f"similar to {first_item['title']}", get(shop, f"/similar/{first_item['item_id']}", k=5)
        )
        table(
            f"recommended for household {HOUSEHOLD}",
            known := get(shop, "/recommend", user_id=HOUSEHOLD, k=5),
        )
        explain(shop, known["request_id"], known["items"][0]["item_id"])
        explain(shop, known["request_id"], first_item["item_id"])
        visitor = f"visitor-{secrets.token_hex(3)}"
        before = get(shop, "/recommend", user_id=visitor, k=5)
        table(f"recommended for {visitor}, who was never here", before)
        click(shop, visitor, found)
        after = get(shop, "/recommend", user_id=visitor, k=5)
        table(f"recommended for {visitor} after the click", after, before)
        if ids(before) == ids(after):
            raise DemoError("the click did not change the next recommendation")
        say("the next night: what happened by day comes in, unchanged texts are carried over")
        night()
        second = healthy(shop, store.current())
        if second == first:
            raise DemoError(f"the second night published nothing: {first} is still current")
        asked = swaps(shop, [first, second])
        say(f"promoted {first} and back to {second}: {asked} requests meanwhile, none failed")
        say(
            f"dashboard {DASHBOARD}   API {SHOP}/docs   report {home}/releases/{second}/report.html"
        )


def night() -> None:
    """`ray job submit` of the night, as a scheduler would."""
    job = ["ray", "job", "submit", "--address", DASHBOARD, "--working-dir", ".", "--"]
    command(
        [*job, sys.executable, "-m", "jobs.nightly", "--setup", "tiny"],
        "the night failed: its output says why",
    )


def deploy() -> None:
    """`serve deploy`, then until it runs: the command returns before the application does."""
    command(["serve", "deploy", "--address", DASHBOARD, "serve/config.yaml"], "serve deploy failed")
    for _ in every(1.0, 120, "the application is not running after 120 s: look at the dashboard"):
        told = httpx.get(f"{DASHBOARD}/api/serve/applications/", headers=BEARER).json()
        status = told["applications"].get("nightshelf", {})
        if status.get("status") == "RUNNING":
            return
        if status.get("status") == "DEPLOY_FAILED":
            raise DemoError(f"the application cannot be deployed: {status.get('message')}")


def healthy(shop: httpx.Client, version: str | None) -> str:
    """Waits until replicas answer from `version`, many times in a row: there are several of
    them."""
    row = 0
    for _ in every(0.2, 60, f"the replicas do not serve release {version} after 60 s"):
        answer = shop.get("/healthz")
        row = row + 1 if answer.status_code == 200 and answer.json()["release"] == version else 0
        if row == 10:
            return str(version)
    raise AssertionError


def explain(shop: httpx.Client, request: str, item: str) -> None:
    """Why an item is in an answer, or is not; the answer is in the log a moment after it was
    given."""
    for _ in every(0.1, 10, f"request {request} is not in the log after 10 s"):
        told = shop.get("/explain", params={"request_id": request, "item_id": item})
        if told.status_code == 200:
            break
    say(f"explained: {told.json()['title']}. {told.json()['summary']}")


def click(shop: httpx.Client, user: str, found: dict[str, Any]) -> None:
    item = found["items"][0]
    event = {
        "user_id": user,
        "item_id": item["item_id"],
        "type": "click",
        "request_id": found["request_id"],
    }
    answer = shop.post("/events", json=event)
    if answer.status_code != 200:
        raise DemoError(f"the click was refused: {answer.text}")
    say(f"{user} clicks {item['title']}")


def swaps(shop: httpx.Client, versions: list[str]) -> int:
    """Promotes each version in turn while another thread keeps searching; how many requests that
    were."""
    stop, failures, asked = threading.Event(), [], [0]

    def keep_searching() -> None:
        with httpx.Client(base_url=SHOP, timeout=10) as other:
            while not stop.is_set():
                answer = other.get("/search", params={"q": TEXT, "k": 3})
                asked[0] += 1
                if answer.status_code != 200 or answer.json()["release"] not in versions:
                    failures.append(answer.text)

    thread = threading.Thread(target=keep_searching)
    thread.start()
    try:
        for version in versions:
            answer = shop.post(f"/releases/{version}/promote")
            if answer.status_code != 200:
                raise DemoError(f"release {version} could not be promoted: {answer.text}")
            healthy(shop, version)
    finally:
        stop.set()
        thread.join()
    if failures:
        raise DemoError(
            f"{len(failures)} of {asked[0]} requests failed during the swaps, the first: {failures[0]}"
        )
    return asked[0]


def get(shop: httpx.Client, path: str, **params: Any) -> dict[str, Any]:
    answer = shop.get(path, params=params)
    if answer.status_code != 200:
        raise DemoError(f"GET {path} answered {answer.status_code}: {answer.text}")
    body: dict[str, Any] = answer.json()
    if not body["items"]:
        raise DemoError(f"GET {path} found nothing")
    return body


def ids(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


def table(heading: str, answer: dict[str, Any], before: dict[str, Any] | None = None) -> None:
    """An answer as a person would read it; with `before`, what moved is marked."""
    say(heading)
    places = {item: place for place, item in enumerate(ids(before), start=1)} if before else {}
    for place, item in enumerate(answer["items"], start=1):
        price = f"{item['price']:8.2f}" if item["price"] is not None else f"{'-':>8}"
        moved = "" if before is None else _moved(places.get(item["item_id"]), place)
        sources = ", ".join(item["sources"])
        print(
            f"    {place:>2}  {item['title'][:44]:<44} {item['brand'][:9]:<9}{price}  {sources}{moved}"
        )
    print(f"        release {answer['release']}, request {answer['request_id']}", flush=True)


def _moved(before: int | None, now: int) -> str:
    if before is None:
        return "   new"
    return "" if before == now else f"   was {before}"


@contextmanager
def ray_head(home: Path) -> Iterator[None]:
    """A Ray head of our own on 127.0.0.1, gone when the block ends, however it ends."""
    for port, owner in PORTS.items():
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                raise DemoError(
                    f"port {port} of {owner} is taken: stop what runs there (ray stop, or make serve)"
                )
    cpus = max(
        4, os.cpu_count() or 4
    )  # logical: on two cores Ray Data needs more places than there are cores
    head = [
        "ray",
        "start",
        "--head",
        "--block",
        f"--num-cpus={cpus}",
        "--node-ip-address=127.0.0.1",
    ]
    head += ["--dashboard-host=127.0.0.1", f"--object-store-memory={1 << 30}"]
    # The agent's own 52365 may be another Ray's, and then no job runs.
    head += [f"--dashboard-agent-listen-port={free_port('0.0.0.0')}"]
    home.mkdir(parents=True, exist_ok=True)
    say(f"a Ray head on 127.0.0.1 (its output: {home}/ray.log)")
    with (home / "ray.log").open("w") as log:
        process = subprocess.Popen(head, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in every(0.5, 90, f"Ray's dashboard does not answer: see {home}/ray.log"):
            if process.poll() is not None:
                raise DemoError(
                    f"ray start ended with exit code {process.returncode}: see {home}/ray.log"
                )
            if takes_jobs():
                break
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def takes_jobs() -> bool:
    """Whether the dashboard takes jobs: its agent comes up some seconds after its pages."""
    try:
        job = {"entrypoint": "true"}
        return (
            httpx.post(f"{DASHBOARD}/api/jobs/", json=job, headers=BEARER, timeout=5).status_code
            == 200
        )
    except httpx.HTTPError:
        return False


def command(words: list[str], sentence: str) -> None:
    """Runs it, its output passed through but for what Ray says about the upload; DemoError when it
    fails."""
    process = subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "packaging.py:" not in line and line.strip():
            print(f"    {line}", end="", flush=True)
    if process.wait() != 0:
        raise DemoError(sentence)


def every(seconds: float, limit: float, sentence: str) -> Iterator[None]:
    """Once in `seconds`; DemoError with the sentence after `limit` seconds."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        yield
        time.sleep(seconds)
    raise DemoError(sentence)


def say(sentence: str) -> None:
    print(f"\n[{time.monotonic() - STARTED:4.0f} s] {sentence}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
