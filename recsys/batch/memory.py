"""Memory of the driver and its Ray workers on this host, sampled by a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import psutil
import ray


@dataclass
class PeakMemory:
    """The peak of one process, in bytes. PSS counts a page by how many map it; `own` no page of a
    file."""

    rss: int = 0
    pss: int = 0
    own: int = 0

    def update(self, process: psutil.Process) -> int:
        """The process's RSS now."""
        now = process.memory_full_info()
        self.rss, self.pss = max(self.rss, now.rss), max(self.pss, now.pss)
        self.own = max(self.own, now.rss - now.shared)
        return int(now.rss)


@dataclass(kw_only=True)
class MemorySampler:
    """Peaks of the driver and, by stage, of the largest worker, while it is entered. Set `stage`
    when one begins."""

    interval_s: float = 1.0
    stage: str = ""
    driver: PeakMemory = field(default_factory=PeakMemory)
    workers: dict[str, PeakMemory] = field(default_factory=dict)
    driver_rss: list[int] = field(default_factory=list)

    def __enter__(self) -> MemorySampler:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def growth(self) -> int:
        """Bytes by which the driver's largest RSS of the second half of the time is above that of
        the first."""
        half = len(self.driver_rss) // 2
        return max(self.driver_rss[half:], default=0) - max(self.driver_rss[:half], default=0)

    def _watch(self) -> None:
        driver, raylet = psutil.Process(), _raylet()
        while True:
            self.driver_rss.append(self.driver.update(driver))
            for worker in _workers(raylet):
                try:
                    self.workers.setdefault(self.stage, PeakMemory()).update(worker)
                except psutil.Error:  # it has just ended
                    continue
            if self._over.wait(self.interval_s):
                return


def _raylet() -> psutil.Process | None:
    """That of the Ray that this driver is connected to: there may be others on the host."""
    mine = f"--gcs-address={ray.get_runtime_context().gcs_address}"
    for process in psutil.process_iter(["name", "cmdline"]):
        if process.info["name"] == "raylet" and mine in (process.info["cmdline"] or []):
            return process
    return None


def _workers(raylet: psutil.Process | None) -> Iterator[psutil.Process]:
    for each in raylet.children() if raylet else ():
        try:
            if (name := each.name()).startswith("ray::") and not name.endswith("Agent"):
                yield each
        except psutil.Error:
            continue
