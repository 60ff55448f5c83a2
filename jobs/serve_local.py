"""The application on a Ray of its own on this machine, until SIGTERM: python -m jobs.serve_local
--setup tiny --port 8000. A shop without a release yet gets its first night before."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray import serve

from recsys.batch.cluster import MIN_CPUS, start_local_ray
from recsys.batch.night import run_night
from recsys.batch.planning import begin
from recsys.config import Setup, load
from recsys.errors import RecsysError
from recsys.storage.artifacts import ArtifactStore
from serve.app import compose


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--setup", default="tiny", help="a setup's name, or my_shop.setups:winter")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with serve_locally(load(arguments.setup), arguments.port) as url:
            print(
                f"{url}/search?q=... serves {arguments.setup}; {url}/docs has all routes",
                flush=True,
            )
            signal.pause()
    except RecsysError as error:
        print(f"nothing is served: {error}", file=sys.stderr)
        return 1
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
        publish_first(setup)
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(compose(setup, "127.0.0.1"), name="nightshelf", route_prefix="/")
        yield f"http://127.0.0.1:{port}"
    finally:
        serve.shutdown()
        ray.shutdown()


def publish_first(setup: Setup) -> None:
    """A night, where there is no release to serve."""
    if ArtifactStore(setup.home).current() is None:
        print(f"{setup.home} has no release yet: a night comes first", flush=True)
        manifest = run_night(begin(setup), lambda line: print(line, flush=True))
        print(f"published {manifest.version}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
