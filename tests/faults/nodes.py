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
    RunningShop,
    deploy_shop,
    node_environment,
    read_status,
    short_folder,
    start_node,
    start_operator,
)
from tests.faults.processes import TrackedProcesses, eventually, track_processes
from tests.faults.scenarios import Row, kill_store, under_traffic
from tests.redis_server import RedisServer

APART = ("unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
#: RFC 2544 keeps these addresses for tests.
NETWORK = "198.18.0"
GCS, PORT = f"{NETWORK}.11:6379", 8000


def why_unsupported() -> str:
    """Why this machine cannot have namespaces of its own; empty where it can."""
    if shutil.which("ip") is None:
        return "there is no ip here: apt-get install iproute2"
    attempt = subprocess.run(
        [*APART, "ip", "link", "add", "bridge", "type", "bridge"], capture_output=True, text=True
    )
    return (
        f"network namespaces are not permitted here: {attempt.stderr.strip()}"
        if attempt.returncode
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
        run(f"ip link set {self.link} {state}")


def run(command: str, *within: str) -> None:
    subprocess.run([*within, *command.split()], check=True)


def host(processes: TrackedProcesses, name: str, number: int) -> Host:
    """A new one on the bridge."""
    holder = processes.start("unshare", "--net", "sleep", "infinity", node=f"{name}-network")
    within, link = ("nsenter", "-t", str(holder.pid), "-n"), f"to-{name}"
    ours = Path("/proc/self/ns/net").readlink()
    eventually(
        lambda: Path(f"/proc/{holder.pid}/ns/net").readlink() != ours, f"{name} has a network"
    )
    run(f"ip link add {link} type veth peer name eth0 netns {holder.pid}")
    run(f"ip link set {link} master bridge up")
    address = f"{NETWORK}.{number}"
    run(f"ip address add {address}/24 dev eth0", *within)
    for device in ("eth0", "lo"):
        run(f"ip link set {device} up", *within)
    return Host(name, address, within, link)


@dataclass(kw_only=True)
class Cluster:
    """Ray's nodes on the hosts, and the shop on them: `shop` is reached through the first worker,
    as a load balancer would once it had noticed. `log` is where events go."""

    processes: TrackedProcesses
    home: Path
    temporary: Path
    hosts: dict[str, Host]
    log: str
    shop: RunningShop = field(init=False)

    def environment(self, name: str) -> dict[str, str]:
        """What a node's processes find in theirs; each host has a spool of its own."""
        own = self.temporary / name
        own.mkdir(exist_ok=True)
        log = {"NIGHTSHELF_EVENTS": self.log, "NIGHTSHELF_SPOOL": str(own)}
        gcs = {"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": str(self.temporary / "gcs")}
        return (
            node_environment(self.home, own, haproxy=True) | log | (gcs if name == "head" else {})
        )

    def start(self, name: str) -> None:
        host = self.hosts[name]
        # Ray would take the workers, which it sees on this machine, for a cluster with a head.
        (self.temporary / "ray_current_cluster").unlink(missing_ok=True)
        role = (
            [*HEAD, "--port=6379", f"--temp-dir={self.temporary}"]
            if name == "head"
            else [f"--address={GCS}"]
        )
        words = *role, f"--node-ip-address={host.address}"
        start_node(
            self.processes,
            name,
            self.environment(name),
            *words,
            within=host.within,
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
        self.shop = deploy_shop(
            self.processes, self.home, f"http://{one.address}:{PORT}", environment, one.within
        )

    def replace_operator(self) -> None:
        """An operator in the place of the one before."""
        self.shop.operator.kill()
        self.shop.operator = start_operator(
            self.processes, self.shop.url, self.shop.environment, self.hosts["one"].within
        )
        read_status(self.shop.operator)

    def whole(self, without: str = "") -> bool:
        """All replicas run, none of them on that host, and there are answers."""
        living = sum(self.replicas_on(name) for name in self.hosts if name != without)
        expected = self.shop.replicas
        return (
            living == expected["Shop"]
            and self.shop.status().get("replicas") == expected
            and self.shop.answers()
        )

    def spread(self) -> None:
        """A replica on each worker, by an update that places them anew: they stay where they are
        otherwise."""
        for _ in range(3):
            if self.replicas_on("two"):
                return
            self.shop.command("roll")
        raise AssertionError("Serve puts no replica on the second worker")

    def replicas_on(self, name: str) -> int:
        return len(self.processes.find(SHOP, node=name))


@contextmanager
def three_hosts(home: Path, folder: Path) -> Iterator[tuple[Cluster, RedisServer]]:
    """The shop's two replicas on two workers, each host with an ingress of its own."""
    temporary = short_folder()
    run("ip link set lo up")
    run("ip link add bridge type bridge")
    run(f"ip address add {NETWORK}.1/24 dev bridge")
    run("ip link set bridge up")
    server = RedisServer(temporary, f"{NETWORK}.1")
    server.start()
    try:
        with track_processes(folder) as processes:
            places = {
                name: host(processes, name, 11 + at)
                for at, name in enumerate(("head", "one", "two"))
            }
            cluster = Cluster(
                processes=processes, home=home, temporary=temporary, hosts=places, log=server.url
            )
            for name in places:
                cluster.start(name)
            cluster.deploy()
            yield cluster, server
    finally:
        server.kill()
        shutil.rmtree(temporary, ignore_errors=True)


def kill_raylet(cluster: Cluster, rate: float) -> Row:
    """kill -9 of a worker's raylet, whose replicas die with it; a new one takes its place when they
    run elsewhere."""
    victim = cluster.processes.find("/raylet/raylet", node="two")

    def breaks() -> None:
        cluster.processes.kill(*victim)
        eventually(lambda: not cluster.replicas_on("two"), "its replicas are gone")

    row = under_traffic(
        "kill -9 of a worker's raylet", cluster.shop, rate, breaks, lambda: cluster.whole("two")
    )
    cluster.stop("two")
    cluster.start("two")
    return row


def unplug_worker(cluster: Cluster, rate: float) -> Row:
    """The cable of a worker with a replica is pulled; it is back when another replica has taken
    over."""
    cable = cluster.hosts["two"].plug
    row = under_traffic(
        "a worker is cut off",
        cluster.shop,
        rate,
        lambda: cable("down"),
        lambda: cluster.whole("two"),
    )
    cable("up")
    cluster.stop("two")  # Ray has ended there, or is about to: it was declared dead
    cluster.start("two")
    return row


def lose_head(cluster: Cluster, rate: float, down_s: float = 15.0) -> Row:
    """kill -9 of all that runs on the head, which is started again over the state that it wrote
    (embedded RocksDB)."""

    def breaks() -> None:
        cluster.stop("head")
        time.sleep(down_s)
        cluster.start("head")
        cluster.replace_operator()

    return under_traffic(
        "the head is lost, and comes back", cluster.shop, rate, breaks, cluster.whole
    )


def main() -> None:
    home, folder = map(Path, sys.argv[1:])
    with three_hosts(home, folder) as (cluster, server):
        eventually(cluster.whole, "the shop answers")
        rate = max(5.0, cluster.shop.sustainable() / 3)
        for fault in (
            lambda: kill_store(cluster.shop, server, rate),
            lambda: kill_raylet(cluster, rate),
            lambda: unplug_worker(cluster, rate),
            lambda: lose_head(cluster, rate),
        ):
            cluster.spread()
            eventually(cluster.whole, "the shop is whole", 180)
            sys.stdout.write(json.dumps(asdict(fault())) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
