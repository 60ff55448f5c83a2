"""An event log in two parts, read as one: a live store, and its older rows as Parquet in the shop's
home (`archive_files`)."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from recsys.errors import InputError, RecsysError, StoreDownError
from recsys.events.archive_files import (
    KINDS,
    ArchiveFiles,
    Segment,
    to_impression,
    to_impression_batch,
)
from recsys.interfaces import AppendResult, ArchivableStore, LogPosition, LogState, UserEvents
from recsys.storage.artifacts import ArtifactStore
from recsys.tables import LIVE_EVENTS
from recsys.types import Impression, Interaction, PrivacyState

#: Rows of one segment, at most a page more.
SEGMENT_ROWS = LogPosition(interactions=200_000, impressions=10_000)
#: The lease of a drainer that died ends after so long.
LEASE_S = 60.0


class ArchivedEventLog:
    """An `EventStore` of the rows that were drained from `live` into `home` and those that were
    not yet.

    The factory is `partial(ArchivedEventLog, partial(RedisEventStore, url), home)`."""

    def __init__(self, live: Callable[[], ArchivableStore], home: str) -> None:
        self.live, self.home = live(), ArtifactStore(home)
        self.files = ArchiveFiles(self.home)
        self._forget_lock = threading.Lock()

    # Delegated to the live log

    def append(self, interactions: Sequence[Interaction]) -> AppendResult:
        assert self._is_synchronised
        return self.live.append(interactions)

    def append_impressions(self, impressions: Sequence[Impression]) -> None:
        assert self._is_synchronised
        self.live.append_impressions(impressions)

    def quarantine(self, rows: Sequence[tuple[str, dict[str, Any]]]) -> None:
        self.live.quarantine(rows)

    def user_events(self, user_id: str, after: datetime, limit: int) -> UserEvents:
        return self.live.user_events(user_id, after, limit)

    def digest(self, user_id: str) -> str:
        return self.live.digest(user_id)

    def hasher(self) -> Callable[[str], str]:
        return self.live.hasher()

    def privacy_state(self, user_id: str) -> PrivacyState:
        return self.live.privacy_state(user_id)

    def set_privacy_state(self, user_id: str, state: PrivacyState) -> None:
        self.live.set_privacy_state(user_id, state)

    def privacy_states(self) -> dict[str, PrivacyState]:
        return self.live.privacy_states()

    def state(self) -> LogState:
        return self.live.state()

    def close(self) -> None:
        self.live.close()

    # Reading both parts as one

    def end(self) -> LogPosition:
        live, archived = self.live.end(), self.live.archived()
        return LogPosition(
            max(live.interactions, archived.interactions),
            max(live.impressions, archived.impressions),
        )

    def interactions(self, until_sequence: int, after: int = 0) -> Iterator[pa.RecordBatch]:
        while True:
            archived, page = self.live.interaction_page(until_sequence, after)
            if archived > after:  # rows went to the archive meanwhile: the page may lack them
                for batch in self.files.rows("interactions", after, min(archived, until_sequence)):
                    yield batch.select(LIVE_EVENTS.names)
                after = archived
            elif page.num_rows:
                after = page["sequence"][-1].as_py()
                yield page.select(LIVE_EVENTS.names)
            else:
                return

    def impressions(self, after: int = 0) -> Iterator[Impression]:
        while True:
            archived, page = self.live.impression_page(after)
            if archived > after:
                for batch in self.files.rows("impressions", after, archived):
                    yield from map(to_impression, batch.to_pylist())
                after = archived
            elif page:
                after = page[-1].sequence
                yield from page
            else:
                return

    def impression(self, request_id: str) -> Impression | None:
        return self.live.impression(request_id) or self.files.impression(request_id)

    def counts(self) -> dict[str, int]:
        self._synchronise()
        counts = self.live.counts()
        for kind, until in vars(self.live.archived()).items():
            batches = self.files.rows(kind, 0, until, ["sequence"])
            counts[kind] += sum(batch.num_rows for batch in batches)
        return counts

    # Draining

    def drain(self) -> int:
        """Moves what the live log holds now into the archive; how many rows. 0 where another
        drainer is at work.

        Killed at any point: the rows are in the live log until a segment is committed, and are read
        from there."""
        with self._lease() as token:
            if token is None:
                return 0
            self._synchronise()
            self.files.remove_uncommitted()
            return sum(self._drain_kind(kind, token) for kind in KINDS)

    def _drain_kind(self, kind: str, token: str) -> int:
        until, moved = vars(self.live.end())[kind], 0
        while (after := vars(self.live.archived())[kind]) < until:
            batches, rows, last = list[pa.RecordBatch](), 0, after
            while rows < vars(SEGMENT_ROWS)[kind]:
                page = self._page(kind, until, last)
                if not page.num_rows:
                    break
                batches.append(page)
                rows, last = rows + page.num_rows, page["sequence"][-1].as_py()
            if not rows:
                break
            self._commit(self.files.write(kind, after, last, batches), token)
            self.live.acknowledge(LogPosition(**{kind: last}))
            moved += rows
        return moved

    def _page(self, kind: str, until: int, after: int) -> pa.RecordBatch:
        if kind == "interactions":
            return self.live.interaction_page(until, after)[1]
        return to_impression_batch(self.live.impression_page(after)[1])

    def _commit(self, segment: Segment, token: str) -> None:
        if not self.live.acquire_lease(token, LEASE_S):
            raise StoreDownError(
                f"draining the log took over {LEASE_S:.0f} s and another began: nothing is lost"
            )
        self.files.commit(segment)

    @cached_property
    def _is_synchronised(self) -> bool:
        """Before the first append: the live log may be a new one beside an old archive."""
        self._synchronise()
        return True

    def _synchronise(self) -> None:
        """Acknowledges what a drainer committed before it was killed; a live log that is new is
        numbered on from the archive's end."""
        archived, live = self.live.archived(), self.live.end()
        committed = LogPosition(*(self._committed(kind, archived) for kind in KINDS))
        if any(0 < vars(live)[kind] < vars(committed)[kind] for kind in KINDS):
            raise InputError(
                f"the archive in {self.home.uri} ends at {committed} and the live log at {live}: "
                "its server lost rows; give it another prefix, so that it begins anew, and move "
                "the folder log/ away"
            )
        if committed != archived:
            self.live.acknowledge(committed)

    def _committed(self, kind: str, archived: LogPosition) -> int:
        """Where the segments that lead on from what is acknowledged end."""
        after = vars(archived)[kind]
        return max([after, *(each.until for each in self.files.continuation(kind, after))])

    @contextmanager
    def _lease(self) -> Iterator[str | None]:
        """A token that holds the lease, renewed while at work; None where another holds it."""
        token, finished = uuid.uuid4().hex, threading.Event()
        if not self.live.acquire_lease(token, LEASE_S):
            yield None
            return

        def renew() -> None:
            while not finished.wait(LEASE_S / 6):
                with suppress(RecsysError):
                    self.live.acquire_lease(token, LEASE_S)

        thread = threading.Thread(target=renew, daemon=True)
        thread.start()
        try:
            yield token
        finally:
            finished.set()
            thread.join()
            with suppress(RecsysError):
                self.live.release_lease(token)

    # Forgetting

    def traces(self, user_id: str) -> dict[str, int]:
        self._synchronise()
        rows = self.live.traces(user_id)
        rows["interactions"] = self._live_interactions(user_id)
        for kind in KINDS:
            for file in {segment.file for segment in self.files.segments(kind)} - {None}:
                rows[kind] += self.files.count_user(str(file), user_id)
        rows["interactions"] = max(rows["interactions"], self.live.user_event_count(user_id))
        return rows

    def forget(self, user_id: str) -> dict[str, int]:
        with self._forget_lock, self._lease() as token:
            if token is None:
                raise StoreDownError(
                    "the log is being drained: ask again in a minute, nothing was deleted"
                )
            deleted = self.traces(user_id)
            self.live.forget(user_id)
            for segment in [each for kind in KINDS for each in self.files.segments(kind)]:
                if segment.file and self.files.count_user(segment.file, user_id):
                    self.files.remove_user(segment, user_id)
            self.files.remove_uncommitted()
        return deleted

    def _live_interactions(self, user_id: str) -> int:
        """The user's rows that are not archived."""
        rows, after, until = 0, self.live.archived().interactions, self.live.end().interactions
        while (page := self.live.interaction_page(until, after)[1]).num_rows:
            rows += pc.sum(pc.equal(page["user_id"], user_id)).as_py() or 0
            after = page["sequence"][-1].as_py()
        return rows
