"""Faults of three hosts with addresses of their own, a head without replicas and two workers:
network namespaces on one bridge. The event log is a Redis on a fourth.

`python -m tests.faults.nodes HOME FOLDER` runs in a network and a process namespace of its own,
which `rows` makes: so nothing of this machine's network is touched, and all of it ends with that
process."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.faults.cluster import (
    HEAD,
    SHOP,
    Day,
    deployed,
    heard,
    hired,
    short_folder,
    started,
    surroundings,
)
from tests.faults.processes import Marked, eventually, marked
from tests.faults.scenarios import Row, store_killed, under_traffic
from tests.redis_server import RedisServer

APART = ("unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
#: RFC 2544 keeps these addresses for tests.
NETWORK = "198.18.0"
GCS, PORT = f"{NETWORK}.11:6379", 8000


def impossible() -> str:
    """Why this machine cannot have namespaces of its own; empty where it can."""
    if shutil.which("ip") is None:
        return "there is no ip here: apt-get install iproute2"
    tried = subprocess.run(
        [*APART, "ip", "link", "add", "bridge", "type", "bridge"], capture_output=True, text=True
    )
    return (
        f"network namespaces are not permitted here: {tried.stderr.strip()}"
        if tried.returncode
        else ""
    )


def rows(home: Path, folder: Path) -> Iterator[Row]:
    """One row a fault, as each is over. Raises AssertionError with where the logs are when one does
    not end well."""
    command = [*APART, sys.executable, "-m", "tests.faults.nodes", str(home), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):
                yield Row(**json.loads(line))
    assert process.returncode == 0, f"the hosts came to an end: see above, and the logs in {folder}"


@dataclass(frozen=True)
class Host:
    """`within` are the words that put a process on it; `link` is its end of the cable."""

    name: str
    address: str
    within: tuple[str, ...]
    link: str

    def plug(self, state: str) -> None:
        """up or down."""
        run("ip", "link", "set", self.link, state)


def run(*words: str) -> None:
    subprocess.run(words, check=True)


def host(processes: Marked, name: str, number: int) -> Host:
    """A new one on the bridge."""
    holder = processes.start("unshare", "--net", "sleep", "infinity", node=f"{name}-network")
    within, link = ("nsenter", "-t", str(holder.pid), "-n"), f"to-{name}"
    ours = Path("/proc/self/ns/net").readlink()
    eventually(
        lambda: Path(f"/proc/{holder.pid}/ns/net").readlink() != ours, f"{name} has a network"
    )
    run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", str(holder.pid))
    run("ip", "link", "set", link, "master", "bridge", "up")
    address = f"{NETWORK}.{number}"
    run(*within, "ip", "address", "add", f"{address}/24", "dev", "eth0")
    for device in ("eth0", "lo"):
        run(*within, "ip", "link", "set", device, "up")
    return Host(name, address, within, link)


@dataclass
class Cluster:
    """Ray's nodes on the hosts, and the shop on them: `day` is asked through the first worker, as a
    load balancer would once it had noticed. `log` is where events go."""

    processes: Marked
    home: Path
    temporary: Path
    hosts: dict[str, Host]
    log: str
    day: Day = field(init=False)

    def environment(self, name: str) -> dict[str, str]:
        """What a node's processes find in theirs; each host has a spool of its own."""
        own = self.temporary / name
        own.mkdir(exist_ok=True)
        log = {"NIGHTSHELF_EVENTS": self.log, "NIGHTSHELF_SPOOL": str(own)}
        gcs = {"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": str(self.temporary / "gcs")}
        return surroundings(self.home, own, haproxy=True) | log | (gcs if name == "head" else {})

    def start(self, name: str) -> None:
        at = self.hosts[name]
        # Ray would take the workers, which it sees on this machine, for a cluster with a head.
        (self.temporary / "ray_current_cluster").unlink(missing_ok=True)
        role = (
            [*HEAD, "--port=6379", f"--temp-dir={self.temporary}"]
            if name == "head"
            else [f"--address={GCS}"]
        )
        words = *role, f"--node-ip-address={at.address}"
        started(
            self.processes,
            name,
            self.environment(name),
            *words,
            within=at.within,
            cpus=0 if name == "head" else 4,
        )

    def stop(self, name: str) -> None:
        """kill -9 of all that runs there."""
        while pids := self.processes.find(node=name):
            self.processes.kill(*pids)

    def deploy(self) -> None:
        """By an operator on the first worker."""
        one = self.hosts["one"]
        environment = self.environment("one") | {"RAY_ADDRESS": GCS}
        self.day = deployed(
            self.processes, self.home, f"http://{one.address}:{PORT}", environment, one.within
        )

    def hire(self) -> None:
        """An operator in the place of the one before."""
        self.day.operator.kill()
        self.day.operator = hired(
            self.processes, self.day.url, self.day.environment, self.hosts["one"].within
        )
        heard(self.day.operator)

    def whole(self, without: str = "") -> bool:
        """All replicas run, none of them on that host, and there are answers."""
        living = sum(self.replicas_on(name) for name in self.hosts if name != without)
        wanted = self.day.replicas
        return (
            living == wanted["Shop"]
            and self.day.stands().get("replicas") == wanted
            and self.day.answers()
        )

    def spread(self) -> None:
        """A replica on each worker, by an update that places them anew: they stay where they are
        otherwise."""
        for _ in range(3):
            if self.replicas_on("two"):
                return
            self.day.asked("roll")
        raise AssertionError("Serve puts no replica on the second worker")

    def replicas_on(self, name: str) -> int:
        return len(self.processes.find(SHOP, node=name))


