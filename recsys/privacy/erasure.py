"""Who asked for it leaves the releases: the one thing that ever changes in them.

The files that hold users are written again without him, into a folder of their own below the
release's; the manifest, written last and whole, names that folder. Killed before it, the release is
what it was; killed after it, what was replaced lies there until `sweep` deletes it. Who amends at
the same time writes beside, finds another manifest than the one he began from, and begins again.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.datasets.validate import LINE, Checked
from recsys.errors import RecsysError
from recsys.interfaces import PrivacyRegistry
from recsys.release.release import Manifest, read_arrow, read_manifest
from recsys.storage.artifacts import ArtifactStore
from recsys.storage.streams import arrow_pieces, npy_kept, parquet_bytes
from recsys.types import Mask, PrivacyState

USERS, PEERS, QUARANTINE = "users.arrow", "peers.arrow", "quarantine.parquet"
#: One row a user, in the order of USERS.
ROWS = (
    "user_vectors.npy",
    "candidates_rows.npy",
    "candidates_features.npy",
    "candidates_sources.npy",
)
#: Every file of a release that holds something of a single user.
OF_USERS = (USERS, PEERS, QUARANTINE, *ROWS)
#: What was replaced stays so long: replicas have mapped it, and on NFS a mapped file must not go.
GRACE_S = 30.0
#: What no manifest ever named is of an amendment that was killed, once it is so old.
UNNAMED_S = 3600.0


@dataclass(frozen=True)
class PrivacyDecisions:
    """What users decided, `standings` by `digest` of their ids. Pickles: goes with the night's
    tasks."""

    digest: Callable[[str], str] = str
    standings: Mapping[str, PrivacyState] = field(default_factory=dict)

    @classmethod
    def of(cls, registry: PrivacyRegistry) -> PrivacyDecisions:
        return cls(registry.hasher(), registry.privacy_states())

    def leaving(
        self, ids: pa.ChunkedArray, time: datetime, only: Collection[str] | None = None
    ) -> Mask:
        """[N]: whose standing allows nothing of that time, `only` among these users where they are
        given."""
        leaving_N = np.zeros(len(ids), bool)
        if not self.standings:
            return leaving_N
        asked = np.arange(len(ids))
        if only is not None:
            asked = np.flatnonzero(
                np.asarray(pc.is_in(ids, value_set=pa.array(list(only), pa.string())))
            )
        names = ids.take(pa.array(asked)).to_pylist()
        leaving_N[asked] = [not self._standing(name).allows(time) for name in names]
        return leaving_N

    def named(self, quarantined: pa.Table) -> Mask:
        """[N]: which rows that could not be used name somebody whose past does not exist, whatever
        their time."""
        if not self.standings:
            return np.zeros(quarantined.num_rows, bool)
        gone = {key for key, standing in self.standings.items() if standing != PrivacyState()}
        return np.array(
            [any(self.digest(name) in gone for name in named(s)) for s in _sources(quarantined)],
            bool,
        )

    def without(self, checked: Checked) -> Checked:
        """A chunk of the log, without what its users' standings rule out."""
        good, bad = checked.good, checked.quarantined
        if not self.standings:
            return checked
        coded = good["user_id"].combine_chunks().dictionary_encode()
        decided = [self._standing(name) for name in coded.dictionary.to_pylist()]
        some = np.array([standing != PrivacyState() for standing in decided], bool)
        kept_N = np.ones(good.num_rows, bool)
        users_N = np.asarray(coded.indices)
        for row in np.flatnonzero(some[users_N]) if len(users_N) else ():
            kept_N[row] = decided[users_N[row]].allows(good["time"][int(row)].as_py())
        return Checked(good.filter(pa.array(kept_N)), bad.filter(pa.array(~self.named(bad))))

    def _standing(self, user_id: str) -> PrivacyState:
        return self.standings.get(self.digest(user_id), PrivacyState())


def named(source: str) -> set[str]:
    """Whom a quarantined row may name: its user id; of a line that could not be split, every
    word."""
    try:
        row = json.loads(source)
    except ValueError:
        return set()
    if not isinstance(row, dict):
        return set()
    words = re.split(r"""[\s,;|"']+""", str(row.get(LINE) or ""))
    return {word for word in (*words, str(row.get("user_id") or "")) if word}


def amend(
    store: ArtifactStore,
    version: str,
    decided: PrivacyDecisions,
    only: Collection[str] | None = None,
) -> int:
    """Takes those out of the release whose standings allow nothing of its time, `only` these users
    where they are given; how many rows left. Raises NotFoundError, ReleaseError where the release
    cannot be read."""
    while True:
        manifest = read_manifest(store, version)
        try:
            gone = _amended(store, manifest, decided, only)
        except (RecsysError, FileNotFoundError):
            if read_manifest(store, version) == manifest:
                raise
            gone = None
        if gone is not None:
            return gone


