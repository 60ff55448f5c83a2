"""Faults as functions of a running shop: each breaks something for good, under traffic, and returns
its row."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from recsys.simulation.load import LoadGenerator, in_background
from recsys.storage.artifacts import ArtifactStore
from tests.faults.cluster import SHOP, SIGNED, RunningShop
from tests.faults.processes import eventually, resident_mib
from tests.faults.shop import EVEN, ODD
from tests.redis_server import RedisServer


@dataclass(frozen=True, kw_only=True)
class Row:
    """`failed` counts requests without a good answer, `failures` what they were; `lost`
    acknowledged events that are not in the log, `twice` those that are there more than once;
    `whole_s` is when all was as before."""

    fault: str
    requests: int
    failed: int
    events: int
    lost: int
    twice: int
    whole_s: float
    failures: dict[str, int]
    note: str = ""


def under_traffic(
    fault: str,
    shop: RunningShop,
    rate: float,
    breaks: Callable[[], None],
    whole: Callable[[], bool],
) -> Row:
    """Constant traffic from before it breaks until two seconds after all is whole again."""
    with in_background(shop.traffic(rate=rate)) as load:
        eventually(lambda: len(load.results) >= rate, "traffic flows")
        began = time.monotonic()
        breaks()
        eventually(whole, f"the shop is whole after: {fault}", 180)
        whole_s, seen = time.monotonic() - began, len(load.results)
        eventually(lambda: len(load.results) >= seen + 2 * rate, "traffic flows again")
    return row(fault, shop, load, whole_s)


def row(fault: str, shop: RunningShop, load: LoadGenerator, whole_s: float, note: str = "") -> Row:
    """What waited in a spool gets half a minute to reach the log."""
    failures = Counter(each.failure for each in load.results if each.failure)
    acknowledged = [event for each in load.results for event in each.events]
    logged, end = Counter(shop.events()), time.monotonic() + 30
    while not set(acknowledged) <= set(logged) and time.monotonic() < end:
        time.sleep(1)
        logged = Counter(shop.events())
    lost, twice = (
        sum(check(logged[event]) for event in acknowledged) for check in ((0).__eq__, (1).__lt__)
    )
    return Row(
        fault=fault,
        requests=len(load.results),
        failed=failures.total(),
        events=len(acknowledged),
        lost=lost,
        twice=twice,
        whole_s=round(whole_s, 1),
        failures=dict(failures),
        note=note,
    )


def kill_process(shop: RunningShop, title: str, rate: float) -> Row:
    """kill -9 of the youngest process with that title."""

    before = shop.processes.find(title)

    def whole() -> bool:
        now = shop.processes.find(title)
        return len(now) >= len(before) and before[-1] not in now and shop.is_well()

    return under_traffic(
        f"kill -9 {title}", shop, rate, lambda: shop.processes.kill(before[-1]), whole
    )


def roll_update(shop: RunningShop, rate: float) -> Row:
    """An update with another setup: new replicas take the place of the old ones."""
    before = set(shop.processes.find(SHOP))

    def breaks() -> None:
        shop.command("roll")

    def whole() -> bool:
        return not before & set(shop.processes.find(SHOP)) and shop.is_well()

    return under_traffic("a rolling update", shop, rate, breaks, whole)


def kill_store(shop: RunningShop, server: RedisServer, rate: float, down_s: float = 5.0) -> Row:
    """kill -9 of the event log's server, which is started again over what it has on disk."""

    def breaks() -> None:
        server.kill()
        time.sleep(down_s)
        server.start()

    return under_traffic("kill -9 of the event log's server", shop, rate, breaks, shop.is_well)


def point_to_damaged(shop: RunningShop, rate: float) -> Row:
    """A release with a byte changed is named current, behind everybody's back; then the good one
    again."""
    store = ArtifactStore(str(shop.home))
    good, bad = ODD, f"{EVEN}-damaged"

    def health() -> dict[str, Any]:
        answered: dict[str, Any] = httpx.get(
            f"{shop.url}/healthz", headers=SIGNED, timeout=10
        ).json()
        return answered

    def breaks() -> None:
        folder = shop.home / "releases" / bad
        shutil.copytree(shop.home / "releases" / EVEN, folder)
        manifest = folder / "manifest.json"
        manifest.write_text(
            manifest.read_text().replace(f'"version": "{EVEN}"', f'"version": "{bad}"')
        )
        vectors = folder / "item_vectors.npy"
        vectors.write_bytes(vectors.read_bytes()[:-1] + b"\x7f")
        store.point(bad)
        eventually(lambda: bad in health()["refused"], "the damaged release is refused")
        store.point(good)

    def whole() -> bool:
        return shop.is_whole() and health()["release"] == good

    return under_traffic("a damaged release is named current", shop, rate, breaks, whole)


def jump_clock(shop: RunningShop, clock: Path, rate: float, every_s: float = 5.0) -> Row:
    """The clocks of the replicas go an hour ahead, then two hours back, then right again."""

    def breaks() -> None:
        for jump in ("3600", "-3600", "0"):
            clock.write_text(jump)
            time.sleep(every_s)

    return under_traffic("the clock jumps: +1 h, -2 h, +1 h", shop, rate, breaks, shop.is_well)


def swap_releases(shop: RunningShop, times: int, rate: float) -> Row:
    """Promotes and rollbacks under traffic, each once the one before it is served. The note says
    how the replicas' memory grew in each half of them: what the first requests and swaps of a
    process take stays, so that the second half is what counts."""
    client = httpx.Client(base_url=shop.url, headers=SIGNED, timeout=30)
    with in_background(shop.traffic(rate=rate)) as load:
        began, samples = time.monotonic(), [memory(shop)]
        for turn in range(times):
            promote(client, (EVEN, ODD)[turn % 2])
            if turn + 1 in (times // 2, times):
                samples.append(memory(shop))
        took_s = time.monotonic() - began
    client.close()
    served = Counter(each.release for each in load.results if each.release)
    note = (
        f"memory {growth_percent(*samples[:2]):+.1f} %, then {growth_percent(*samples[1:]):+.1f} %"
    )
    return row(
        f"{times} release swaps",
        shop,
        load,
        took_s,
        f"{note}; {served[EVEN]} + {served[ODD]} answers",
    )


def growth_percent(before: list[float], after: list[float]) -> float:
    """In percent, of the process that grew most."""
    return 100 * max(now / then - 1 for now, then in zip(after, before, strict=True))


def promote(client: httpx.Client, version: str) -> None:
    """Until many answers in a row, from all replicas, are of it."""
    answer = client.post(f"/releases/{version}/promote")
    assert answer.status_code == 200, answer.text

    def served() -> bool:
        return all(client.get("/healthz").json()["release"] == version for _ in range(10))

    eventually(served, f"{version} is served", 30)


def memory(shop: RunningShop) -> list[float]:
    return [resident_mib(pid) for pid in shop.processes.find(SHOP)]
