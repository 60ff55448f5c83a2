"""A Ray of a fault test's own: its head and workers are children of the test, on ports and in
folders of their own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from recsys.interfaces import EventStore
from recsys.release.release import Release
from recsys.simulation.load import LoadGenerator, LoadShape, in_background
from recsys.simulation.processes import free_port
from recsys.simulation.traffic import Traffic
from recsys.storage.artifacts import ArtifactStore
from serve import keys
from serve.ingress import ENVIRONMENT
from tests.faults.processes import TrackedProcesses, eventually, track_processes
from tests.faults.shop import ODD, check_release, setup

ROOT = Path(__file__).resolve().parents[2]
KEY = "open sesame"
SIGNED = {"Authorization": f"Bearer {KEY}"}
SHOP = "ServeReplica:shop:Shop"
HEAD = ("--head", "--include-dashboard=false")
#: What `ray start` says of a node that runs.
UP = "Ray runtime started"


@dataclass(kw_only=True)
class RunningShop:
    """A running shop. `home` holds its releases and its event log; `replicas` is what it has when
    it is whole."""

    processes: TrackedProcesses
    home: Path
    url: str
    operator: subprocess.Popen[str]
    environment: dict[str, str]
    replicas: Mapping[str, int] = field(default_factory=dict)

    def status(self) -> dict[str, Any]:
        """As the operator sees it; empty while they cannot."""
        return self.command("?")

    def command(self, word: str) -> dict[str, Any]:
        """The operator's reply."""
        assert self.operator.stdin is not None
        self.operator.stdin.write(f"{word}\n")
        self.operator.stdin.flush()
        return read_status(self.operator)

    def is_whole(self) -> bool:
        """Every replica runs, in a process that lives."""
        alive = {
            name: len(self.processes.find(f"ServeReplica:shop:{name}")) for name in self.replicas
        }
        return alive == self.replicas and self.status().get("replicas") == self.replicas

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/recommend", headers=SIGNED, timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def is_well(self) -> bool:
        return self.is_whole() and self.answers()

    def traffic(self, **shape: Any) -> LoadGenerator:
        """Shoppers who check of each answer that it is of one release."""
        traffic = Traffic.of(Release.open(ArtifactStore(str(self.home)), ODD), items=64)
        calls = traffic.calls()
        return LoadGenerator(
            self.url, calls, LoadShape(**shape), check=check_release, headers=SIGNED
        )

    def sustainable(self) -> float:
        """Requests a second that eight shoppers get answered, each waiting for their answer."""
        with in_background(self.traffic(clients=8, seconds=4)) as load:
            eventually(lambda: load.seconds, "the load ends")
        return len(load.results) / load.seconds

    def log(self) -> EventStore:
        """The shop's event log, as this process sees it: with a spool of its own."""
        where = self.environment | {"NIGHTSHELF_SPOOL": str(self.processes.folder / "reader")}
        with pytest.MonkeyPatch.context() as patch:
            for name in ("NIGHTSHELF_HOME", "NIGHTSHELF_EVENTS", "NIGHTSHELF_SPOOL"):
                if name in where:
                    patch.setenv(name, where[name])
            return setup().event_store()

    def events(self) -> list[str]:
        """The ids in the log, as often as they are there."""
        store = self.log()
        try:
            return [
                each
                for batch in store.interactions(store.end().interactions)
                for each in batch["event_id"].to_pylist()
            ]
        finally:
            store.close()


