"""A real Redis server for a test, over a folder of its own, that can be killed and started
again."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from recsys.simulation.processes import free_port


class RedisServer:
    """A real server over one folder: what it acknowledged is there again after kill -9. Skips where
    there is none."""

    def __init__(self, folder: Path, host: str = "127.0.0.1") -> None:
        self.binary = shutil.which("redis-server") or shutil.which("valkey-server")
        if self.binary is None:
            pytest.skip("no redis-server here: apt-get install redis-server")
        self.folder = folder
        self.host, self.port = host, free_port(host)
        self.url = f"redis://{host}:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *settings: str) -> None:
        """Returns once it answers."""
        always = "--appendonly", "yes", "--appendfsync", "always", "--save", ""
        where = (
            "--port",
            str(self.port),
            "--bind",
            self.host,
            "--protected-mode",
            "no",
            "--dir",
            str(self.folder),
        )
        assert self.binary is not None
        self._process = subprocess.Popen(
            [self.binary, *where, *always, *settings], stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 30
        while not self._answers():
            assert time.monotonic() < deadline, f"no answer from {self.url}"
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        import redis

        try:
            return bool(redis.Redis.from_url(self.url).ping())
        except redis.exceptions.RedisError:
            return False
