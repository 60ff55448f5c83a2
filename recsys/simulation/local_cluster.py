"""A Ray head on 127.0.0.1 with its dashboard: jobs are submitted to it, and applications deployed,
by the command line of Ray."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from recsys.errors import RecsysError
from recsys.evaluation.results import say
from recsys.simulation.processes import (
    child_process,
    free_port,
    is_listening,
    poll,
    stream_command,
)

DASHBOARD = "http://127.0.0.1:8265"
PORTS = {6379: "Ray's head", 8265: "Ray's dashboard", 8000: "Ray Serve"}


@dataclass(frozen=True)
class LocalCluster:
    """A running head, reached at its dashboard with the token of $RAY_AUTH_TOKEN."""

    token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def submit(self, command: Sequence[str]) -> None:
        """`ray job submit`, as a scheduler would start a job; its output is passed through."""
        _stream(
            ["ray", "job", "submit", "--address", DASHBOARD, "--working-dir", ".", "--", *command]
        )

    def deploy(self, config: str, application: str) -> None:
        """`serve deploy`, and waits until the application runs: the command returns before it
        does."""
        _stream(["serve", "deploy", "--address", DASHBOARD, config])
        url = f"{DASHBOARD}/api/serve/applications/"
        for _ in poll(1.0, 120, "the application is not running after 120 s: see the dashboard"):
            applications = httpx.get(url, headers=self.headers).json()["applications"]
            status = applications.get(application, {})
            if status.get("status") == "RUNNING":
                return
            if status.get("status") == "DEPLOY_FAILED":
                raise RecsysError(f"the application cannot be deployed: {status.get('message')}")

    def accepts_jobs(self) -> bool:
        """Whether a job can be submitted: the dashboard's agent starts seconds after its pages."""
        try:
            url, job = f"{DASHBOARD}/api/jobs/", {"entrypoint": "true"}
            response = httpx.post(url, json=job, headers=self.headers, timeout=5)
        except httpx.HTTPError:
            return False
        return response.status_code == 200


@contextmanager
def ray_head(log_path: Path, token: str) -> Iterator[LocalCluster]:
    """A head that ends with the block, however it ends. Raises RecsysError where a port is taken or
    Ray does not start."""
    for port, owner in PORTS.items():
        if is_listening(port):
            raise RecsysError(
                f"port {port} of {owner} is taken: stop what runs there (ray stop, or make serve)"
            )
    cluster = LocalCluster(token)
    with log_path.open("w") as log, child_process(_head_command(), log, grace_s=30) as process:
        for _ in poll(0.5, 90, f"Ray's dashboard does not answer: see {log_path}"):
            if process.poll() is not None:
                raise RecsysError(f"ray start ended ({process.returncode}): see {log_path}")
            if cluster.accepts_jobs():
                break
        yield cluster


def _head_command() -> list[str]:
    # Logical CPUs: on two cores Ray Data needs more slots than there are cores.
    cpus = max(4, os.cpu_count() or 4)
    return [
        *("ray", "start", "--head", "--block", f"--num-cpus={cpus}"),
        *("--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1"),
        f"--object-store-memory={1 << 30}",
        # The agent's own 52365 may be another Ray's, and then no job runs.
        f"--dashboard-agent-listen-port={free_port('0.0.0.0')}",
    ]


def _stream(command: Sequence[str]) -> None:
    """Passes the output through, but for what Ray says about the upload."""
    for line in stream_command(command):
        if "packaging.py:" not in line and line.strip():
            say(f"    {line.rstrip()}")