def _amended(
    store: ArtifactStore,
    manifest: Manifest,
    decided: PrivacyDecisions,
    only: Collection[str] | None,
) -> int | None:
    """None where another amended it in the same time."""
    local, time = _opened(store, manifest), time_of(manifest)
    users, peers = read_arrow(local(USERS)), read_arrow(local(PEERS))
    quarantined = pq.read_table(local(QUARANTINE))
    leaving_U, leaving_P = (
        decided.leaving(table["user_id"], time, only) for table in (users, peers)
    )
    leaving_Q = decided.named(quarantined)
    gone = int(leaving_U.sum() + leaving_P.sum() + leaving_Q.sum())
    if not gone:
        return 0
    if leaving_U.any():  # releases of before do not say who their peers are: all of them leave
        leaving_P |= np.asarray(pc.equal(peers["user_id"], ""))
    folder, place = f"amended-{uuid.uuid4().hex[:12]}", f"releases/{manifest.version}"

    def write(
        name: str, pieces: bytes | pa.Buffer | Iterable[bytes | pa.Buffer]
    ) -> tuple[str, str]:
        return f"{folder}/{name}", store.write(f"{place}/{folder}/{name}", pieces)

    fresh = [
        write(USERS, _kept(users, ~leaving_U)),
        write(PEERS, _kept(peers, ~leaving_P)),
        write(QUARANTINE, parquet_bytes(quarantined.filter(pa.array(~leaving_Q)))),
        *(write(name, npy_kept(np.load(local(name), mmap_mode="r"), ~leaving_U)) for name in ROWS),
    ]
    old = [manifest.path_of(name) for name in OF_USERS]
    files = {path: total for path, total in manifest.files.items() if path not in old} | dict(fresh)
    amended = replace(
        manifest,
        files=files,
        amended=folder,
        amendments=manifest.amendments + 1,
        replaced=[*manifest.replaced, *old],
        counts={**manifest.counts, "users": int((~leaving_U).sum())},
    )
    there = all(store.exists(f"{place}/{path}") for path, _ in fresh)
    if not there or read_manifest(store, manifest.version) != manifest:
        store.delete(f"{place}/{folder}")
        return None
    store.write(f"{place}/manifest.json", amended.to_json())
    return gone


def sweep(store: ArtifactStore, version: str, grace_s: float = GRACE_S) -> int:
    """Deletes what the release's amendments replaced, `grace_s` after the last, and what none ever
    named; how many files that were."""
    manifest, place = read_manifest(store, version), f"releases/{version}"
    unnamed = [path for path in store.files(place) if is_unnamed(path[len(place) + 1 :], manifest)]
    since_s = store.age_s(f"{place}/manifest.json")
    old = [
        path
        for path in unnamed
        if (since_s >= grace_s and path[len(place) + 1 :] in manifest.replaced)
        or store.age_s(path) >= UNNAMED_S
    ]
    for path in old:
        store.remove(path)
    return len(old)


def is_unnamed(path: str, manifest: Manifest) -> bool:
    """Whether a file of the release's folder is one of users that its manifest does not name (any
    more)."""
    return path.rsplit("/", 1)[-1] in OF_USERS and path not in manifest.files


def time_of(manifest: Manifest) -> datetime:
    """When its night began."""
    time = datetime.fromisoformat(manifest.created)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _opened(store: ArtifactStore, manifest: Manifest) -> Callable[[str], Path]:
    """Where the files of users are on this machine, every checksum compared."""
    places = {name: manifest.path_of(name) for name in OF_USERS}
    files = {path: manifest.files[path] for path in places.values()}
    folder = store.local_folder(f"releases/{manifest.version}", files)
    return lambda name: folder / places[name]


def _kept(table: pa.Table, kept_N: Mask) -> Iterable[pa.Buffer]:
    """The rows that are kept, shard by shard as they were."""
    starts = np.cumsum([0, *(batch.num_rows for batch in table.to_batches())])
    batches = (
        batch.filter(pa.array(kept_N[start : start + batch.num_rows]))
        for start, batch in zip(starts.tolist(), table.to_batches(), strict=False)
    )
    return arrow_pieces(batches, table.schema)


def _sources(quarantined: pa.Table) -> list[str]:
    return [str(source) for source in quarantined["source"].to_pylist()]
