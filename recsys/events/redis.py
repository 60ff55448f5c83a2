"""The live event log in Redis or Valkey, for replicas on many hosts: streams, and each user's newest events."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import pyarrow as pa

from recsys.errors import InputError, StoreDownError
from recsys.events.rows import (
    digest_under,
    impression_of_row,
    impression_row,
    interaction_of,
    interaction_row,
    interactions_table,
    microseconds,
    moment,
)
from recsys.interfaces import Appended
from recsys.tables import LIVE_EVENTS
from recsys.types import Impression, Interaction, Standing

T = TypeVar("T")
logger = logging.getLogger(__name__)

PAGE_ROWS = 5_000
#: A user's newest events that `recent` can give.
RECENT = 500
#: Rows of the quarantine that are kept.
QUARANTINED = 100_000
DAY_S = 86_400

# One script an append: all of it or nothing, and nobody in between. Keys that hang on a user are named inside; the
# braces of the prefix keep all of a log in one slot of a Redis Cluster.
_ALLOWED = """
local function allowed(digest, at)
  local decided = digest ~= '' and redis.call('HGET', prefix .. 'standings', digest)
  if not decided then return true end
  local forgotten, opted_out = string.match(decided, '^(%-?%d*)|(%d)$')
  return opted_out == '0' and (forgotten == '' or tonumber(at) > tonumber(forgotten))
end
"""
_APPEND = (
    "#!lua\nlocal prefix, keep_s, recent = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])\n"
    + _ALLOWED
    + """
local now, counts = redis.call('TIME')[1], {0, 0, 0}
for i = 3, #ARGV, 5 do
  local event, user, digest, at, row = unpack(ARGV, i, i + 4)
  if not allowed(digest, at) then counts[3] = counts[3] + 1
  elseif redis.call('ZADD', prefix .. 'seen', 'NX', now, event) == 0 then counts[2] = counts[2] + 1
  else
    local sequence, key = redis.call('INCR', prefix .. 'interactions:last'), prefix .. 'user:' .. user
    redis.call('XADD', prefix .. 'interactions', sequence .. '-0', 'user', user, 'row', row)
    redis.call('ZADD', key, at, string.format('%016d', sequence) .. row)
    redis.call('ZREMRANGEBYRANK', key, 0, -recent - 1)
    redis.call('EXPIRE', key, keep_s)
    counts[1] = counts[1] + 1
  end
end
return counts
"""
)
_SHOW = (
    "#!lua\nlocal prefix = KEYS[1]\n"
    + _ALLOWED
    + """
local now = redis.call('TIME')[1]
for i = 1, #ARGV, 5 do
  local request, user, digest, at, row = unpack(ARGV, i, i + 4)
  if allowed(digest, at) and redis.call('ZADD', prefix .. 'shown', 'NX', now, request) == 1 then
    local sequence = redis.call('INCR', prefix .. 'impressions:last')
    redis.call('HSET', prefix .. 'requests', request, sequence)
    redis.call('XADD', prefix .. 'impressions', sequence .. '-0', 'user', user, 'request', request, 'row', row)
  end
