"""The same application without Ray Serve, for comparison: plain uvicorn over a shop in its own
process."""

from __future__ import annotations

import os
from types import SimpleNamespace

import uvicorn
from fastapi import FastAPI

from recsys.config import Setup, load
from recsys.types import Vectors
from serve.encoder import EncoderReplica
from serve.replicas import ShopReplica
from serve.routes.api import build_api


def shop(setup: Setup) -> ShopReplica:
    """A shop in this process that encodes a text a call: Serve's batches want a replica of Serve
    around them."""
    replica = EncoderReplica(setup)

    async def encode(text: str) -> Vectors:
        [answer] = await replica.encode_batch([text])
        if isinstance(answer, Exception):
            raise answer
        return answer

    return ShopReplica(setup, SimpleNamespace(encode=SimpleNamespace(remote=encode)))


def app() -> FastAPI:
    """What each of uvicorn's workers makes; $NIGHTSHELF_SETUP names the setup."""
    return build_api(shop(load(os.environ.get("NIGHTSHELF_SETUP", "tiny"))))


def run(port: int, workers: int) -> None:
    """Until a signal comes."""
    uvicorn.run(
        "jobs.serve_plain:app",
        factory=True,
        port=port,
        workers=workers,
        log_level="error",
        access_log=False,
    )
