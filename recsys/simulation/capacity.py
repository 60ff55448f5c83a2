"""Load tests of a running application: latency of a single client, sustainable rate, overload and
recovery, memory over a soak."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import psutil

from recsys.evaluation.results import Row, say
from recsys.simulation.load import (
    LoadGenerator,
    LoadShape,
    LoadSummary,
    run_in_child,
    summarize,
)
from recsys.simulation.traffic import Traffic

#: A rate is sustained while the 99th percentile stays below this.
LATENCY_LIMIT_MS = 200.0
#: Requests a second that a shop is assumed to have over eight hours; the soak sends as many.
USUAL_RATE = 0.5


@dataclass(frozen=True, kw_only=True)
class LoadTestSize:
    """Seconds of the measurement with a single client, of one step of the search for the
    sustainable rate, and of the overload; the most steps; requests of the soak."""

    single_s: float = 10.0
    step_s: float = 6.0
    overload_s: float = 60.0
    steps: int = 10
    soak_requests: int = int(8 * 3600 * USUAL_RATE)


QUICK = LoadTestSize(single_s=4.0, step_s=3.0, overload_s=10.0, steps=5, soak_requests=500)


def summary_row(name: str, summary: LoadSummary) -> Row:
    """Latencies and throughput; no overhead over a call in process is known."""
    return {
        "name": name,
        "overhead_p50_ms": math.nan,
        "p50_ms": summary.p50_ms,
        "p99_ms": summary.p99_ms,
        "requests_per_s": summary.requests_per_s,
    }


def measure_single_client(
    url: str, traffic: Traffic, route: str, size: LoadTestSize
) -> LoadSummary:
    """Requests to one route, one after the other, after 30 for warming up."""
    warm_up, shape = LoadShape(clients=1, requests=30), LoadShape(clients=1, seconds=size.single_s)
    LoadGenerator(url, traffic.route_calls(route), warm_up).run()
    return summarize(LoadGenerator(url, traffic.route_calls(route), shape).run())


def find_sustainable_rate(
    url: str, traffic: Traffic, size: LoadTestSize
) -> tuple[float, LoadSummary]:
    """The highest constant arrival rate of the mix that is sustained, to a tenth, and its summary.

    Bisection between a rate that was sustained and one that was not, from the throughput of eight
    clients in a closed loop; at most `size.steps` rates."""
    closed_loop = LoadShape(clients=8, seconds=size.step_s)
    closed = summarize(run_in_child(url, traffic, closed_loop))
    rate, best, failed = max(1.0, closed.requests_per_s), (0.0, closed), math.inf
    for step in range(size.steps):
        open_loop = LoadShape(rate=rate, seconds=size.step_s)
        summary = summarize(run_in_child(url, traffic, open_loop, seed=step + 2))
        unanswered = summary.failed + summary.shed
        say(f"    {rate:6.1f} requests/s: p99 {summary.p99_ms:6.1f} ms, {unanswered} not answered")
        if summary.p99_ms < LATENCY_LIMIT_MS and not unanswered:
            best = rate, summary
        else:
            failed = rate
        if failed < 1.1 * best[0]:
            break
        rate = best[0] * 1.5 if failed == math.inf else math.sqrt(max(best[0], failed / 4) * failed)
    return best


def measure_overload(url: str, traffic: Traffic, rate: float, size: LoadTestSize) -> Row:
    """Three times the sustainable rate; then the seconds until ten successive requests are answered
    within the limit again."""
    shape = LoadShape(rate=3 * max(rate, 1.0), seconds=size.overload_s)
    summary = summarize(run_in_child(url, traffic, shape, seed=99))
    ended, successes = time.perf_counter(), 0
    while successes < 10 and time.perf_counter() - ended < 60:
        single = LoadShape(clients=1, requests=1)
        [result] = LoadGenerator(url, traffic.calls(98), single).run()
        is_fast = not result.failure and result.latency_ms < LATENCY_LIMIT_MS
        successes = successes + 1 if is_fast else 0
    return {
        **summary_row("overload", summary),
        "sent_per_s": 3 * rate,
        "shed": summary.shed / max(1, summary.requests),
        "failed": summary.failed,
        "recovered_s": time.perf_counter() - ended,
        "degraded": summary.degraded,
    }


def measure_soak(url: str, traffic: Traffic, pid: int, size: LoadTestSize) -> Row:
    """The requests of eight hours at the usual rate, as fast as eight clients send them, and the
    largest growth of a serving process below `pid`, from a tenth of the way on.

    Memory is private to the process (USS): releases are mapped, and shared."""
    warm_up = LoadShape(clients=8, requests=size.soak_requests // 10)
    run_in_child(url, traffic, warm_up, seed=50)
    before = memory_of_replicas(pid)
    rest = LoadShape(clients=8, requests=size.soak_requests - size.soak_requests // 10)
    summary = summarize(run_in_child(url, traffic, rest, seed=51))
    after = memory_of_replicas(pid)
    growth = {
        name: 100 * (after[name] / used - 1) for name, used in before.items() if name in after
    }
    for name, percent in sorted(growth.items()):
        say(f"    {name}: {before[name] / 2**20:.0f} MiB, {percent:+.1f} %")
    return {
        **summary_row("soak", summary),
        "requests": size.soak_requests,
        "failed": summary.failed,
        "grown_percent": max(growth.values()),
    }


def memory_of_replicas(pid: int) -> dict[str, int]:
    """USS in bytes by name and pid, of the serving processes below `pid`."""
    memory = {}
    for process in psutil.Process(pid).children(recursive=True):
        try:
            name = (process.cmdline() or [process.name()])[0].split("/")[-1]
            if name.startswith(("ray::Serve", "ray::Proxy", "ray::HAProxy", "haproxy")):
                memory[f"{name} {process.pid}"] = int(process.memory_full_info().uss)
        except psutil.Error:
            continue
    return memory
