"""Processes on this machine: free ports, child processes that end with their block, and waiting for
a server."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx

from recsys.errors import RecsysError

ROOT = Path(__file__).resolve().parents[2]
#: Several replicas answer in turn: so many answers in a row are taken to be of all.
ANSWERS_IN_A_ROW = 10


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def job_command(job: str, *arguments: object) -> list[str]:
    """The command line of `python -m jobs.<job>` with this interpreter."""
    return [sys.executable, "-m", f"jobs.{job}", *map(str, arguments)]


def run_command(
    command: Sequence[str], env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs it in the root of the checkout, with `env` added to the environment, and captures its
    output."""
    environment = {**os.environ, **(env or {})}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def stream_command(command: Sequence[str]) -> Iterator[str]:
    """The lines of its output as they come, stderr among them. Raises RecsysError where it
    fails."""
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        yield from process.stdout or ()
    if process.returncode:
        words = " ".join(command)
        raise RecsysError(f"{words} ended with exit code {process.returncode}: its output says why")


@contextmanager
def child_process(
    command: Sequence[str],
    log: IO[str],
    *,
    env: Mapping[str, str] | None = None,
    grace_s: float = 60.0,
) -> Iterator[subprocess.Popen[str]]:
    """A process that is terminated when the block ends, however it ends, and killed with all its
    group where that takes longer than `grace_s`."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        stdout=log,
        stderr=log,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def poll(every_s: float, limit_s: float, error: str) -> Iterator[None]:
    """Yields every `every_s` seconds; raises RecsysError with this sentence after `limit_s`."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        yield
        time.sleep(every_s)
    raise RecsysError(error)


def wait_for_health(
    url: str,
    version: str | None = None,
    *,
    limit_s: float = 60.0,
    is_running: Callable[[], bool] = lambda: True,
) -> None:
    """Waits until successive answers of /healthz are well, and of release `version` if one is
    given. Raises RecsysError after `limit_s`, or when the server is no longer running."""
    release = f"does not serve release {version}" if version else "does not answer"
    successes = 0
    for _ in poll(0.1, limit_s, f"{url} {release} after {limit_s:.0f} s: look at its log"):
        successes = successes + 1 if _is_healthy(url, version) else 0
        if successes == ANSWERS_IN_A_ROW:
            return
        if not is_running():
            raise RecsysError(f"{url} {release}: its process has ended")


def _is_healthy(url: str, version: str | None) -> bool:
    try:
        health = httpx.get(f"{url}/healthz", timeout=10)
    except httpx.HTTPError:
        return False
    return health.status_code == 200 and version in (None, health.json()["release"])
