"""The Ray that a job runs on: the living cluster that $RAY_ADDRESS names, or one of the job's own.

Ray itself would read the address that the last `ray start` of this machine left behind, and wait
minutes for a cluster that was stopped since."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path
from typing import Any

import grpc
import ray
from ray._private.utils import get_num_cpus

from recsys.errors import InputError, StoreDownError

#: A living head answers in milliseconds, on a busy machine in a second or two.
TIMEOUT_S = 10.0
#: Ray Data needs more slots than a laptop has cores: with two of them pipelines wait for ever.
MIN_CPUS = 4


def connect_ray() -> str:
    """Joins the cluster of $RAY_ADDRESS, or starts a local Ray that ends with this process where it
    is unset, empty or `local`; says which, in a line.

    `auto` is the cluster that was started last on this machine. Raises InputError for an address
    that is none, StoreDownError within seconds where nothing answers there."""
    if ray.is_initialized():
        return "Ray: the one that this process is connected to"
    name = os.environ.get("RAY_ADDRESS", "").strip()
    if name in ("", "local"):
        return start_local_ray()
    address = _last_started() if name == "auto" else name
    _require_alive(address)
    ray.init(address=address)
    return f"Ray: the cluster at {address}, as RAY_ADDRESS says"


def start_local_ray(**options: Any) -> str:
    """A Ray of this process's own, whatever else runs on the machine; `options` are those of
    `ray.init`."""
    cpus = max(MIN_CPUS, int(get_num_cpus()))
    ray.init(address="local", **{"num_cpus": cpus, **options})
    return f"Ray: a local one of {options.get('num_cpus', cpus)} logical CPUs, until the job ends"


def _last_started() -> str:
    folder = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    try:
        return (Path(folder) / "ray" / "ray_current_cluster").read_text().strip()
    except FileNotFoundError:
        raise InputError(
            "RAY_ADDRESS is 'auto', but no cluster was started on this machine: unset it for a "
            "local Ray, or give HOST:PORT of a head"
        ) from None


def _require_alive(address: str) -> None:
    """Raises InputError or StoreDownError unless a Ray head answers there."""
    scheme, _, place = address.rpartition("://")
    if scheme not in ("", "ray"):
        raise InputError(
            f"RAY_ADDRESS is {address!r}, where `ray job submit` sends jobs: start the job with "
            "it, or give HOST:PORT of the head (6379 by default), or unset it for a local Ray"
        )
    host, _, port = place.rpartition(":")
    if not (host and port.isdigit() and int(port) < 1 << 16):
        raise InputError(
            f"RAY_ADDRESS is {address!r}: give HOST:PORT of a head, or unset it for a local Ray"
        )
    if not _answers(host.strip("[]"), int(port)):
        raise StoreDownError(
            f"no Ray answers at {address}, which RAY_ADDRESS names: start it (ray start --head), "
            "give the address of one that runs, or unset RAY_ADDRESS for a local Ray"
        )


def _answers(host: str, port: int) -> bool:
    """Whether somebody speaks gRPC there; under TLS, whether anybody listens."""
    try:
        socket.create_connection((host, port), timeout=TIMEOUT_S).close()
    except OSError:
        return False
    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        return True
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    with grpc.insecure_channel(place, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=TIMEOUT_S)
        except grpc.FutureTimeoutError:
            return False
    return True
