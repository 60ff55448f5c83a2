"""The application on a Ray of its own on this machine, until SIGTERM: python -m jobs.serve_local
--setup tiny --port 8000"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray import serve

from recsys.batch.cluster import MIN_CPUS, start_local_ray
from recsys.config import Setup, load
from serve.app import compose


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--setup", default="tiny", help="a setup's name, or my_shop.setups:winter")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with serve_locally(load(arguments.setup), arguments.port) as url:
        print(f"{url} serves {arguments.setup}", flush=True)
        signal.pause()
    return 0


@contextmanager
def serve_locally(setup: Setup, port: int) -> Iterator[str]:
    """The URL of the application, served by a local Ray that ends with the block."""
    start_local_ray(
        num_cpus=MIN_CPUS,
        include_dashboard=False,
        object_store_memory=300 << 20,
        log_to_driver=False,
    )
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(compose(setup, "127.0.0.1"), name="nightshelf", route_prefix="/")
        yield f"http://127.0.0.1:{port}"
    finally:
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    sys.exit(main())