def node_environment(home: Path, temporary: Path, haproxy: bool) -> dict[str, str]:
    """What Ray's processes find in their environment."""
    key = keys.ApiKey(client="tests", sha256=keys.hash_secret(KEY), roles=("admin",), rate=1e6)
    keys.write_keys(temporary / "keys.json", [key])
    own = {
        "CONFIG_FILE_LOC": "haproxy.cfg",
        "SOCKET_PATH": "admin.sock",
        "METRICS_SOCKET_PATH": "metrics.sock",
    }
    own |= {"SERVER_STATE_BASE": ".", "SERVER_STATE_FILE": "server-state"}
    files = {f"RAY_SERVE_HAPROXY_{name}": str(temporary / "h" / file) for name, file in own.items()}
    ports = {f"RAY_SERVE_HAPROXY_{name}_PORT": str(free_port()) for name in ("METRICS", "STATS")}
    mode = (
        {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", **files, **ports}
        if haproxy
        else {}
    )
    return {
        **mode,
        **ENVIRONMENT,
        "NIGHTSHELF_HOME": str(home),
        "NIGHTSHELF_COMMIT": "test",
        "NIGHTSHELF_KEYS": str(temporary / "keys.json"),
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        "PYTHONUNBUFFERED": "1",
    }


@contextmanager
def one_node(home: Path, folder: Path, haproxy: bool = True, **more: str) -> Iterator[RunningShop]:
    """A head alone, and the shop on it, with `more` in their environment."""
    port, temporary = free_port(), short_folder()
    environment = node_environment(home, temporary, haproxy) | more
    gcs = f"127.0.0.1:{free_port()}"
    words = [
        *HEAD,
        f"--port={gcs.split(':')[1]}",
        "--node-ip-address=127.0.0.1",
        f"--temp-dir={temporary}",
    ]
    try:
        with track_processes(folder) as processes:
            start_node(processes, "head", environment, *words)
            yield deploy_shop(
                processes, home, f"http://127.0.0.1:{port}", environment | {"RAY_ADDRESS": gcs}
            )
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def start_node(
    processes: TrackedProcesses,
    node: str,
    environment: Mapping[str, str],
    *words: str,
    within: tuple[str, ...] = (),
    cpus: int = 4,
) -> subprocess.Popen[str]:
    """A node of Ray, once it is up. On a busy machine Ray gives up on itself after 30 s: then
    again."""
    own = ["--block", f"--num-cpus={cpus}", f"--object-store-memory={100 << 20}"]
    own += [f"--dashboard-agent-listen-port={free_port()}", f"--metrics-export-port={free_port()}"]
    log = processes.folder / f"{node}.log"
    for _ in range(3):
        ups = log.read_text().count(UP) if log.exists() else 0
        ray = processes.start(
            "ray", "start", *words, *own, environment=environment, node=node, within=within
        )
        eventually(partial(_is_decided, ray, log, ups), f"{node} is up", 120)
        if ray.poll() is None:
            return ray
        processes.kill(*processes.find(node=node))
    raise AssertionError(f"Ray does not start: see {log}")


def _is_decided(ray: subprocess.Popen[str], log: Path, ups: int) -> bool:
    return ray.poll() is not None or log.read_text().count(UP) > ups


def deploy_shop(
    processes: TrackedProcesses,
    home: Path,
    url: str,
    environment: dict[str, str],
    within: tuple[str, ...] = (),
) -> RunningShop:
    operator = start_operator(processes, url, environment, within)
    status = read_status(operator)
    assert status, f"the shop was not deployed: see {processes.folder}/operator.log"
    return RunningShop(
        processes=processes,
        home=home,
        url=url,
        operator=operator,
        environment=environment,
        replicas=status["replicas"],
    )


def start_operator(
    processes: TrackedProcesses,
    url: str,
    environment: Mapping[str, str],
    within: tuple[str, ...] = (),
) -> subprocess.Popen[str]:
    """An operator, who deploys what is not there yet."""
    words = (sys.executable, "-m", "tests.faults.operator", url.rpartition(":")[2], "EveryNode")
    return processes.start(
        *words, environment=environment, node="operator", within=within, piped=True
    )


def read_status(operator: subprocess.Popen[str]) -> dict[str, Any]:
    """The operator's next line, not Ray's; empty when their process has ended."""
    assert operator.stdout is not None
    for line in operator.stdout:
        if line.startswith("{"):
            status: dict[str, Any] = json.loads(line)
            return status
    return {}


def short_folder() -> Path:
    """A folder for Ray: the paths of its sockets must have less than 108 characters, HAProxy's less
    than 98."""
    return Path(tempfile.mkdtemp(prefix="ns", dir="/tmp"))


def listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True
