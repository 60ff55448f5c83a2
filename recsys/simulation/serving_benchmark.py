"""The application over Ray Serve, by its ingresses, beside plain uvicorn and calls in process."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from recsys.errors import RecsysError
from recsys.evaluation.results import Column, Row, say, text_table
from recsys.simulation.capacity import (
    LoadTestSize,
    find_sustainable_rate,
    measure_overload,
    measure_single_client,
    measure_soak,
    summary_row,
)
from recsys.simulation.load import LoadSummary
from recsys.simulation.processes import (
    child_process,
    free_port,
    job_command,
    run_command,
    wait_for_health,
)
from recsys.simulation.traffic import Traffic

ROUTES = ("recommend", "search")
#: Milliseconds that each part of a search may take.
BUDGET_MS = {
    "ingress": 4.0,
    "understand": 3.0,
    "encode": 12.0,
    "retrieve": 8.0,
    "rank": 6.0,
    "serialise": 1.0,
}
#: The ingresses of Ray Serve, by what Ray finds in its environment.
INGRESSES = {
    "haproxy": {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"},
    "python": {"RAY_SERVE_ENABLE_HA_PROXY": "0", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "0"},
}
#: One thread of BLAS, as Ray gives its replicas: two processes of two threads slow each other down.
SINGLE_THREADED = {"OMP_NUM_THREADS": "1"}
#: Median milliseconds of a route's calls in process, by part.
CallTimes = Mapping[str, float]


def benchmark_serving(
    setup: str, traffic: Traffic, ingresses: Sequence[str], workers: int, size: LoadTestSize
) -> list[Row]:
    """The rows of each ingress, the first also under overload and soak, and of plain uvicorn with
    `workers`."""
    calls = measure_calls(setup, size)
    rows: list[Row] = []
    for ingress in ingresses:
        say(f"{ingress}:")
        with running_server(("serve_local", "--setup", setup), INGRESSES[ingress]) as (url, pid):
            suffix = "" if ingress == ingresses[0] else f"/{ingress}"
            single = {r: measure_single_client(url, traffic, r, size) for r in ROUTES}
            rate, mix = find_sustainable_rate(url, traffic, size)
            rows += [_route_row(f"{r}{suffix}", single[r], calls[r]) for r in ROUTES]
            rows.append({**summary_row(f"mix{suffix}", mix), "requests_per_s": rate})
            if not suffix:
                say(budget_table(single["search"], calls["search"]))
                rows.append(measure_overload(url, traffic, rate, size))
                rows.append(measure_soak(url, traffic, pid, size))
    say("bare:")
    plain = ("serve_plain", "--setup", setup, "--workers", str(workers))
    with running_server(plain, SINGLE_THREADED) as (url, _):
        rate, mix = find_sustainable_rate(url, traffic, size)
    rows.append({**summary_row("bare_fastapi", mix), "requests_per_s": rate})
    for row in rows:
        if row["name"].startswith("mix"):
            row["over_bare"] = row["requests_per_s"] / rate if rate else math.nan
    return rows


def measure_calls(setup: str, size: LoadTestSize) -> dict[str, CallTimes]:
    """The times of calls in process, by route."""
    seconds = math.ceil(size.single_s)
    command = job_command("benchmark_calls", "--setup", setup, "--seconds", seconds)
    job = run_command(command, SINGLE_THREADED)
    if job.returncode:
        raise RecsysError(f"the calls in process failed: {job.stderr[-2000:]}")
    rows = json.loads(job.stdout.splitlines()[-1])["rows"]
    return {row.pop("name"): row for row in rows}


@contextmanager
def running_server(command: Sequence[str], env: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    """The URL and the process id of a job that serves on a free port, once it answers; it ends with
    the block."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (
        tempfile.TemporaryFile("w+") as log,
        child_process(job_command(*command, "--port", port), log, env=env) as process,
    ):
        try:
            wait_for_health(url, limit_s=240, is_running=lambda: process.poll() is None)
        except RecsysError as error:
            log.seek(0)
            raise RecsysError(f"{error}: {log.read()[-2000:]}") from error
        yield url, process.pid


def _route_row(name: str, summary: LoadSummary, calls: CallTimes) -> Row:
    overhead = {"overhead_p50_ms": summary.p50_ms - calls["answer"]}
    return {**summary_row(name, summary), **overhead, "in_process_ms": calls["answer"]}


def budget_table(summary: LoadSummary, calls: CallTimes) -> str:
    """The median time of a search by part beside its budget; the ingress is the rest of the time
    over HTTP."""
    ingress = summary.p50_ms - calls["answer"] - calls["serialise"]
    times = {**calls, "ingress": ingress}
    rows = [
        {"name": part, "budget": budget, "ms": times[part]} for part, budget in BUDGET_MS.items()
    ]
    columns = Column("budget", ".1f", "budget ms"), Column("ms", ".2f")
    return f"a search, median\n{text_table(rows, columns)}"


def serving_table(rows: Sequence[Row]) -> str:
    """Latencies and throughput, and behind them what a row alone has."""
    names = ("overhead_p50_ms", "p50_ms", "p99_ms", "requests_per_s")
    lines = []
    for row in rows:
        extra = [Column(name, ".2f" if isinstance(row[name], float) else "") for name in row]
        cells = (
            f"{each.key} {each.cell(row)}" for each in extra if each.key not in ("name", *names)
        )
        lines.append({**row, "extra": ", ".join(cells)})
    return text_table(
        lines, [*(Column(name, ".2f") for name in names), Column("extra", heading="")]
    )
