"""A process inside a fault test's Ray that deploys the shop and then tells, a line of JSON for each line it reads, how
it stands: `python -m tests.faults.operator PORT LOCATION`."""

from __future__ import annotations

import json
import sys
from typing import Any

import ray
from ray import serve

from serve.app import compose
from tests.faults.shop import setup


def main() -> None:
    port, location = int(sys.argv[1]), sys.argv[2]
    ray.init(log_to_driver=False)
    serve.start(proxy_location=location, http_options={"host": "0.0.0.0", "port": port, "request_timeout_s": 10})
    if "shop" not in serve.status().applications:
        serve.run(compose(setup()), name="shop", route_prefix="/")
    tell()
    for _ in sys.stdin:
        tell()


def tell() -> None:
    sys.stdout.write(f"{json.dumps(stands())}\n")
    sys.stdout.flush()


def stands() -> dict[str, Any]:
    """Running replicas by deployment, and proxies by how they are."""
    status = serve.status()
    application = status.applications["shop"]
    replicas = {name: each.replica_states.get("RUNNING", 0) for name, each in application.deployments.items()}
    return {"status": application.status.value, "replicas": replicas, "proxies": list(status.proxies.values())}


if __name__ == "__main__":
    main()
