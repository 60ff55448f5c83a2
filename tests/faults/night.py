"""A night whose workers are killed: it must publish what an undisturbed one publishes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from tests.faults.cluster import node_environment
from tests.faults.processes import TrackedProcesses, eventually, track_processes
from tests.faults.scenarios import Row
from tests.faults.shop import EVEN, UNTIL

#: A task, an actor, another: whatever of the night works when it is looked for.
KILLS = 6
#: Titles of processes that do the night's work; idle ones have no task in theirs.
WORK = ("ray::Map", "ray::_Map", "ray::ReadRange", "ray::MapWorker")


def workers_killed(home: Path, folder: Path) -> Row:
    """kill -9 of one worker after the other while the night of the release "even" is made again,
    elsewhere.

    A row without requests; the note says whether both releases have the same files.
    """
    again, own = folder / "again", folder / "night"
    own.mkdir()
    environment = node_environment(again, own, haproxy=False) | {"RAY_ADDRESS": "local"}
    words = "--setup", "tests.faults.shop:setup", "--until", UNTIL.isoformat(), "--version", EVEN
    with track_processes(folder) as processes:
        night = processes.start(
            sys.executable,
            "-m",
            "jobs.nightly",
            *words,
            environment=environment,
            node="killed-night",
        )
        began, killed = time.monotonic(), _kill_workers(processes, night)
        eventually(lambda: night.poll() is not None, "the night ends", 300)
        whole_s = time.monotonic() - began
    assert night.returncode == 0, f"the night failed: see {folder}/killed-night.log"
    same = "the same" if files(again) == files(home) else "OTHER"
    return Row(
        fault="kill -9 of the night's workers",
        requests=0,
        failed=0,
        events=0,
        lost=0,
        twice=0,
        whole_s=round(whole_s, 1),
        failures={},
        note=f"{killed} killed, {same} files",
    )


def _kill_workers(processes: TrackedProcesses, night: subprocess.Popen[bytes]) -> int:
    """Kills a worker a second, until the night ends or KILLS are killed; how many."""
    killed = 0
    while night.poll() is None and killed < KILLS:
        if working := [pid for title in WORK for pid in processes.find(title)]:
            processes.kill(max(working))
            killed += 1
            time.sleep(1)
        time.sleep(0.02)
    return killed


def files(home: Path) -> dict[str, str]:
    """Checksums of the release "even" by name, without those that hold times."""
    manifest = json.loads((home / "releases" / EVEN / "manifest.json").read_bytes())
    return {
        name: checksum
        for name, checksum in manifest["files"].items()
        if not name.endswith((".html", ".json"))
    }
