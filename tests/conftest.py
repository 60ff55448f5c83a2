"""Shared fixtures: temporary stores, one local Ray for the whole session, a shop stocked by two real nights."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

# Before Ray is imported anywhere: unset, a local Ray would turn token authentication on for later clusters.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest


@pytest.fixture(scope="session")
def ray_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The session's one local Ray: four logical CPUs whatever the machine has, so that no pipeline starves."""
    import ray

    ray.init(address="local", num_cpus=4, include_dashboard=False, object_store_memory=300 << 20)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def shop_home(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with two published releases of the checkerboard shop, a day apart. Read-only: copy it to change it."""
    from recsys.batch.night import begin, run_night

    from tests.checkerboard import UNTIL, setup

    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("shop")
        patch.setenv("NIGHTSHELF_HOME", str(folder))
        patch.setenv("NIGHTSHELF_COMMIT", "test")
        for until in (UNTIL, UNTIL + timedelta(days=1)):
            run_night(begin(setup(), until), print)
        yield folder
