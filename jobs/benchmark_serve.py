"""How fast the application answers, beside the same calls in process and beside plain uvicorn, in
one run.

python -m jobs.benchmark_serve [--quick] starts a local Ray and the default setup on the release of
$NIGHTSHELF_HOME, sends it real HTTP from this machine's own cores, and stops what it started.
Events go to a log of their own, not to the shop's. Prints a table, where a request's time goes, and
last one line of JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from recsys.config import Setup, load
from recsys.errors import NotFoundError, RecsysError
from recsys.release.release import Release
from recsys.simulation.load import LoadGenerator, LoadShape, LoadSummary, run_in_process, summarize
from recsys.simulation.processes import free_port
from recsys.simulation.traffic import Traffic
from recsys.storage.artifacts import ArtifactStore
from recsys.storage.version import code_commit

ROOT = Path(__file__).resolve().parents[1]
SETUP = "tiny"
#: An answer later than this does not count as kept up with.
KEPT_UP_MS = 200.0
#: Requests a second that a shop is taken to have over eight hours; the soak sends as many.
USUAL_RATE = 0.5
#: Of a search, in milliseconds: what each part of the way may take, and the stages that it is made
#: of.
BUDGET_MS = {
    "ingress": 4.0,
    "understand": 3.0,
    "encode": 12.0,
    "retrieve": 8.0,
    "rank": 6.0,
    "serialise": 1.0,
}
PARTS = {
    "understand": ("understand",),
    "encode": ("encode",),
    "retrieve": ("filter", "match", "features", "nightly", "user vector"),
    "rank": ("cross_encoder", "rank", "rerank", "page", "explain", "facets", "merge"),
}
SIDES = {
    "haproxy": {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"},
    "python": {"RAY_SERVE_ENABLE_HA_PROXY": "0", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "0"},
    # One thread of BLAS, as Ray gives its replicas: two processes with two each stand in each
    # other's way.
    "bare": {"OMP_NUM_THREADS": "1"},
    "inside": {"OMP_NUM_THREADS": "1"},
}


@dataclass(frozen=True)
class Size:
    """Seconds of one measurement at concurrency 1, of one step, of the overload; steps; and
    requests of the soak."""

    alone_s: float = 10.0
    step_s: float = 6.0
    overload_s: float = 60.0
    steps: int = 10
    soak: int = int(8 * 3600 * USUAL_RATE)


QUICK = Size(4.0, 3.0, 10.0, 5, 500)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="about two minutes")
    parser.add_argument("--proxy", choices=("haproxy", "python", "both"), default="both")
    parser.add_argument("--side", nargs=2, metavar=("SIDE", "PORT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        return stand(arguments.side[0], int(arguments.side[1]))
    begun = time.perf_counter()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with tempfile.TemporaryDirectory(prefix="nightshelf-") as folder:
            prepare(Path(folder))
            sides = ["haproxy", "python"] if arguments.proxy == "both" else [arguments.proxy]
            rows = measured(load(SETUP), sides, QUICK if arguments.quick else Size())
    except RecsysError as error:
        print(f"nothing was measured: {error}", file=sys.stderr)
        return 1
    table(rows)
    seconds = round(time.perf_counter() - begun, 1)
    told = {
        "job": "benchmark_serve",
        "dataset": "completejourney",
        "commit": code_commit(),
        "seconds": seconds,
    }
    print(
        json.dumps(
            {**told, "rows": [{name: known(value) for name, value in row.items()} for row in rows]}
        )
    )
    return 0


def prepare(folder: Path) -> None:
    """What children inherit: an event log of their own, and a Ray that asks nobody for a token."""
    os.environ.update(
        NIGHTSHELF_EVENTS=str(folder / "events.sqlite"),
        NIGHTSHELF_SETUP=SETUP,
        RAY_AUTH_MODE="disabled",
        RAY_USAGE_STATS_ENABLED="0",
        HF_HUB_OFFLINE="1",
        TOKENIZERS_PARALLELISM="false",
        PYTHONPATH=str(ROOT),
    )


def measured(setup: Setup, sides: list[str], size: Size) -> list[dict[str, Any]]:
    store = ArtifactStore(setup.home)
    if store.current() is None:
        raise NotFoundError(
            f"{setup.home} has no release: run python -m jobs.nightly --setup {SETUP} first"
        )
    traffic = Traffic.of(Release.open(store))
    say(f"release {store.current()}; server and client share {os.cpu_count()} cores")
    inside = in_process(size)
    rows, rates = [], dict[str, float]()
    for side in sides:
        with server(side) as (url, process):
            alone = {route: at_one(url, traffic, route, size) for route in ("recommend", "search")}
            rates[side], mix = sustained(url, traffic, size)
            suffix = "" if side == sides[0] else f"/{side}"
            rows += [over(f"{route}{suffix}", told, inside[route]) for route, told in alone.items()]
            rows.append({**row(f"mix{suffix}", mix), "requests_per_s": rates[side]})
            if side == sides[0]:
                stages(alone["search"], inside)
                rows.append(overload(url, traffic, rates[side], size))
                rows.append(soak(url, traffic, process, size))
    with server("bare", setup.day.replicas) as (url, _):
        rate, mix = sustained(url, traffic, size)
        rows.append({**row("bare_fastapi", mix), "requests_per_s": rate})
    for each in rows:
        if each["name"].startswith("mix"):
            each["over_bare"] = each["requests_per_s"] / rate if rate else math.nan
    return rows


# In process


def in_process(size: Size) -> dict[str, dict[str, float]]:
    """Median milliseconds of each route's calls without HTTP; of searches by stage too, and of
    making JSON."""
    command = [
        sys.executable,
        "-m",
        "jobs.benchmark_serve",
        "--side",
        "inside",
        str(math.ceil(size.alone_s)),
    ]
    told = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **SIDES["inside"]}, capture_output=True, text=True
    )
    if told.returncode:
        raise RecsysError(f"the calls in process failed: {told.stderr[-2000:]}")
    found: dict[str, dict[str, float]] = json.loads(told.stdout.splitlines()[-1])
    return found


async def _inside(seconds: float) -> None:
    from jobs import serve_plain as bare

    setup = load(SETUP)
    shop, traffic = bare.shop(setup), Traffic.of(Release.open(ArtifactStore(setup.home)))
    try:
        say(
            json.dumps(
                {
                    route: await _asked(shop, traffic, route, seconds)
                    for route in ("recommend", "search")
                }
            )
        )
    finally:
        shop.close()


async def _asked(shop: Any, traffic: Traffic, route: str, seconds: float) -> dict[str, float]:
    from serve.routes import answers, requests
    from serve.routes.responses import JsonResponse

    took: dict[str, list[float]] = {"answer": [], "serialise": []}
    begun = time.perf_counter()
    for number, call in enumerate(only(traffic, route)):
        if time.perf_counter() - begun > seconds:
            break
        model: Any = requests.SearchParams if route == "search" else requests.RecommendParams
        query = requests.build_query(
            f"r{number}", model.model_validate(dict(call.params)), shop.day
        )
        started = time.perf_counter()
        ranking = await (shop.search(query) if route == "search" else shop.recommend(query))
        answered = time.perf_counter()
        JsonResponse(
            answers.search_answer(ranking, query)
            if route == "search"
            else answers.ranking_answer(ranking)
        )
        if number < 5:  # the first calls fill caches
            continue
        took["answer"].append((answered - started) * 1000)
        took["serialise"].append((time.perf_counter() - answered) * 1000)
        for part, names in PARTS.items():
            spent = sum(ms for stage, ms in ranking.stages_ms.items() if stage in names)
            took.setdefault(part, []).append(spent)
    return {name: float(np.median(values)) for name, values in took.items()}


def only(traffic: Traffic, route: str) -> Iterator[Any]:
    return (call for call in traffic.calls(1) if call.route == route)


# Over HTTP


def at_one(url: str, traffic: Traffic, route: str, size: Size) -> LoadSummary:
    """One shopper after the other, of one route; the first calls only warm up."""
    LoadGenerator(url, only(traffic, route), LoadShape(clients=1, requests=30)).run()
    return summarize(
        LoadGenerator(url, only(traffic, route), LoadShape(clients=1, seconds=size.alone_s)).run()
    )


def sustained(url: str, traffic: Traffic, size: Size) -> tuple[float, LoadSummary]:
    """The highest constant rate of the mix that is kept up with, to a tenth: by halves between one
    that was and one that was not, from what eight shoppers in a row are answered; at most
    `size.steps` rates."""
    closed = summarize(run_in_process(url, traffic, LoadShape(clients=8, seconds=size.step_s)))
    rate, best, failed = max(1.0, closed.requests_per_s), (0.0, closed), math.inf
    for step in range(size.steps):
        told = summarize(
            run_in_process(url, traffic, LoadShape(rate=rate, seconds=size.step_s), seed=step + 2)
        )
        say(
            f"    {rate:6.1f} requests/s: p99 {told.p99_ms:6.1f} ms, {told.failed + told.shed} not answered"
        )
        if told.p99_ms < KEPT_UP_MS and not told.failed and not told.shed:
            best = rate, told
        else:
            failed = rate
        if failed < 1.1 * best[0]:
            break
        rate = best[0] * 1.5 if failed == math.inf else math.sqrt(max(best[0], failed / 4) * failed)
    return best


def overload(url: str, traffic: Traffic, rate: float, size: Size) -> dict[str, Any]:
    """Three times what is sustained; then how long until one shopper is answered in 200 ms again,
    ten times running."""
    told = summarize(
        run_in_process(
            url, traffic, LoadShape(rate=3 * max(rate, 1.0), seconds=size.overload_s), seed=99
        )
    )
    ended, good = time.perf_counter(), 0
    while good < 10 and time.perf_counter() - ended < 60:
        [answered] = LoadGenerator(url, traffic.calls(98), LoadShape(clients=1, requests=1)).run()
        good = good + 1 if not answered.failure and answered.latency_ms < KEPT_UP_MS else 0
    extra = {
        "sent_per_s": 3 * rate,
        "shed": told.shed / max(1, told.requests),
        "failed": told.failed,
    }
    return {
        **row("overload", told),
        **extra,
        "recovered_s": time.perf_counter() - ended,
        "degraded": told.degraded,
    }


def soak(url: str, traffic: Traffic, process: subprocess.Popen[str], size: Size) -> dict[str, Any]:
    """As many requests as eight hours have at the usual rate, as fast as they go: how any process
    has grown.

    Memory is private to the process (USS): releases are mapped, and shared. It is counted from a
    tenth of the way on."""
    run_in_process(url, traffic, LoadShape(clients=8, requests=size.soak // 10), seed=50)
    before = memory(process.pid)
    told = summarize(
        run_in_process(
            url, traffic, LoadShape(clients=8, requests=size.soak - size.soak // 10), seed=51
        )
    )
    after = memory(process.pid)
    grown = {name: 100 * (after[name] / used - 1) for name, used in before.items() if name in after}
    for name, percent in sorted(grown.items()):
        say(f"    {name}: {before[name] / 2**20:.0f} MiB, {percent:+.1f} %")
    return {
        **row("soak", told),
        "requests": size.soak,
        "failed": told.failed,
        "grown_percent": max(grown.values()),
    }


def memory(parent: int) -> dict[str, int]:
    """USS by name and pid, of the processes that serve."""
    found = {}
    for each in psutil.Process(parent).children(recursive=True):
        try:
            name = (each.cmdline() or [each.name()])[0].split("/")[-1]
            if name.startswith(("ray::Serve", "ray::Proxy", "ray::HAProxy", "haproxy")):
                found[f"{name} {each.pid}"] = int(each.memory_full_info().uss)
        except psutil.Error:
            continue
    return found


# Servers


@contextmanager
def server(side: str, workers: int = 0) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Its address and process, once it answers; gone when the block ends."""
    port = free_port()
    say(f"{side}:")
    command = [sys.executable, "-m", "jobs.benchmark_serve", "--side", side, str(port)]
    environment = {**os.environ, **SIDES[side], "NIGHTSHELF_WORKERS": str(workers)}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=log, stderr=log, text=True
        )
        try:
            url = f"http://127.0.0.1:{port}"
            wait(url, process, log)
            yield url, process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


