"""The live event log in a Redis or Valkey server, for replicas on any number of hosts.

Streams `PREFIX:interactions` and `PREFIX:impressions` hold the log, numbered N-0;
`PREFIX:recent:DIGEST` a user's newest events by time; `PREFIX:event:DIGEST` and
`PREFIX:request:DIGEST` the ids that were seen. No key contains a user's id."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pyarrow as pa

from recsys.errors import InputError
from recsys.events import redis_scripts as scripts
from recsys.events.codec import (
    decode_impression,
    decode_interaction,
    encode_impression,
    encode_interaction,
    from_microseconds,
    keyed_digest,
    read_impressions,
    read_interactions,
    to_batch,
    to_microseconds,
)
from recsys.events.redis_client import call, connect, warn_unless_durable
from recsys.interfaces import AppendResult, LogPosition, LogState, UserEvents
from recsys.types import Impression, Interaction, PrivacyState

logger = logging.getLogger(__name__)

PAGE_ROWS, PAGE_IMPRESSIONS = 5_000, 200
#: Of what could not be used the newest is kept.
QUARANTINE_ROWS = 10_000
#: Streams by the names that `counts` and `traces` give them.
_STREAMS = {
    "interactions": "interactions",
    "impressions": "impressions",
    "quarantined": "quarantine",
}


class RedisEventStore:
    """An `EventStore` in the server at `url` (rediss:// for TLS, user and password inside), under
    keys `prefix`:...

    Nothing is connected before the first call; StoreDownError when the server does not answer
    within `timeout_s`. Ids are detected as duplicates for `remembered`, and `user_events` covers a
    user's newest RECENT_EVENTS for as long after the last of them. The factory is
    `partial(RedisEventStore, url)`; InputError where `url` is no address."""

    def __init__(
        self,
        url: str,
        prefix: str = "nightshelf",
        remembered: timedelta = timedelta(days=7),
        timeout_s: float = 2.0,
    ) -> None:
        self.prefix, self.remembered_s = prefix, int(remembered.total_seconds())
        self.client: Any = connect(url, timeout_s)
        self._key_bytes: bytes | None = None
        script = self.client.register_script
        self._append = script(scripts.APPEND)
        self._append_impressions = script(scripts.APPEND_IMPRESSIONS)
        self._find_user_entries = script(scripts.FIND_USER_ENTRIES)
        self._acknowledge = script(scripts.ACKNOWLEDGE)
        self._acquire_lease = script(scripts.ACQUIRE_LEASE)
        self._release_lease = script(scripts.RELEASE_LEASE)

    # The log

    def append(self, interactions: Sequence[Interaction]) -> AppendResult:
        rows: list[Any] = []
        for event in interactions:
            data = encode_interaction(event)
            user, time = self.digest(event.user_id), to_microseconds(event.time)
            rows += [self.digest(event.event_id), user, event.user_id, time, data]
        return AppendResult(*call(self._append, args=[self.prefix, self.remembered_s, *rows]))

    def append_impressions(self, impressions: Sequence[Impression]) -> None:
        rows: list[Any] = []
        for each in impressions:
            data, features = encode_impression(each)
            user = self.digest(each.user_id) if each.user_id is not None else ""
            request, time = self.digest(each.request_id), to_microseconds(each.time)
            rows += [request, user, each.user_id or "", time, data, features]
        call(self._append_impressions, args=[self.prefix, self.remembered_s, *rows])

    def user_events(self, user_id: str, after: datetime, limit: int) -> UserEvents:
        digest, later = self.digest(user_id), f"({to_microseconds(after)}"

        def read() -> list[Any]:
            with self.client.pipeline(transaction=True) as pipe:
                pipe.hget(self.key("standings"), digest)
                recent = self.key(f"recent:{digest}")
                pipe.zrevrangebyscore(recent, "+inf", later, start=0, num=max(limit, 0))
                return pipe.execute()

        state, newest_first = call(read)
        events = [decode_interaction(row[16:]) for row in reversed(newest_first)]
        return UserEvents(_privacy_state(state), events)

    def interactions(self, until_sequence: int, after: int = 0) -> Iterator[pa.RecordBatch]:
        return read_interactions(self, until_sequence, after)

    def impressions(self, after: int = 0) -> Iterator[Impression]:
        return read_impressions(self, after)

    def impression(self, request_id: str) -> Impression | None:
        number = call(self.client.get, self.key(f"request:{self.digest(request_id)}"))
        if number is None:
            return None
        _, entries = self._page("impressions", int(number) - 1, until=int(number), limit=1)
        return _impression(entries[0]) if entries else None

    def end(self) -> LogPosition:
        return self._position("last")

    def counts(self) -> dict[str, int]:
        return {name: call(self.client.xlen, self.key(stream)) for name, stream in _STREAMS.items()}

    def state(self) -> LogState:
        return LogState()

    def drain(self) -> int:
        return 0

    def close(self) -> None:
        self.client.close()

    # Quarantine and privacy

    def quarantine(self, rows: Sequence[tuple[str, dict[str, Any]]]) -> None:
        def write() -> None:
            with self.client.pipeline() as pipe:
                for reason, event in rows:
                    user = str(event.get("user_id") or "").encode("utf-8", "replace")
                    fields = {"u": user, "v": json.dumps([reason, event], default=str)}
                    pipe.xadd(self.key("quarantine"), fields, maxlen=QUARANTINE_ROWS)
                pipe.execute()

        call(write)

    def digest(self, user_id: str) -> str:
        return keyed_digest(self._digest_key(), user_id)

    def hasher(self) -> Callable[[str], str]:
        return partial(keyed_digest, self._digest_key())

    def privacy_state(self, user_id: str) -> PrivacyState:
        digest = self.digest(user_id)
        return _privacy_state(call(self.client.hget, self.key("standings"), digest))

    def set_privacy_state(self, user_id: str, state: PrivacyState) -> None:
        digest = self.digest(user_id)
        forgotten = "" if state.forgotten is None else to_microseconds(state.forgotten)
        value = f"{forgotten} {int(state.opted_out)}"
        call(self.client.hset, self.key("standings"), digest, value)

    def privacy_states(self) -> dict[str, PrivacyState]:
        values = call(self.client.hgetall, self.key("standings"))
        return {digest.decode(): _privacy_state(value) for digest, value in values.items()}

    def forget(self, user_id: str) -> dict[str, int]:
        deleted = {}
        for name, stream in _STREAMS.items():
            ids = self._user_entries(stream, user_id)
            for start in range(0, len(ids), 500):
                call(self.client.xdel, self.key(stream), *ids[start : start + 500])
            deleted[name] = len(ids)
        call(self.client.delete, self.key(f"recent:{self.digest(user_id)}"))
        try:
            call(self.client.bgrewriteaof)  # the append-only file still holds the rows
        except InputError as error:
            logger.warning(
                "the server's append-only file keeps what was forgotten until it is rewritten: %s",
                error,
            )
        return deleted

    def traces(self, user_id: str) -> dict[str, int]:
        rows = {name: len(self._user_entries(key, user_id)) for name, key in _STREAMS.items()}
        return {**rows, "interactions": max(rows["interactions"], self.user_event_count(user_id))}

    # For an archive

    def archived(self) -> LogPosition:
        return self._position("archived")

    def interaction_page(self, until: int, after: int) -> tuple[int, pa.RecordBatch]:
        archived, entries = self._page("interactions", after, until=until, limit=PAGE_ROWS)
        events = [decode_interaction(fields[b"v"]) for _, fields in entries]
        return archived, to_batch([_sequence(entry) for entry in entries], events)

    def impression_page(self, after: int) -> tuple[int, list[Impression]]:
        archived, entries = self._page("impressions", after, until=None, limit=PAGE_IMPRESSIONS)
        return archived, [_impression(entry) for entry in entries]

    def acknowledge(self, position: LogPosition) -> None:
        """Trims the streams; each user's recent events and the ids that were seen stay."""
        numbers = position.interactions, position.impressions
        call(self._acknowledge, args=[self.prefix, *numbers])

    def user_event_count(self, user_id: str) -> int:
        """Of events that are not archived, too: these keys hold both."""
        return int(call(self.client.zcard, self.key(f"recent:{self.digest(user_id)}")))

    def acquire_lease(self, token: str, seconds: float) -> bool:
        return bool(call(self._acquire_lease, [self.key("lease")], [token, int(seconds * 1000)]))

    def release_lease(self, token: str) -> None:
        call(self._release_lease, [self.key("lease")], [token])

    def key(self, name: str) -> str:
        """The server's key of this log's `name`."""
        return f"{self.prefix}:{name}"

    def _position(self, name: str) -> LogPosition:
        numbers = call(self.client.hmget, self.key(name), "interactions", "impressions")
        return LogPosition(*(int(number or 0) for number in numbers))

    def _page(
        self, stream: str, after: int, *, until: int | None, limit: int
    ) -> tuple[int, list[Any]]:
        """The number up to which the stream is archived, and its entries after `after`: read in one
        transaction."""
        last = "+" if until is None else f"{max(until, 0)}-0"

        def read() -> tuple[int, list[Any]]:
            with self.client.pipeline(transaction=True) as pipe:
                pipe.hget(self.key("archived"), stream)
                pipe.xrange(self.key(stream), f"({after}-0", last, count=limit)
                archived, entries = pipe.execute()
            return int(archived or 0), entries

        return call(read)

    def _user_entries(self, stream: str, user_id: str) -> list[bytes]:
        """The ids of the entries that name the user."""
        entries, start = list[bytes](), b"-"
        while start:
            last, ids = call(self._find_user_entries, [self.key(stream)], [start, user_id])
            entries += ids
            start = b"(" + last if last else b""
        return entries

    def _digest_key(self) -> bytes:
        """Made once, at random, by whoever opens the log first. Its first read also checks how the
        server keeps the log."""
        if self._key_bytes is None:
            name = self.key("key")
            call(self.client.set, name, secrets.token_bytes(32), nx=True)
            self._key_bytes = bytes(call(self.client.get, name))
            warn_unless_durable(self.client)
        return self._key_bytes


def _sequence(entry: Any) -> int:
    return int(entry[0].split(b"-")[0])


def _impression(entry: Any) -> Impression:
    return decode_impression(entry[1][b"v"], entry[1][b"f"], _sequence(entry))


def _privacy_state(value: bytes | None) -> PrivacyState:
    """From a value of the hash `standings`: "FORGOTTEN OPTED_OUT"."""
    if value is None:
        return PrivacyState()
    forgotten, _, opted_out = value.decode().partition(" ")
    return PrivacyState(from_microseconds(int(forgotten)) if forgotten else None, opted_out == "1")