@contextmanager
def three_hosts(home: Path, folder: Path) -> Iterator[tuple[Cluster, RedisServer]]:
    """The shop's two replicas on two workers, each host with an ingress of its own."""
    temporary = short_folder()
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "bridge", "type", "bridge")
    run("ip", "address", "add", f"{NETWORK}.1/24", "dev", "bridge")
    run("ip", "link", "set", "bridge", "up")
    server = RedisServer(temporary, f"{NETWORK}.1")
    server.start()
    try:
        with marked(folder) as processes:
            places = {
                name: host(processes, name, 11 + at)
                for at, name in enumerate(("head", "one", "two"))
            }
            cluster = Cluster(processes, home, temporary, places, server.url)
            for name in places:
                cluster.start(name)
            cluster.deploy()
            yield cluster, server
    finally:
        server.kill()
        shutil.rmtree(temporary, ignore_errors=True)


def raylet_killed(cluster: Cluster, rate: float) -> Row:
    """kill -9 of a worker's raylet, whose replicas die with it; a new one takes its place when they
    run elsewhere."""
    victim = cluster.processes.find("/raylet/raylet", node="two")

    def breaks() -> None:
        cluster.processes.kill(*victim)
        eventually(lambda: not cluster.replicas_on("two"), "its replicas are gone")

    told = under_traffic(
        "kill -9 of a worker's raylet", cluster.day, rate, breaks, lambda: cluster.whole("two")
    )
    cluster.stop("two")
    cluster.start("two")
    return told


def cut_off(cluster: Cluster, rate: float) -> Row:
    """The cable of a worker with a replica is pulled; it is back when another replica has taken
    over."""
    cable = cluster.hosts["two"].plug
    told = under_traffic(
        "a worker is cut off",
        cluster.day,
        rate,
        lambda: cable("down"),
        lambda: cluster.whole("two"),
    )
    cable("up")
    cluster.stop("two")  # Ray has ended there, or is about to: it was declared dead
    cluster.start("two")
    return told


def head_lost(cluster: Cluster, rate: float, down_s: float = 15.0) -> Row:
    """kill -9 of all that runs on the head, which is started again over the state that it wrote
    (embedded RocksDB)."""

    def breaks() -> None:
        cluster.stop("head")
        time.sleep(down_s)
        cluster.start("head")
        cluster.hire()

    return under_traffic(
        "the head is lost, and comes back", cluster.day, rate, breaks, cluster.whole
    )


def main() -> None:
    home, folder = map(Path, sys.argv[1:])
    with three_hosts(home, folder) as (cluster, server):
        eventually(cluster.whole, "the shop answers")
        rate = max(5.0, cluster.day.sustainable() / 3)
        for told in (
            lambda: store_killed(cluster.day, server, rate),
            lambda: raylet_killed(cluster, rate),
            lambda: cut_off(cluster, rate),
            lambda: head_lost(cluster, rate),
        ):
            cluster.spread()
            eventually(cluster.whole, "the shop is whole", 180)
            sys.stdout.write(json.dumps(asdict(told())) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
