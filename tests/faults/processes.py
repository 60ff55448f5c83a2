"""Processes that bear a mark in their environment, which all that they start inherits: found by
title, killed for good, and all gone when the block ends, whoever their parents are by then."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

MARK, NODE = "NIGHTSHELF_FAULTS", "NIGHTSHELF_FAULTS_NODE"


def eventually(check: Callable[[], object], what: str, seconds: float = 60) -> float:
    """Waits until the check holds; how many seconds that took."""
    began = time.monotonic()
    while not check():
        assert time.monotonic() < began + seconds, f"not so after {seconds:g} s: {what}"
        time.sleep(0.05)
    return time.monotonic() - began


class TrackedProcesses:
    """Starts processes in `folder`, where their output goes, and finds all that came of them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.mark = folder, uuid.uuid4().hex

    def start(
        self,
        *words: str,
        environment: Mapping[str, str] | None = None,
        node: str = "",
        within: tuple[str, ...] = (),
        piped: bool = False,
    ) -> subprocess.Popen[str]:
        """`within` are words that put it somewhere, as `nsenter` does; its stdout and stdin are
        pipes, or both of its outputs go to the node's log."""
        # Ray would write a process's title over its environment.
        marks = {MARK: self.mark, NODE: node, "SPT_NOENV": "1"}
        with (self.folder / f"{node or 'all'}.log").open("a") as log:
            return subprocess.Popen(
                [*within, *words],
                env={**os.environ, **(environment or {}), **marks},
                stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
                stdout=subprocess.PIPE if piped else log,
                stderr=log,
                text=True,
                start_new_session=True,
            )

    def find(self, title: str = "", node: str | None = None) -> list[int]:
        """The ids of living processes with that in their title, of one node or of all, youngest
        last."""
        marks = [f"{MARK}={self.mark}", *([f"{NODE}={node}"] if node is not None else [])]
        pids = [
            pid
            for pid in map(int, filter(str.isdigit, os.listdir("/proc")))
            if _matches(pid, title, marks)
        ]
        return sorted(pids)

    def kill(self, *pids: int) -> None:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def close(self) -> None:
        while pids := self.find():
            self.kill(*pids)
            time.sleep(0.05)


@contextmanager
def track_processes(folder: Path) -> Iterator[TrackedProcesses]:
    processes = TrackedProcesses(folder)
    try:
        yield processes
    finally:
        processes.close()


def _matches(pid: int, title: str, marks: list[str]) -> bool:
    try:
        environment = (
            Path(f"/proc/{pid}/environ").read_bytes().decode("utf-8", "replace").split("\0")
        )
        if not set(marks) <= set(environment):
            return False
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return (
            state != "Z"
            and title in Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        )
    except OSError:  # it has ended meanwhile
        return False


def resident_mib(pid: int) -> float:
    """Memory that this process alone holds, without what it maps of files."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    return 0.0
