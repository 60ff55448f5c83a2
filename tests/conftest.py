"""Shared fixtures: temporary stores, one local Ray for the whole session, a shop stocked by two
real nights."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

# Before Ray is imported anywhere: unset, a local Ray would turn token authentication on for later
# clusters.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
from pyarrow import fs

from recsys.simulation.processes import free_port
from tests.redis_server import RedisServer

#: Whatever does not choose a home of its own must not find the developer's, nor another test's.
NO_HOME = tempfile.TemporaryDirectory(prefix="nightshelf-tests-")
os.environ["NIGHTSHELF_HOME"] = NO_HOME.name


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "xdist_group: runs in one process with its group")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Under xdist one process has the Ray and all tests that need it; others keep to their file."""
    for item in items:
        shares_ray = item.get_closest_marker("ray") or "ray_session" in item.fixturenames
        item.add_marker(pytest.mark.xdist_group("ray" if shares_ray else item.path.name))


@pytest.fixture(scope="session")
def ray_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The session's one local Ray: four logical CPUs whatever the machine has, so that no pipeline
    starves."""
    import ray

    ray.init(address="local", num_cpus=4, include_dashboard=False, object_store_memory=300 << 20)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def shop_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with two published releases of the checkerboard shop, a day apart, made without Ray.
    Read-only: copy it to change it."""
    from recsys.batch import night
    from recsys.batch.planning import begin
    from recsys.events.sqlite import SqliteEventStore
    from tests.checkerboard import UNTIL, setup
    from tests.in_process import in_this_process

    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("shop")
        patch.setenv("NIGHTSHELF_HOME", str(folder))
        patch.setenv("NIGHTSHELF_COMMIT", "test")
        with patch.context() as only_here:  # other nights of the session have their Ray
            only_here.setattr(night, "run_stages", in_this_process)
            for until in (UNTIL, UNTIL + timedelta(days=1)):
                night.run_night(begin(setup(), until), print)
    yield folder
    written = SqliteEventStore(folder / "events.sqlite").counts()
    assert not any(written.values()), f"a test wrote into the home that all share: {written}"


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """host:port of a moto server with the bucket `shop`."""
    pytest.importorskip("moto.server")
    address = f"127.0.0.1:{free_port()}"
    command = [
        sys.executable,
        "-c",
        "from moto.server import main; main()",
        "-p",
        address.split(":")[1],
    ]
    environment = {**os.environ, "MOTO_ACCOUNT_ID": "123456789012"}
    server = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        create_bucket(address)
        yield address
    finally:
        server.terminate()
        server.wait(10)


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


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis server of the session's own, on a free port, that has on disk what it
    acknowledged."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server.url
    server.kill()


@pytest.fixture(autouse=True)
def _heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve, once it ran in this process, keeps its logger's lines from everybody else, caplog
    too."""
    monkeypatch.setattr(logging.getLogger("ray.serve"), "propagate", True)
    monkeypatch.setattr(logging.getLogger("ray.serve"), "disabled", False)