end
"""
)
_BEGIN = """#!lua
if tonumber(redis.call('GET', KEYS[1]) or 0) < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], ARGV[1]) end
"""
_STREAMS = {"interactions": "interactions", "impressions": "impressions", "quarantined": "quarantine"}


class RedisEventStore:
    """An `EventStore` on the server at `url` (redis:// or rediss://), under keys that begin with `prefix`.

    What an append acknowledged survives kill -9 of the server only with `appendonly yes` and `appendfsync always`:
    opening warns where it is otherwise. Events and impressions stay until they are `trim`med; ids of events and
    answers are known for `keep_days`, and so long after his last event a user's newest RECENT are kept.
    Raises StoreDownError when the server does not answer within `timeout_s`.
    """

    def __init__(self, url: str, prefix: str = "nightshelf", keep_days: float = 30, timeout_s: float = 1.0) -> None:
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError:
            raise InputError(
                "an event log in Redis needs its client: pip install 'nightshelf[redis]', or use SQLite"
            ) from None
        self.url, self.prefix, self._keep_s = url, f"{{{prefix}}}:", int(keep_days * DAY_S)
        self._down = (redis.ConnectionError, redis.TimeoutError, redis.exceptions.ReadOnlyError)
        self._client: Any = redis.Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            health_check_interval=30,
            retry=Retry(NoBackoff(), 1),  # once, on a new connection: the server may have been restarted
        )
        self._append = self._client.register_script(_APPEND)
        self._show = self._client.register_script(_SHOW)
        self._begin = self._client.register_script(_BEGIN)
        try:
            self._key = self._reached(self._own_key)
            self._warn_unless_durable()
        except BaseException:
            self.close()
            raise

    def append(self, interactions: Sequence[Interaction]) -> Appended:
        try:
            rows = [
                (e.event_id.encode(), e.user_id, self.digest(e.user_id), microseconds(e.time), interaction_row(e))
                for e in interactions
            ]
        except UnicodeEncodeError as error:
            raise self._refused(len(interactions), "interactions", error) from error
        if not rows:
            return Appended(0, 0)
        values = [value for row in rows for value in row]
        return Appended(*self._reached(self._append, [self.prefix], [self._keep_s, RECENT, *values]))

    def append_impressions(self, impressions: Sequence[Impression]) -> None:
        try:
            rows = [
                (
                    i.request_id.encode(), i.user_id or "", self.digest(i.user_id) if i.user_id else "",
                    microseconds(i.time), impression_row(i),
                )
                for i in impressions
            ]  # fmt: skip
        except UnicodeEncodeError as error:
            raise self._refused(len(impressions), "impressions", error) from error
        if rows:
            self._reached(self._show, [self.prefix], [value for row in rows for value in row])

    def quarantine(self, rows: Sequence[tuple[str, dict[str, Any]]]) -> None:
        def add() -> None:
            with self._client.pipeline(transaction=True) as pipeline:
                for reason, event in rows:
                    told = {
                        "user": event.get("user_id") or "",
                        "reason": reason,
                        "event": json.dumps(event, default=str),
                    }
                    fields: Any = {name: str(value).encode("utf-8", "replace") for name, value in told.items()}
                    pipeline.xadd(self._named("quarantine"), fields, maxlen=QUARANTINED, approximate=True)
                pipeline.execute()

        self._reached(add)

    def recent(self, user_id: str, after: datetime, limit: int) -> list[Interaction]:
        if limit <= 0:
            return []
        bounds = "+inf", f"({microseconds(after)}"
        key = self._named(f"user:{user_id}")
        newest_first = self._reached(self._client.zrevrangebyscore, key, *bounds, start=0, num=limit)
        return [interaction_of(row[16:]) for row in reversed(newest_first)]

    def last_sequence(self) -> int:
        return int(self._reached(self._client.get, self._named("interactions:last")) or 0)

    def last_impression(self) -> int:
        return int(self._reached(self._client.get, self._named("impressions:last")) or 0)

    def interactions(self, until_sequence: int, after: int = 0) -> Iterator[pa.RecordBatch]:
        for batch in self.numbered(until_sequence, after):
            yield batch.select(LIVE_EVENTS.names)

    def numbered(self, until_sequence: int, after: int = 0) -> Iterator[pa.RecordBatch]:
        """`interactions` with one more column, `sequence`."""
        for page in self._pages("interactions", after, until_sequence):
            yield interactions_table([fields[b"row"] for _, fields in page], [sequence for sequence, _ in page])

    def impressions(self, after: int = 0) -> Iterator[Impression]:
        for page in self._pages("impressions", after, self.last_impression()):
            yield from (impression_of_row(fields[b"row"], sequence) for sequence, fields in page)

    def impression(self, request_id: str) -> Impression | None:
        sequence = self._reached(self._client.hget, self._named("requests"), request_id.encode("utf-8", "replace"))
        if sequence is None:
            return None
        only = int(sequence)
        page = next(self._pages("impressions", only - 1, only), [])
        return impression_of_row(page[0][1][b"row"], only) if page else None

    def counts(self) -> dict[str, int]:
        return {name: int(self._reached(self._client.xlen, self._named(key))) for name, key in _STREAMS.items()}

    def digest(self, user_id: str) -> str:
        return digest_under(self._key, user_id)

    def hasher(self) -> Callable[[str], str]:
        return partial(digest_under, self._key)

    def standing(self, user_id: str) -> Standing:
        decided = self._reached(self._client.hget, self._named("standings"), self.digest(user_id))
        return _standing(decided) if decided else Standing()

    def set_standing(self, user_id: str, standing: Standing) -> None:
        forgotten = "" if standing.forgotten is None else microseconds(standing.forgotten)
        decided = f"{forgotten}|{int(standing.opted_out)}"
        self._reached(self._client.hset, self._named("standings"), self.digest(user_id), decided)

    def standings(self) -> dict[str, Standing]:
        decided = self._reached(self._client.hgetall, self._named("standings"))
        return {digest.decode(): _standing(told) for digest, told in decided.items()}

    def forget(self, user_id: str) -> dict[str, int]:
        gone = {}
        for name, key in _STREAMS.items():
            found = list(self._naming(key, user_id))
            for page in [found[at : at + PAGE_ROWS] for at in range(0, len(found), PAGE_ROWS)]:
                self._reached(self._client.xdel, self._named(key), *(entry for entry, _ in page))
                if requests := [fields[b"request"] for _, fields in page if b"request" in fields]:
                    self._reached(self._client.hdel, self._named("requests"), *requests)
            gone[name] = len(found)
        self._reached(self._client.delete, self._named(f"user:{user_id}"))
        return gone

    def traces(self, user_id: str) -> dict[str, int]:
        found = {name: sum(1 for _ in self._naming(key, user_id)) for name, key in _STREAMS.items()}
        kept = int(self._reached(self._client.zcard, self._named(f"user:{user_id}")))
        return found | {"interactions": max(found["interactions"], kept)}

    def trim(self, interactions: int, impressions: int) -> None:
        """Lets go of what an archive has taken: interactions and impressions up to these sequences.

        Each user's newest events, and the ids of events and answers, stay for `keep_days`.
        """

        def let_go() -> None:
            before = int(self._client.time()[0]) - self._keep_s
            self._client.zremrangebyscore(self._named("seen"), "-inf", before)
            self._client.zremrangebyscore(self._named("shown"), "-inf", before)
            self._client.xtrim(self._named("interactions"), minid=f"{interactions + 1}-0", approximate=False)
            self._client.xtrim(self._named("impressions"), minid=f"{impressions + 1}-0", approximate=False)

        for page in self._pages("impressions", 0, impressions):
            self._reached(self._client.hdel, self._named("requests"), *(fields[b"request"] for _, fields in page))
        self._reached(let_go)

    def begin_at(self, interactions: int, impressions: int) -> None:
        """What comes next gets sequences above these."""
        for key, last in (("interactions", interactions), ("impressions", impressions)):
            self._reached(self._begin, [self._named(f"{key}:last")], [last])

    def claim(self, name: str, value: str) -> str:
        """What was claimed under the name first: this value, if nothing was."""

        def claimed() -> bytes:
            self._client.hsetnx(self._named("claims"), name, value)
            return bytes(self._client.hget(self._named("claims"), name))

        return self._reached(claimed).decode()

    def close(self) -> None:
        self._client.close()

    def _named(self, key: str) -> bytes:
        return f"{self.prefix}{key}".encode("utf-8", "replace")

    def _own_key(self) -> bytes:
        """Made once, at random, by whoever opens the log first."""
        self._client.set(self._named("key"), secrets.token_bytes(32), nx=True)
        return bytes(self._client.get(self._named("key")))

    def _warn_unless_durable(self) -> None:
        import redis

        try:
            told = self._client.config_get("appendonly", "appendfsync")
        except redis.RedisError:
            told = {}
        if (told.get("appendonly"), told.get("appendfsync")) != ("yes", "always"):
            logger.warning(
                "the event log in Redis can lose acknowledged events when its server dies (appendonly %s, appendfsync "
                "%s): set appendonly yes and appendfsync always",
                told.get("appendonly", "unknown"),
                told.get("appendfsync", "unknown"),
            )

    def _pages(self, key: str, after: int, until: int) -> Iterator[list[tuple[int, dict[bytes, bytes]]]]:
        """Entries of a stream by sequence, after `after`, up to and with `until`."""
        while after < until:
            low, high = f"{after + 1}-0", f"{until}-0"
            page = self._reached(self._client.xrange, self._named(key), low, high, count=PAGE_ROWS)
            if not page:
                return
            yield [(int(entry.split(b"-")[0]), fields) for entry, fields in page]
            after = int(page[-1][0].split(b"-")[0])

    def _naming(self, key: str, user_id: str) -> Iterator[tuple[bytes, dict[bytes, bytes]]]:
        """Entries of a stream that name the user: all are looked at."""
        user, low = user_id.encode("utf-8", "replace"), "-"
        while page := self._reached(self._client.xrange, self._named(key), low, "+", count=PAGE_ROWS):
            yield from ((entry, fields) for entry, fields in page if fields[b"user"] == user)
            low = f"({page[-1][0].decode()}"

    def _reached(self, call: Callable[..., T], *arguments: Any, **named: Any) -> T:
        try:
            return call(*arguments, **named)
        except self._down as error:
            place = self.url.rpartition("@")[2]
            raise StoreDownError(
                f"the event log at {place} does not answer ({error}): start its Redis server, or look at the network"
            ) from error

    def _refused(self, rows: int, what: str, error: Exception) -> InputError:
        return InputError(f"none of {rows} {what} was written ({error}): check them first")


def _standing(decided: bytes) -> Standing:
    forgotten, _, opted_out = decided.decode().partition("|")
    return Standing(moment(int(forgotten)) if forgotten else None, opted_out == "1")
