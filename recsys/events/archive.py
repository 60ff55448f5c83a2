"""The older part of a live event log, as Parquet in the shop's home.

log/interactions/day=2026-11-28/AFTER-UNTIL-TOKEN.parquet   rows AFTER+1..UNTIL, by the day they were drained
log/interactions/commits/AFTER-UNTIL-TOKEN.json             written last: a file that no record names does not exist
log/impressions/...                                         the same

Records may overlap: a reader goes on from the last number it has, in the record that leads
furthest. So two drainers at once write some rows twice, and nobody reads a row twice."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.errors import InputError, NotFoundError, RecsysError, StoreDownError
from recsys.events.rows import packed_impression, unpacked_impression
from recsys.interfaces import Appended, Drainable, LogState
from recsys.storage.artifacts import ArtifactStore
from recsys.tables import LIVE_EVENTS, NUMBERED_EVENTS, NUMBERED_IMPRESSIONS
from recsys.types import Impression, Interaction, PrivacyState

#: Rows of one file, at most a page more.
SEGMENT = {"interactions": 200_000, "impressions": 10_000}
#: The lock of a drainer that died is free after so long.
LEASE_S = 60.0
_BATCH = {"interactions": 10_000, "impressions": 200}
_SCHEMA = {"interactions": NUMBERED_EVENTS, "impressions": NUMBERED_IMPRESSIONS}
KINDS = ("interactions", "impressions")


@dataclass(frozen=True)
class _Record:
    """Rows after+1..until of the log are in `file`; None where none of them is left."""

    path: str
    after: int
    until: int
    rows: int
    file: str | None


class Archived:
    """An `EventStore`: what was drained from `live` into `home`, and what was not yet, as one log.

    The factory is `partial(Archived, partial(RedisEventStore, url), home)`.
    """

    def __init__(self, live: Callable[[], Drainable], home: str) -> None:
        self.live, self.home = live(), ArtifactStore(home)
        self._forget_lock = threading.Lock()

    # As the live log does it

    def append(self, interactions: Sequence[Interaction]) -> Appended:
        assert self._began
        return self.live.append(interactions)

    def append_impressions(self, impressions: Sequence[Impression]) -> None:
        assert self._began
        self.live.append_impressions(impressions)

    def quarantine(self, rows: Sequence[tuple[str, dict[str, Any]]]) -> None:
        self.live.quarantine(rows)

    def recent(self, user_id: str, after: datetime, limit: int) -> list[Interaction]:
        return self.live.recent(user_id, after, limit)

    def digest(self, user_id: str) -> str:
        return self.live.digest(user_id)

    def hasher(self) -> Callable[[str], str]:
        return self.live.hasher()

    def standing(self, user_id: str) -> PrivacyState:
        return self.live.standing(user_id)

    def set_standing(self, user_id: str, standing: PrivacyState) -> None:
        self.live.set_standing(user_id, standing)

    def standings(self) -> dict[str, PrivacyState]:
        return self.live.standings()

    def state(self) -> LogState:
        return self.live.state()

    def close(self) -> None:
        self.live.close()

    @cached_property
    def _began(self) -> bool:
        """Looked once whether the live log is a new one beside an old archive."""
        self._settle()
        return True

    # Reading both as one

    def last_sequence(self) -> int:
        return max(self.live.last_sequence(), self.live.archived()[0])

    def last_impression(self) -> int:
        return max(self.live.last_impression(), self.live.archived()[1])

    def interactions(self, until_sequence: int, after: int = 0) -> Iterator[pa.RecordBatch]:
        while True:
            mark, page = self.live.page(until_sequence, after)
            if mark > after:  # meanwhile rows went to the archive: the page may lack them
                for batch in self._archived("interactions", after, min(mark, until_sequence)):
                    yield batch.select(LIVE_EVENTS.names)
                after = mark
            elif page.num_rows:
                after = page["sequence"][-1].as_py()
                yield page.select(LIVE_EVENTS.names)
            else:
                return

    def impressions(self, after: int = 0) -> Iterator[Impression]:
        while True:
            mark, page = self.live.shown(after)
            if mark > after:
                for batch in self._archived("impressions", after, mark):
                    yield from map(_impression, batch.to_pylist())
                after = mark
            elif page:
                after = page[-1].sequence
                yield from page
            else:
                return

    def impression(self, request_id: str) -> Impression | None:
        if live := self.live.impression(request_id):
            return live
        for record in reversed(self._records("impressions")):
            if record.file is not None:
                with suppress(
                    NotFoundError
                ):  # written again without somebody: it is in the next look's record
                    wanted = pc.equal(self._column(record.file, "request_id"), request_id)
                    if pc.any(wanted).as_py():
                        return _impression(self._table(record.file).filter(wanted).to_pylist()[0])
        return None

    def counts(self) -> dict[str, int]:
        self._settle()
        counts = self.live.counts()
        for kind, mark in zip(KINDS, self.live.archived(), strict=True):
            counts[kind] += sum(
                batch.num_rows for batch in self._archived(kind, 0, mark, ["sequence"])
            )
        return counts

    # Draining

    def drain(self) -> int:
        """Moves what the live log holds now into the archive; how many rows. 0 where another
        drainer is at it.

        Killed at any point: the rows are in the live log until a record names them, and are read
        from there."""
        with self._leased() as token:
            if token is None:
                return 0
            self._settle()
            self._sweep()
            return self._drain_interactions(token) + self._drain_impressions(token)

    def _drain_interactions(self, token: str) -> int:
        until, moved = self.live.last_sequence(), 0
        while (after := self.live.archived()[0]) < until:
            batches, rows, last = [], 0, after
            while (
                rows < SEGMENT["interactions"] and (page := self.live.page(until, last)[1]).num_rows
            ):
                batches.append(page)
                rows, last = rows + page.num_rows, page["sequence"][-1].as_py()
            if not rows:
                break
            self._commit("interactions", after, last, batches, token)
            self.live.acknowledge(last, 0)
            moved += rows
        return moved

    def _drain_impressions(self, token: str) -> int:
        until, moved = self.live.last_impression(), 0
        while (after := self.live.archived()[1]) < until:
            batches, rows, last = [], 0, after
            while rows < SEGMENT["impressions"] and (page := self.live.shown(last)[1]):
                batches.append(_batch(page))
                rows, last = rows + len(page), page[-1].sequence
            if not rows:
                break
            self._commit("impressions", after, last, batches, token)
            self.live.acknowledge(0, last)
            moved += rows
        return moved

    def _commit(
        self, kind: str, after: int, until: int, batches: Sequence[pa.RecordBatch], token: str
    ) -> None:
        name = f"{after:016d}-{until:016d}-{uuid.uuid4().hex[:8]}"
        file = f"log/{kind}/day={datetime.now(UTC):%Y-%m-%d}/{name}.parquet"
        self.home.write(file, _parquet(batches, _SCHEMA[kind]))
        if not self.live.lease(token, LEASE_S):
            raise StoreDownError(
                f"draining the log took over {LEASE_S:.0f} s and another began: nothing is lost"
            )
        rows = sum(batch.num_rows for batch in batches)
        self._write(_Record(f"log/{kind}/commits/{name}.json", after, until, rows, file))

    def _settle(self) -> None:
        """Acknowledges what a drainer committed before it was killed; a live log that is new goes
        on from there."""
        marks, known = (
            self.live.archived(),
            (self.live.last_sequence(), self.live.last_impression()),
        )
        reached = [
            max([mark, *(r.until for r in self._path(k, mark))])
            for k, mark in zip(KINDS, marks, strict=True)
        ]
        if any(0 < last < until for last, until in zip(known, reached, strict=True)):
            raise InputError(
                f"the archive in {self.home.uri} leads to {reached} and the live log to {known}: its server lost rows; "
                "let it begin anew under another prefix and move the folder log/ away"
            )
        if tuple(reached) != marks:
            self.live.acknowledge(*reached)

    def _sweep(self) -> None:
        """Files of drainers that were killed before their record. Only with the lock: others' may
        be in the making."""
        for kind in KINDS:
            named = {record.file for record in self._records(kind)}
            for path in self.home.files(f"log/{kind}"):
                if path.endswith(".parquet") and path not in named:
                    self.home.remove(path)

    @contextmanager
    def _leased(self) -> Iterator[str | None]:
        """A token that holds the lock, renewed while at work; None where another holds it."""
        token, done = uuid.uuid4().hex, threading.Event()
        if not self.live.lease(token, LEASE_S):
            yield None
            return

        def renew() -> None:
            while not done.wait(LEASE_S / 6):
                with suppress(RecsysError):
                    self.live.lease(token, LEASE_S)

        thread = threading.Thread(target=renew, daemon=True)
        thread.start()
        try:
            yield token
        finally:
            done.set()
            thread.join()
            with suppress(RecsysError):
                self.live.release(token)

    # Who asked to be forgotten

    def traces(self, user_id: str) -> dict[str, int]:
        self._settle()
        found = self.live.traces(user_id)
        kept = self.live.remembered(user_id)
        for kind in KINDS:
            files = {record.file for record in self._records(kind)} - {None}
            live = found[kind] if kind == "impressions" else self._live_rows(user_id)
            found[kind] = live + sum(self._naming(file, user_id) for file in files if file)
        return {**found, "interactions": max(found["interactions"], kept)}

    def forget(self, user_id: str) -> dict[str, int]:
        with self._forget_lock, self._leased() as token:
            if token is None:
                raise StoreDownError(
                    "the log is being drained: ask again in a minute, nothing was deleted"
                )
            gone = self.traces(user_id)
            self.live.forget(user_id)
            for record in [record for kind in KINDS for record in self._records(kind)]:
                if record.file and self._naming(record.file, user_id):
                    self._without(record, user_id)
            self._sweep()
        return gone

    def _live_rows(self, user_id: str) -> int:
        found, after = 0, self.live.archived()[0]
        until = self.live.last_sequence()
        while (page := self.live.page(until, after)[1]).num_rows:
            found += pc.sum(pc.equal(page["user_id"], user_id)).as_py() or 0
            after = page["sequence"][-1].as_py()
        return found

    def _naming(self, file: str, user_id: str) -> int:
        return pc.sum(pc.equal(self._column(file, "user_id"), user_id)).as_py() or 0

    def _without(self, record: _Record, user_id: str) -> None:
        """The record names a new file; the old one goes."""
        assert record.file
        table = self._table(record.file)
        kept = table.filter(pc.invert(pc.fill_null(pc.equal(table["user_id"], user_id), False)))
        file = None
        if kept.num_rows:
            folder, _, name = record.file.rpartition("/")
            file = f"{folder}/{name[:33]}-{uuid.uuid4().hex[:8]}.parquet"
            self.home.write(file, _parquet(kept.to_batches(), table.schema))
        self._write(_Record(record.path, record.after, record.until, kept.num_rows, file))
        self.home.remove(record.file)

    # Files

    def _write(self, record: _Record) -> None:
        told = {
            "after": record.after,
            "until": record.until,
            "rows": record.rows,
            "file": record.file,
        }
        self.home.write(record.path, json.dumps(told).encode())

    def _records(self, kind: str) -> list[_Record]:
        """By where they begin."""
        paths = self.home.files(f"log/{kind}/commits")
        return sorted(
            (_Record(path, **json.loads(self.home.read(path))) for path in paths),
            key=lambda r: r.after,
        )

    def _path(self, kind: str, after: int) -> list[_Record]:
        """The records that lead on from `after`, each from where the one before it ends or
        earlier."""
        found, records = list[_Record](), self._records(kind)
        while leading := [record for record in records if record.after <= after < record.until]:
            found.append(max(leading, key=lambda record: record.until))
            after = found[-1].until
        return found

    def _archived(
        self, kind: str, after: int, until: int, columns: Sequence[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Rows after+1..until, in order. Raises NotFoundError where the archive does not hold all
        of them."""
        for patience in range(5, -1, -1):
            try:
                for record in self._path(kind, after):
                    if after >= until:
                        return
                    for batch in self._batches(kind, record.file, columns) if record.file else ():
                        kept = pc.and_(
                            pc.greater(batch["sequence"], after),
                            pc.less_equal(batch["sequence"], until),
                        )
                        if (rows := batch.filter(kept)).num_rows:
                            after = rows["sequence"][-1].as_py()
                            yield rows
                    after = record.until
                if after < until:
                    raise NotFoundError(
                        f"the archive of {kind} in {self.home.uri} ends at {after}, not at {until}"
                    )
                return
            except (
                NotFoundError
            ):  # a file was written again without somebody, under another name: look again
                if not patience:
                    raise

    def _batches(
        self, kind: str, file: str, columns: Sequence[str] | None
    ) -> Iterable[pa.RecordBatch]:
        with self.home.open(file) as stream:
            parquet = pq.ParquetFile(stream, page_checksum_verification=True)
            yield from parquet.iter_batches(_BATCH[kind], columns=columns)

    def _table(self, file: str) -> pa.Table:
        with self.home.open(file) as stream:
            return pq.read_table(stream, page_checksum_verification=True)

    def _column(self, file: str, name: str) -> pa.ChunkedArray:
        with self.home.open(file) as stream:
            return pq.ParquetFile(stream).read([name])[name]


def _parquet(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema, compression="zstd", write_page_checksum=True) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue()


def _batch(page: Sequence[Impression]) -> pa.RecordBatch:
    rows = []
    for shown in page:
        told, features = packed_impression(shown)
        ids = {"sequence": shown.sequence, "request_id": shown.request_id, "user_id": shown.user_id}
        rows.append({**ids, "time": shown.time, "told": told, "features": features})
    return pa.RecordBatch.from_pylist(rows, schema=NUMBERED_IMPRESSIONS)


def _impression(row: dict[str, Any]) -> Impression:
    return unpacked_impression(row["told"], row["features"], row["sequence"])
