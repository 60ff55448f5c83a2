"""A release by hand that is nothing but its files of users, for tests of erasure and audit."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.privacy.erasure import PEERS, QUARANTINE, USER_ARRAYS, USERS
from recsys.release.arrow import write_arrow
from recsys.release.manifest import Manifest
from recsys.storage.artifacts import ArtifactStore

#: When the night of every release began.
NIGHT = datetime(2026, 1, 3, tzinfo=UTC)


def arrow_file(*shards: Sequence[str], days: float = 10.0) -> pa.Buffer:
    """Users by shard, each with one event on that day."""
    batches = [
        pa.RecordBatch.from_pydict({"user_id": list(users), "days": [[days] for _ in users]})
        for users in shards
    ]
    return write_arrow(batches, batches[0].schema)


def parquet_file(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def quarantine_file(*users: str) -> bytes:
    """A quarantined row of each user."""
    sources = [json.dumps({"user_id": user}) for user in users]
    return parquet_file(pa.table({"source": pa.array(sources, pa.string())}))


def npy_file(values: Sequence[float]) -> bytes:
    sink = io.BytesIO()
    np.save(sink, np.array(values, np.float32)[:, None])
    return sink.getvalue()


def publish_users(
    store: ArtifactStore,
    version: str,
    *,
    shards: Sequence[Sequence[str]] = (("a", "b"), ("c",)),
    peers: Sequence[str] = ("a", "c"),
    quarantined: Sequence[str] = (),
    **fields: Any,
) -> Manifest:
    """A release of these users, whose arrays number them from 0."""
    total = sum(map(len, shards))
    contents: dict[str, bytes | pa.Buffer] = {
        USERS: arrow_file(*shards),
        PEERS: arrow_file(peers),
        QUARANTINE: quarantine_file(*quarantined),
        **{name: npy_file(range(total)) for name in USER_ARRAYS},
    }
    base = f"releases/{version}"
    files = {name: store.write(f"{base}/{name}", data) for name, data in contents.items()}
    files["items.arrow"] = store.write(f"{base}/items.arrow", b"no user's")
    defaults: dict[str, Any] = {
        "version": version,
        "space": "s",
        "setup": "shop",
        "commit": "c",
        "previous": None,
        "created": NIGHT.isoformat(),
        "events_from": None,
        "events_until": None,
        "counts": {"items": 7, "users": total},
        "quarantined": {},
        "sources": [],
        "metrics": {},
        "files": files,
    }
    manifest = Manifest(**{**defaults, **fields})
    store.publish(version, manifest.to_json())
    return manifest


def users_of(store: ArtifactStore, manifest: Manifest, name: str = USERS) -> list[list[str]]:
    """The users of each shard of a file, without empty ones."""
    path = store.on_disk(f"releases/{manifest.version}/{manifest.path_of(name)}")
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    return [batch["user_id"].to_pylist() for batch in table.to_batches() if batch.num_rows]
