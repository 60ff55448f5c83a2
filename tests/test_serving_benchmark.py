"""The serving benchmark's tables, and the names of stages that it adds up."""

from __future__ import annotations

import math
from pathlib import Path

from jobs.benchmark_calls import PARTS
from recsys.simulation.capacity import LoadTestSize, find_sustainable_rate, summary_row
from recsys.simulation.load import CallResult, summarize
from recsys.simulation.serving_benchmark import BUDGET_MS, budget_table, serving_table
from recsys.simulation.traffic import Traffic

ROOT = Path(__file__).resolve().parents[1]


def results(latency_ms: float, failure: str = "") -> list[CallResult]:
    return [
        CallResult(
            route="search", status=200, due_s=number / 10, latency_ms=latency_ms, failure=failure
        )
        for number in range(100)
    ]


def test_every_stage_that_is_added_up_is_timed_by_that_name() -> None:
    source = "".join(
        file.read_text()
        for room in ("recsys/pipeline", "serve")
        for file in (ROOT / room).rglob("*.py")
    )
    stages = [stage for stages in PARTS.values() for stage in stages]
    assert [stage for stage in stages if f'"{stage}"' not in source] == []
    assert set(PARTS) | {"ingress", "serialise"} == set(BUDGET_MS)


def test_the_ingress_is_the_rest_of_the_time_over_http() -> None:
    calls = dict.fromkeys(("answer", *PARTS), 2.0) | {"serialise": 0.5}
    lines = budget_table(summarize(results(4.0)), calls).splitlines()
    assert lines[2].split() == ["ingress", "4.0", "1.50"]
    assert len(lines) == 2 + len(BUDGET_MS)


def test_rows_show_what_they_alone_have() -> None:
    rows = [
        summary_row("search", summarize(results(4.0))) | {"in_process_ms": 2.5},
        summary_row("overload", summarize(results(4.0))) | {"failed": 3, "shed": math.nan},
    ]
    head, search, overload = serving_table(rows).splitlines()
    assert head.split() == ["overhead_p50_ms", "p50_ms", "p99_ms", "requests_per_s"]
    assert search.split()[:3] == ["search", "-", "4.00"]
    assert search.endswith("in_process_ms 2.50")
    assert overload.endswith("failed 3, shed -")


def test_the_sustainable_rate_is_found_to_a_tenth(monkeypatch) -> None:
    """A server that keeps up with 40 requests a second."""

    def load(url, traffic, shape, seed=0):
        latency_ms = 50.0 if shape.rate <= 40 else 500.0
        return results(latency_ms)

    monkeypatch.setattr("recsys.simulation.capacity.run_in_child", load)
    rate, _ = find_sustainable_rate("http://shop", Traffic((), (), ()), LoadTestSize())
    assert 36 <= rate <= 40
