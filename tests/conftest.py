"""Shared fixtures: temporary stores, one local Ray for the whole session, a shop stocked by two real nights."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

# Before Ray is imported anywhere: unset, a local Ray would turn token authentication on for later clusters.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
from pyarrow import fs

#: For servers on a machine that is busy with other tests.
PATIENT_S = 20.0


@pytest.fixture(scope="session")
def ray_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The session's one local Ray: four logical CPUs whatever the machine has, so that no pipeline starves."""
    import ray

    ray.init(address="local", num_cpus=4, include_dashboard=False, object_store_memory=300 << 20)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def shop_home(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with two published releases of the checkerboard shop, a day apart. Read-only: copy it to change it."""
    from recsys.batch.night import begin, run_night
    from tests.checkerboard import UNTIL, setup

    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("shop")
        patch.setenv("NIGHTSHELF_HOME", str(folder))
        patch.setenv("NIGHTSHELF_COMMIT", "test")
        for until in (UNTIL, UNTIL + timedelta(days=1)):
            run_night(begin(setup(), until), print)
        yield folder


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """host:port of a moto server with the bucket `shop`."""
    pytest.importorskip("moto.server")
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-c", "from moto.server import main; main()", "-p", address.split(":")[1]]
    environment = {**os.environ, "MOTO_ACCOUNT_ID": "123456789012"}
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        create_bucket(address)
        yield address
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a redis-server (or valkey-server) that loses nothing it acknowledged."""
    if not (binary := shutil.which("redis-server") or shutil.which("valkey-server")):
        pytest.skip("no redis-server on the PATH: apt-get install redis-server")
    folder = tmp_path_factory.mktemp("redis")
    with RedisServer(binary, folder) as server:
        yield server.url


class RedisServer:
    """A server of a test's own on a free port, in `folder`; may be killed and started again."""

    def __init__(self, binary: str, folder: Path, host: str = "127.0.0.1") -> None:
        self.binary, self.folder, self.host, self.port = binary, folder, host, free_port(host)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}/0"

    def start(self) -> None:
        options = {"port": self.port, "bind": self.host, "dir": self.folder, "appendonly": "yes", "save": ""}
        options |= {"appendfsync": "always", "daemonize": "no"}
        command = [self.binary, *(part for name, value in options.items() for part in (f"--{name}", str(value)))]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        await_port(f"{self.host}:{self.port}")

    def kill(self) -> None:
        """kill -9."""
        assert self.process
        self.process.kill()
        self.process.wait(10)

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def free_port(host: str = "127.0.0.1") -> int:
    """One that nobody listens on now."""
    with socket.socket() as free:
        free.bind((host, 0))
        return int(free.getsockname()[1])


def await_port(address: str) -> None:
    """Until somebody listens there, for at most a minute."""
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + 60
    while True:
        try:
            return socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def create_bucket(address: str) -> None:
    """Once the server answers, for which it gets a minute."""
    await_port(address)
    fs.S3FileSystem(
        access_key="test",
        secret_key="test",
        region="us-east-1",
        endpoint_override=address,
        scheme="http",
        allow_bucket_creation=True,
    ).create_dir("shop")
