"""A process inside a fault test's Ray that deploys the shop and then tells, a line of JSON for each
line it reads, its status: `python -m tests.faults.operator PORT LOCATION`. After the line "roll"
it has another setup."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Any

import ray
from ray import serve

from recsys.config import Setup
from serve.app import compose
from tests.faults.shop import setup


def main() -> None:
    port, location = int(sys.argv[1]), sys.argv[2]
    ray.init(log_to_driver=False)
    start(port, location)
    shop = setup()
    if "shop" not in serve.status().applications:
        deploy(shop)
    print_status()
    for line in sys.stdin:
        if line.strip() == "roll":
            day = replace(shop.day, search_ms=shop.day.search_ms + 1)
            shop = replace(shop, day=day)
            deploy(shop)
        print_status()


def start(port: int, location: str) -> None:
    """On a busy machine Serve gives up on an ingress that is slow to start: then again."""
    for tries in range(3):
        try:
            options = {"host": "0.0.0.0", "port": port, "request_timeout_s": 10}
            return serve.start(proxy_location=location, http_options=options)
        except ray.exceptions.RayError:
            if tries == 2:
                raise
    return None


def deploy(shop: Setup) -> None:
    """Over what is there, replica by replica."""
    serve.run(compose(shop), name="shop", route_prefix="/")


def print_status() -> None:
    sys.stdout.write(f"{json.dumps(status())}\n")
    sys.stdout.flush()


def status() -> dict[str, Any]:
    """Running replicas by deployment, and proxies by how they are."""
    status = serve.status()
    application = status.applications["shop"]
    replicas = {
        name: each.replica_states.get("RUNNING", 0)
        for name, each in application.deployments.items()
    }
    return {
        "status": application.status.value,
        "replicas": replicas,
        "proxies": list(status.proxies.values()),
    }


if __name__ == "__main__":
    main()
