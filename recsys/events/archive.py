"""The past of a live event log as Parquet by day, in the shop's home; archive and log are read as one.

log/<table>/day=2026-11-28/<first>-<last>-<run>.parquet   rows of one day, by sequence
log/<table>/taken/<after>-<run>.json                      what one drain took, written after its files

A file that no record names does not exist. A drain begins where the last record ends; of two that begin at one place
the live log says which counts, and the other gives up. The live log is trimmed last, and up to the last record only
the archive is read: a crash anywhere loses and doubles nothing.
"""

from __future__ import annotations

import io
import json
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.artifacts import ArtifactStore
from recsys.events.rows import IMPRESSIONS, NUMBERED, impression_columns, impression_of
from recsys.interfaces import Appended, EventStore
from recsys.tables import LIVE_EVENTS
from recsys.types import Impression, Interaction, Standing

INTERACTIONS_TABLE, IMPRESSIONS_TABLE = "interactions", "impressions"
#: Rows of one drain that are in memory at once, and of one file.
ROWS = 50_000


class Trimmed(EventStore, Protocol):
    """An event store that can let go of its past."""

    def trim(self, interactions: int, impressions: int) -> None:
        """May let go of interactions and impressions up to these sequences."""
        ...

    def begin_at(self, interactions: int, impressions: int) -> None:
        """What comes next gets sequences above these: a log that lost its data goes on where the archive ends."""
        ...

    def claim(self, name: str, value: str) -> str:
        """What was claimed under the name first: this value, if nothing was."""
        ...

    def numbered(self, until_sequence: int, after: int = 0) -> Iterator[pa.RecordBatch]:
        """`interactions` with one more column, `sequence`."""
        ...


@dataclass(frozen=True)
class Taken:
    """One drain of one table: rows of sequences after `after`, up to and with `until`, and their files."""

    path: str
    after: int
    until: int
    files: tuple[str, ...]


