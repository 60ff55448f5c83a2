"""Which Ray a job runs on, without starting one: what a stopped head left behind is not waited
for."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
import ray

from jobs import nightly
from recsys.batch import cluster
from recsys.batch.cluster import connect_ray
from recsys.errors import InputError, RecsysError
from recsys.simulation.processes import free_port


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """What `ray.init` was called with; a head that was stopped left its address behind."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(ray, "init", lambda **options: calls.append(options))
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{free_port()}")
    return calls


@pytest.fixture
def head() -> Iterator[str]:
    """The address of somebody who speaks gRPC."""
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


@pytest.mark.parametrize("address", [None, "", "local"])
def test_without_an_address_a_local_ray_starts_whatever_a_stopped_head_left(
    started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, address: str | None
) -> None:
    if address is not None:
        monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(cluster, "get_num_cpus", lambda: 2)
    assert connect_ray() == "Ray: a local one of 4 logical CPUs, until the job ends"
    assert started == [{"address": "local", "num_cpus": 4}]
    monkeypatch.setattr(cluster, "get_num_cpus", lambda: 16)
    assert "16 logical CPUs" in connect_ray()


def test_a_living_cluster_is_joined(
    started: list[dict[str, Any]], head: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", head)
    assert connect_ray() == f"Ray: the cluster at {head}, as RAY_ADDRESS says"
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    (tmp_path / "ray" / "ray_current_cluster").write_text(head)
    connect_ray()
    assert started == [{"address": head}] * 2


def test_a_dead_cluster_is_a_sentence_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # listens, and is no head
        for address in (
            f"127.0.0.1:{free_port()}",
            "auto",
            f"127.0.0.1:{silent.getsockname()[1]}",
        ):
            monkeypatch.setenv("RAY_ADDRESS", address)
            begun = time.monotonic()
            with pytest.raises(RecsysError, match=r"no Ray answers at 127\.0\.0\.1:\d+"):
                connect_ray()
            assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("http://127.0.0.1:8265", "where `ray job submit` sends jobs"),
        ("head", "give HOST:PORT of a head"),
        ("head:port", "give HOST:PORT of a head"),
        ("head:70000", "give HOST:PORT of a head"),
        ("auto", "no cluster was started on this machine"),
    ],
)
def test_an_address_that_is_none_is_a_sentence(
    address: str, sentence: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "ray" / "ray_current_cluster").unlink()
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(InputError, match=sentence):
        connect_ray()


def test_the_night_says_that_its_cluster_is_dead(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port()}")
    monkeypatch.setattr(sys, "argv", ["nightly", "--setup", "tests.checkerboard:setup"])
    assert nightly.main() == 1
    assert "no Ray answers at 127.0.0.1" in capsys.readouterr().err
