"""Faults as functions of a running shop: each breaks something for good, under traffic, and returns its row."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from serve.load import Load, running
from tests.faults.cluster import SHOP, SIGNED, Day
from tests.faults.processes import eventually, resident_mib
from tests.faults.shop import EVEN, ODD


@dataclass(frozen=True)
class Row:
    """`failed` counts requests without a good answer, `failures` what they were; `lost` acknowledged events that are
    not in the log, `twice` those that are there more than once; `whole_s` is when all was as before."""

    fault: str
    requests: int
    failed: int
    events: int
    lost: int
    twice: int
    whole_s: float
    failures: dict[str, int]
    note: str = ""


def under_traffic(fault: str, day: Day, rate: float, breaks: Callable[[], None], whole: Callable[[], bool]) -> Row:
    """Constant traffic from before it breaks until two seconds after all is whole again."""
    with running(day.traffic(rate=rate)) as load:
        eventually(lambda: len(load.log) >= rate, "traffic flows")
        began = time.monotonic()
        breaks()
        eventually(whole, f"the shop is whole after: {fault}", 180)
        whole_s, seen = time.monotonic() - began, len(load.log)
        eventually(lambda: len(load.log) >= seen + 2 * rate, "traffic flows again")
    return row(fault, day, load, whole_s)


def row(fault: str, day: Day, load: Load, whole_s: float, note: str = "") -> Row:
    failures = Counter(each.failure for each in load.log if each.failure)
    acknowledged = [event for each in load.log for event in each.events]
    there = Counter(day.events())
    lost, twice = (sum(check(there[event]) for event in acknowledged) for check in ((0).__eq__, (1).__lt__))
    sums = len(load.log), failures.total(), len(acknowledged), lost, twice
    return Row(fault, *sums, round(whole_s, 1), dict(failures), note)


def killed(day: Day, title: str, rate: float) -> Row:
    """kill -9 of the youngest process with that title."""

    before = day.processes.find(title)

    def whole() -> bool:
        now = day.processes.find(title)
        return len(now) >= len(before) and before[-1] not in now and day.is_whole() and day.answers()

    return under_traffic(f"kill -9 {title}", day, rate, lambda: day.processes.kill(before[-1]), whole)


def swapped(day: Day, times: int, rate: float) -> Row:
    """Promotes and rollbacks under traffic, each once the one before it is served; the note says what memory did."""
    client = httpx.Client(base_url=day.url, headers=SIGNED, timeout=30)
    for turn in range(4):  # what is allocated by the first swaps stays
        promote(client, (EVEN, ODD)[turn % 2])
    before = memory(day)
    with running(day.traffic(rate=rate)) as load:
        began = time.monotonic()
        for turn in range(times):
            promote(client, (EVEN, ODD)[turn % 2])
        took_s = time.monotonic() - began
    grown = max(now / then for now, then in zip(memory(day), before, strict=True))
    client.close()
    served = Counter(each.release for each in load.log if each.release)
    return row(
        f"{times} release swaps", day, load, took_s, f"memory x {grown:.3f}, {served[EVEN]} + {served[ODD]} answers"
    )


def promote(client: httpx.Client, version: str) -> None:
    """Until many answers in a row, from all replicas, are of it."""
    answer = client.post(f"/releases/{version}/promote")
    assert answer.status_code == 200, answer.text

    def served() -> bool:
        return all(client.get("/healthz").json()["release"] == version for _ in range(10))

    eventually(served, f"{version} is served", 30)


def memory(day: Day) -> list[float]:
    return [resident_mib(pid) for pid in day.processes.find(SHOP)]
