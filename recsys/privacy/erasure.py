"""Erasure of users from a published release: the one thing that ever changes in it.

The files that hold users are rewritten without them, into a folder of their own below the
release's; the manifest, written last and whole, names that folder. Killed before that, the release
is what it was; killed after it, the replaced files lie there until `delete_replaced_files`. Of two
erasures at once, one finds another manifest than it began from, and begins again.

Legend: U users, P rows of peers, Q quarantined rows."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.errors import RecsysError
from recsys.privacy.decisions import PrivacyDecisions
from recsys.release import files
from recsys.release.arrow import read_arrow
from recsys.release.manifest import Manifest, read_manifest
from recsys.storage.artifacts import ArtifactStore
from recsys.storage.streams import arrow_pieces, npy_kept, parquet_bytes
from recsys.types import Mask

USERS, PEERS, QUARANTINE = files.USERS.name, files.PEERS.name, files.QUARANTINE.name
#: One row a user, in the order of USERS.
USER_ARRAYS = tuple(file.name for file in files.USER_ARRAYS)
#: Every file of a release that holds something of a single user.
USER_FILES = tuple(file.name for file in files.OF_USERS)
#: A replaced file stays so long: replicas have mapped it, and on NFS a mapped file must not go.
GRACE_S = 30.0
#: A file that no manifest ever named is of an erasure that was killed, once it is so old.
ABANDONED_S = 3600.0

Content: TypeAlias = bytes | pa.Buffer | Iterable[bytes | pa.Buffer]


def erase_users_from_release(
    store: ArtifactStore,
    version: str,
    decisions: PrivacyDecisions,
    only: Collection[str] | None = None,
) -> int:
    """Erases the users whose decisions allow nothing of the release's time, `only` these where
    given; how many rows. Raises NotFoundError, ReleaseError where the release cannot be read."""
    while True:
        manifest = read_manifest(store, version)
        try:
            rows = _try_erase(store, manifest, decisions, only)
        except (RecsysError, FileNotFoundError):
            if read_manifest(store, version) == manifest:
                raise
            continue
        if rows is not None:
            return rows


def delete_replaced_files(store: ArtifactStore, version: str, grace_s: float = GRACE_S) -> int:
    """Deletes files that erasures replaced, `grace_s` after the last of them, and those that no
    manifest ever named; how many."""
    manifest, base = read_manifest(store, version), f"releases/{version}"
    since_s = store.age_s(f"{base}/manifest.json")
    deleted = 0
    for path in store.files(base):
        name = path[len(base) + 1 :]
        if not is_unlisted_user_file(name, manifest):
            continue
        is_replaced = name in manifest.replaced and since_s >= grace_s
        if is_replaced or store.age_s(path) >= ABANDONED_S:
            store.remove(path)
            deleted += 1
    return deleted


def is_unlisted_user_file(path: str, manifest: Manifest) -> bool:
    """Whether a file of the release's folder holds users and its manifest does not name it (any
    more)."""
    return path.rsplit("/", 1)[-1] in USER_FILES and path not in manifest.files


def release_time(manifest: Manifest) -> datetime:
    """When its night began: later events are not in it."""
    time = datetime.fromisoformat(manifest.created)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _try_erase(
    store: ArtifactStore,
    manifest: Manifest,
    decisions: PrivacyDecisions,
    only: Collection[str] | None,
) -> int | None:
    """Rows that were erased; None where another erasure came first."""
    files = _UserFiles.read(store, manifest, decisions, only)
    if not files.rows:
        return 0
    folder, base = f"amended-{uuid.uuid4().hex[:12]}", f"releases/{manifest.version}"
    sums = {
        f"{folder}/{name}": store.write(f"{base}/{folder}/{name}", content)
        for name, content in files.remaining()
    }
    is_complete = all(store.exists(f"{base}/{path}") for path in sums)
    if not is_complete or read_manifest(store, manifest.version) != manifest:
        store.delete(f"{base}/{folder}")
        return None
    users = int((~files.erased_U).sum())
    amended = _amended_manifest(manifest, folder=folder, sums=sums, users=users)
    store.write(f"{base}/manifest.json", amended.to_json())
    return files.rows


def _amended_manifest(
    manifest: Manifest, *, folder: str, sums: dict[str, str], users: int
) -> Manifest:
    """The manifest with the users' files in `folder`."""
    replaced = [manifest.path_of(name) for name in USER_FILES]
    others = {path: total for path, total in manifest.files.items() if path not in replaced}
    return replace(
        manifest,
        files=others | sums,
        amended=folder,
        amendments=manifest.amendments + 1,
        replaced=[*manifest.replaced, *replaced],
        counts={**manifest.counts, "users": users},
    )


@dataclass(frozen=True, kw_only=True)
class _UserFiles:
    """A release's files of users, every checksum compared, and the rows to erase from them."""

    local: Callable[[str], Path]
    users: pa.Table
    peers: pa.Table
    quarantined: pa.Table
    erased_U: Mask
    erased_P: Mask
    erased_Q: Mask

    @classmethod
    def read(
        cls,
        store: ArtifactStore,
        manifest: Manifest,
        decisions: PrivacyDecisions,
        only: Collection[str] | None,
    ) -> _UserFiles:
        local, time = _local_files(store, manifest), release_time(manifest)
        users, peers = read_arrow(local(USERS)), read_arrow(local(PEERS))
        quarantined = pq.read_table(local(QUARANTINE))
        erased_U = decisions.forbidden_users(users["user_id"], time, only)
        erased_P = decisions.forbidden_users(peers["user_id"], time, only)
        if erased_U.any():  # older releases do not say who their peers are: erase all of those
            erased_P |= np.asarray(pc.equal(peers["user_id"], ""))
        return cls(
            local=local,
            users=users,
            peers=peers,
            quarantined=quarantined,
            erased_U=erased_U,
            erased_P=erased_P,
            erased_Q=decisions.forbidden_sources(quarantined),
        )

    @property
    def rows(self) -> int:
        """How many rows are to be erased."""
        return int(self.erased_U.sum() + self.erased_P.sum() + self.erased_Q.sum())

    def remaining(self) -> Iterator[tuple[str, Content]]:
        """Each file's name and its content without the erased rows."""
        yield USERS, _filter_shards(self.users, ~self.erased_U)
        yield PEERS, _filter_shards(self.peers, ~self.erased_P)
        yield QUARANTINE, parquet_bytes(self.quarantined.filter(pa.array(~self.erased_Q)))
        for name in USER_ARRAYS:
            yield name, npy_kept(np.load(self.local(name), mmap_mode="r"), ~self.erased_U)


def _local_files(store: ArtifactStore, manifest: Manifest) -> Callable[[str], Path]:
    """Where the files of users are on this machine, by name."""
    paths = {name: manifest.path_of(name) for name in USER_FILES}
    sums = {path: manifest.files[path] for path in paths.values()}
    folder = store.local_folder(f"releases/{manifest.version}", sums)
    return lambda name: folder / paths[name]


def _filter_shards(table: pa.Table, mask_N: Mask) -> Iterable[pa.Buffer]:
    """The rows of the mask as an Arrow file, shard by shard as they were."""
    shards = table.to_batches()
    starts = np.cumsum([0, *(shard.num_rows for shard in shards)])
    batches = (
        shard.filter(pa.array(mask_N[start : start + shard.num_rows]))
        for start, shard in zip(starts.tolist(), shards, strict=False)
    )
    return arrow_pieces(batches, table.schema)