class ArchivedEventStore:
    """`live`, and what was drained from it into `home`, as one `EventStore`.

    `drain` moves what is there to the archive; everything else is the live log's, but for what reads the past.
    """

    def __init__(self, live: Callable[[], Trimmed], home: str, cache: str | None = None) -> None:
        self.live, self.store = live(), ArtifactStore(home, cache)
        self.live.begin_at(self._until(INTERACTIONS_TABLE), self._until(IMPRESSIONS_TABLE))

    # The past

    def drain(self) -> dict[str, int]:
        """Takes what the log holds now into the archive, then trims the log; how many rows of each table that were.

        Another drain at the same time makes this one give up on what the other took.
        """
        taken = {
            INTERACTIONS_TABLE: self._take(INTERACTIONS_TABLE, self.live.last_sequence(), NUMBERED, self._interactions),
            IMPRESSIONS_TABLE: self._take(
                IMPRESSIONS_TABLE, self.live.last_impression(), IMPRESSIONS, self._impressions
            ),
        }
        self.live.trim(self._until(INTERACTIONS_TABLE), self._until(IMPRESSIONS_TABLE))
        return taken

    def _take(
        self, table: str, until: int, schema: pa.Schema, read: Callable[[int, int], Iterator[pa.RecordBatch]]
    ) -> int:
        for known in self._records(table):  # one that nobody claimed: its drain was killed before it could
            self._claim(table, known.after, known.path)
        after, files, rows = self._until(table), list[str](), 0
        if until <= after:
            return 0
        for batch in read(after, until):
            rows += batch.num_rows
            files += self._write(table, pa.Table.from_batches([batch], schema))
        path = f"log/{table}/taken/{after:016d}-{uuid.uuid4().hex[:8]}.json"
        self.store.write(path, json.dumps({"after": after, "until": until, "files": files}).encode())
        return rows if self._claim(table, after, path) == path else 0

    def _claim(self, table: str, after: int, path: str) -> str:
        return self.live.claim(f"{table} after {after}", path)

    def _write(self, table: str, rows: pa.Table) -> Iterator[str]:
        days = pc.strftime(rows["time"], "%Y-%m-%d")
        for day in sorted(pc.unique(days).to_pylist()):
            part, sink = rows.filter(pc.equal(days, day)), pa.BufferOutputStream()
            pq.write_table(part, sink, compression="zstd")
            first, last = part["sequence"][0].as_py(), part["sequence"][-1].as_py()
            path = f"log/{table}/day={day}/{first:016d}-{last:016d}-{uuid.uuid4().hex[:8]}.parquet"
            self.store.write(path, sink.getvalue())
            yield path

    def _interactions(self, after: int, until: int) -> Iterator[pa.RecordBatch]:
        return self.live.numbered(until, after)

    def _impressions(self, after: int, until: int) -> Iterator[pa.RecordBatch]:
        waiting: list[Impression] = []
        for shown in self.live.impressions(after):
            if shown.sequence > until:
                break
            waiting.append(shown)
            if len(waiting) * 20 >= ROWS:
                yield _table(waiting)
                waiting = []
        if waiting:
            yield _table(waiting)

    def _records(self, table: str) -> list[Taken]:
        """In order, each beginning where the one before it ends."""
        rivals: dict[int, list[Taken]] = defaultdict(list)
        for path in self.store.files(f"log/{table}/taken"):
            told = json.loads(self.store.read(path))
            rivals[told["after"]].append(Taken(path, told["after"], told["until"], tuple(told["files"])))
        records, end = list[Taken](), 0
        while end in rivals:
            found = rivals[end]
            winner = found[0].path if len(found) == 1 else self._claim(table, end, found[0].path)
            records += [taken for taken in found if taken.path == winner]
            end = records[-1].until
        return records

    def _until(self, table: str) -> int:
        return max((taken.until for taken in self._records(table)), default=0)

    def _archived(self, table: str, after: int, until: int) -> Iterator[pa.Table]:
        """Rows of the archive by sequence, a drain at a time."""
        for taken in self._records(table):
            if taken.until <= after or taken.after >= until:
                continue
            if taken.files:
                rows = pa.concat_tables([self._read(path) for path in taken.files]).sort_by("sequence")
                inside = pc.and_(pc.greater(rows["sequence"], after), pc.less_equal(rows["sequence"], until))
                yield rows.filter(inside)

    def _read(self, path: str) -> pa.Table:
        return pq.read_table(io.BytesIO(self.store.read(path)))

    # Reading both

    def last_sequence(self) -> int:
        return self.live.last_sequence()

    def last_impression(self) -> int:
        return self.live.last_impression()

    def interactions(self, until_sequence: int, after: int = 0) -> Iterator[pa.RecordBatch]:
        archived = self._until(INTERACTIONS_TABLE)
        for table in self._archived(INTERACTIONS_TABLE, after, min(until_sequence, archived)):
            yield from table.select(LIVE_EVENTS.names).cast(LIVE_EVENTS).to_batches(max_chunksize=10_000)
        if until_sequence > archived:
            yield from self.live.interactions(until_sequence, max(after, archived))

    def impressions(self, after: int = 0) -> Iterator[Impression]:
        archived = self._until(IMPRESSIONS_TABLE)
        for table in self._archived(IMPRESSIONS_TABLE, after, archived):
            yield from map(impression_of, table.to_pylist())
        yield from self.live.impressions(max(after, archived))

    def impression(self, request_id: str) -> Impression | None:
        """From the archive too, file by file, the newest first."""
        if found := self.live.impression(request_id):
            return found
        for taken in reversed(self._records(IMPRESSIONS_TABLE)):
            for path in taken.files:
                rows = self._read(path)
                if (row := rows.filter(pc.equal(rows["request_id"], request_id))).num_rows:
                    return impression_of(row.to_pylist()[0])
        return None

    def counts(self) -> dict[str, int]:
        known = self.live.counts()
        for table in (INTERACTIONS_TABLE, IMPRESSIONS_TABLE):
            live, until = known[table], self._until(table)
            archived = sum(self._read(path).num_rows for taken in self._records(table) for path in taken.files)
            known[table] = archived + live - self._not_trimmed(table, until)
        return known

    def _not_trimmed(self, table: str, until: int) -> int:
        """Rows that are in the archive and in the log still: a drain was killed before it trimmed."""
        if table == INTERACTIONS_TABLE:
            return sum(batch.num_rows for batch in self.live.interactions(until))
        return sum(1 for shown in self.live.impressions() if shown.sequence <= until)

    # Forgetting

    def forget(self, user_id: str) -> dict[str, int]:
        gone = self.live.forget(user_id)
        for table in (INTERACTIONS_TABLE, IMPRESSIONS_TABLE):
            for taken in self._records(table):
                for path in taken.files:
                    gone[table] += self._blank(path, user_id)
        return gone

    def _blank(self, path: str, user_id: str) -> int:
        rows = self._read(path)
        kept = rows.filter(pc.fill_null(pc.not_equal(rows["user_id"], user_id), True))
        if kept.num_rows < rows.num_rows:
            sink = pa.BufferOutputStream()
            pq.write_table(kept, sink, compression="zstd")
            self.store.write(path, sink.getvalue())
        return rows.num_rows - kept.num_rows

    def traces(self, user_id: str) -> dict[str, int]:
        left = self.live.traces(user_id)
        for table in (INTERACTIONS_TABLE, IMPRESSIONS_TABLE):
            users = (self._read(path)["user_id"] for taken in self._records(table) for path in taken.files)
            left[table] += sum(pc.sum(pc.equal(column, user_id)).as_py() or 0 for column in users)
        return left

    # The live log's own

    def append(self, interactions: Sequence[Interaction]) -> Appended:
        return self.live.append(interactions)

    def append_impressions(self, impressions: Sequence[Impression]) -> None:
        self.live.append_impressions(impressions)

    def quarantine(self, rows: Sequence[tuple[str, dict[str, Any]]]) -> None:
        self.live.quarantine(rows)

    def recent(self, user_id: str, after: datetime, limit: int) -> list[Interaction]:
        return self.live.recent(user_id, after, limit)

    def digest(self, user_id: str) -> str:
        return self.live.digest(user_id)

    def hasher(self) -> Callable[[str], str]:
        return self.live.hasher()

    def standing(self, user_id: str) -> Standing:
        return self.live.standing(user_id)

    def set_standing(self, user_id: str, standing: Standing) -> None:
        self.live.set_standing(user_id, standing)

    def standings(self) -> dict[str, Standing]:
        return self.live.standings()

    def close(self) -> None:
        self.live.close()


def _table(shown: Sequence[Impression]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([impression_columns(each) for each in shown], IMPRESSIONS)