def wait(url: str, process: subprocess.Popen[str], log: Any) -> None:
    end, row = time.monotonic() + 240, 0
    while time.monotonic() < end and process.poll() is None:
        try:
            row = row + 1 if httpx.get(f"{url}/healthz", timeout=5).status_code == 200 else 0
        except httpx.HTTPError:
            row = 0
        if row >= 10:
            return
        time.sleep(0.2)
    log.seek(0)
    raise RecsysError(f"the application does not answer: {log.read()[-2000:]}")


def stand(side: str, port: int) -> int:
    """One side, in a process of its own, until SIGTERM; `inside` is given seconds for a port."""
    if side == "inside":
        asyncio.run(_inside(port))
        return 0
    if side == "bare":
        from jobs import serve_plain as bare

        bare.run(port, int(os.environ["NIGHTSHELF_WORKERS"]))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    import ray
    from ray import serve

    from serve.app import compose

    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=300 << 20,
        log_to_driver=False,
    )
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(compose(load(SETUP), "127.0.0.1"), name="nightshelf", route_prefix="/")
        signal.pause()
    finally:
        serve.shutdown()
        ray.shutdown()
    return 0


# For people


def row(name: str, told: LoadSummary) -> dict[str, Any]:
    numbers = {"p50_ms": told.p50_ms, "p99_ms": told.p99_ms, "requests_per_s": told.requests_per_s}
    return {"name": name, "overhead_p50_ms": math.nan, **numbers}


