"""A night that was refused says so in its work: it is not continued, but begun anew."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from recsys.batch.plan import NightRun
from recsys.errors import FullError, RecsysError, RefusedError, StoreDownError
from recsys.storage.artifacts import ArtifactStore


@contextmanager
def refusals_recorded(night: NightRun) -> Iterator[None]:
    """Notes the sentence of a RecsysError on its way out; a full disk or a store that is down
    refuses nothing."""
    try:
        yield
    except (FullError, StoreDownError):
        raise
    except RecsysError as error:
        checks = error.checks if isinstance(error, RefusedError) else ()
        record = {"sentence": str(error), "checks": checks}
        night.store.write(night.work_path("refusal.json"), json.dumps(record, indent=2).encode())
        raise


def may_continue(store: ArtifactStore, version: str, allow: frozenset[str]) -> bool:
    """Whether the night was not refused, or only by checks that are allowed now."""
    path = f"work/{version}/refusal.json"
    if not store.exists(path):
        return True
    checks = json.loads(store.read(path))["checks"]
    return bool(checks) and allow >= set(checks)
