"""The same application without Ray Serve, for comparison: python -m jobs.serve_plain --setup tiny
--port 8000 --workers 2"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import uvicorn
from fastapi import FastAPI

from recsys.config import Setup, load
from recsys.release.release import Release
from recsys.simulation.traffic import Traffic
from recsys.storage.artifacts import ArtifactStore
from recsys.types import Vectors
from serve.encoder import EncoderReplica
from serve.replicas import ShopReplica
from serve.routes.api import build_api


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--setup", default="tiny", help="a setup's name, or my_shop.setups:winter")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--workers", type=int, default=1, help="processes, each with a whole shop")
    arguments = parser.parse_args()
    os.environ["NIGHTSHELF_SETUP"] = arguments.setup  # what `make_app` finds in each worker
    uvicorn.run(
        "jobs.serve_plain:make_app",
        factory=True,
        port=arguments.port,
        workers=arguments.workers,
        # A worker that imports Ray on a busy machine does not answer within the usual 5 s, and
        # would be killed and started again for ever.
        timeout_worker_healthcheck=120,
        log_level="error",
        access_log=False,
    )


def make_app() -> FastAPI:
    """The application of one of uvicorn's workers; $NIGHTSHELF_SETUP names the setup."""
    return build_api(make_shop(load(os.environ["NIGHTSHELF_SETUP"])))


@contextmanager
def open_shop(setup: Setup) -> Iterator[tuple[ShopReplica, Traffic]]:
    """A shop in this process, and requests for its release; closed in the end."""
    traffic = Traffic.of(Release.open(ArtifactStore(setup.home)))
    shop = make_shop(setup)
    try:
        yield shop, traffic
    finally:
        shop.close()


def make_shop(setup: Setup) -> ShopReplica:
    """A shop in this process. It encodes one text a call: the batches of Ray Serve need its replica
    around them."""
    replica = EncoderReplica(setup)

    async def encode(text: str) -> Vectors:
        [result] = await replica.encode_batch([text])
        if isinstance(result, Exception):
            raise result
        return result

    def encode_items(texts: list[str]) -> Any:
        return SimpleNamespace(result=lambda timeout_s: replica.encode_items_here(texts))

    remotes = {"encode": encode, "encode_items": encode_items}
    handle = {name: SimpleNamespace(remote=function) for name, function in remotes.items()}
    return ShopReplica(setup, SimpleNamespace(**handle))


if __name__ == "__main__":
    main()