def over(name: str, told: LoadSummary, inside: dict[str, float]) -> dict[str, Any]:
    return {
        **row(name, told),
        "overhead_p50_ms": told.p50_ms - inside["answer"],
        "in_process_ms": inside["answer"],
    }


def stages(told: LoadSummary, inside: dict[str, dict[str, float]]) -> None:
    """Where a search's time goes; ingress is what is left of the answer's time over HTTP."""
    search = inside["search"]
    spent = {**search, "ingress": told.p50_ms - search["answer"] - search["serialise"]}
    say(f"{'a search, median':<18}{'budget ms':>10}{'ms':>8}")
    for part, budget in BUDGET_MS.items():
        say(f"{part:<18}{budget:>10.1f}{spent[part]:>8.2f}")


def table(rows: list[dict[str, Any]]) -> None:
    columns = ("overhead_p50_ms", "p50_ms", "p99_ms", "requests_per_s")
    say(f"{'':<20}" + "".join(f"{column:>17}" for column in columns))
    for each in rows:
        more = ", ".join(
            f"{name} {number(each[name])}" for name in each if name not in ("name", *columns)
        )
        say(
            f"{each['name']:<20}"
            + "".join(f"{number(each[column]):>17}" for column in columns)
            + f"  {more}"
        )


def number(value: Any) -> str:
    return (
        "-" if known(value) is None else f"{value:.2f}" if isinstance(value, float) else str(value)
    )


def known(value: Any) -> Any:
    """NaN as null: a number that there is not."""
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 3)
    return value


say = partial(print, flush=True)


if __name__ == "__main__":
    sys.exit(main())
