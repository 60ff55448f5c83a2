"""The live event log in a Redis or Valkey server, for replicas on any number of hosts.

Streams `PREFIX:interactions` and `PREFIX:impressions` hold the log, numbered N-0;
`PREFIX:recent:DIGEST` a user's newest events by time; `PREFIX:event:DIGEST` and
`PREFIX:request:DIGEST` what was seen before. No key names anybody."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import pyarrow as pa

from recsys.errors import InputError, StoreDownError
from recsys.events.rows import (
    batch_of,
    digest_under,
    impressions_of,
    interactions_of,
    microseconds,
    moment,
    packed,
    packed_impression,
    unpacked,
    unpacked_impression,
)
from recsys.interfaces import Appended, LogState
from recsys.types import Impression, Interaction, PrivacyState

T = TypeVar("T")
logger = logging.getLogger(__name__)

PAGE_ROWS, PAGE_IMPRESSIONS = 5_000, 200
#: What could not be used is kept for a person to look at: the newest of it.
QUARANTINED = 10_000
#: A user's events that `recent` can give.
RECENT = 1_000

_ALLOWED = """
local standings = {}
local function allowed(digest, time)
  if digest == '' then return true end
  local said = standings[digest]
  if said == nil then
    said = redis.call('HGET', ARGV[1] .. ':standings', digest)
    standings[digest] = said
  end
  if not said then return true end
  local forgotten, out = string.match(said, '^(-?%d*) (%d)$')
  return out == '0' and (forgotten == '' or tonumber(time) > tonumber(forgotten))
end
local function number(stream) return string.format('%.0f', redis.call('HINCRBY', ARGV[1] .. ':last', stream, 1)) end
"""
#: A script is one step for every other client, and one transaction in the append-only file.
_APPEND = f"""{_ALLOWED}
local accepted, duplicates, dropped = 0, 0, 0
for i = 3, #ARGV, 5 do
  local seen, user, name, time, row = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  if not allowed(user, time) then dropped = dropped + 1
  elseif not redis.call('SET', ARGV[1] .. ':event:' .. seen, 1, 'NX', 'EX', ARGV[2]) then duplicates = duplicates + 1
  else
    local n, recent = number('interactions'), ARGV[1] .. ':recent:' .. user
    redis.call('XADD', ARGV[1] .. ':interactions', n .. '-0', 'u', name, 'v', row)
    redis.call('ZADD', recent, time, string.rep('0', 16 - #n) .. n .. row)
    redis.call('ZREMRANGEBYRANK', recent, 0, -{RECENT + 1})
    redis.call('EXPIRE', recent, ARGV[2])
    accepted = accepted + 1
  end
end
return {{accepted, duplicates, dropped}}
"""
_SHOW = f"""{_ALLOWED}
for i = 3, #ARGV, 6 do
  local seen = ARGV[1] .. ':request:' .. ARGV[i]
  if allowed(ARGV[i + 1], ARGV[i + 3]) and redis.call('EXISTS', seen) == 0 then
    local n = number('impressions')
    redis.call('SET', seen, n, 'EX', ARGV[2])
    redis.call('XADD', ARGV[1] .. ':impressions', n .. '-0', 'u', ARGV[i + 2], 'v', ARGV[i + 4], 'f', ARGV[i + 5])
  end
end
"""
#: The ids of a user's entries among the next 500, and where to go on ('' at the end).
_NAMED = """
local found, last = {}, ''
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', 500)) do
  if entry[2][2] == ARGV[2] then found[#found + 1] = entry[1] end
  last = entry[1]
end
return {last, found}
"""
_ACKNOWLEDGE = """
for _, stream in ipairs({'interactions', 'impressions'}) do
  local until_ = ARGV[stream == 'interactions' and 2 or 3]
  if tonumber(until_) > tonumber(redis.call('HGET', ARGV[1] .. ':archived', stream) or '0') then
    redis.call('HSET', ARGV[1] .. ':archived', stream, until_)
    if tonumber(until_) > tonumber(redis.call('HGET', ARGV[1] .. ':last', stream) or '0') then
      redis.call('HSET', ARGV[1] .. ':last', stream, until_)
    end
    redis.call('XTRIM', ARGV[1] .. ':' .. stream, 'MINID', '=', string.format('%.0f', tonumber(until_) + 1))
  end
end
"""
_LEASE = """
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


class RedisEventStore:
    """An `EventStore` in the server at `url` (rediss:// for TLS, user and password inside), under
    keys `prefix`:...

    Nothing is connected before the first call; StoreDownError when the server does not answer
    within `timeout_s`. An id is known as seen before for `remembered`, and `recent` knows a user's
    events for as long after the last one: the newest RECENT of them. The factory is
    `partial(RedisEventStore, url)`; InputError where `url` is none."""

    def __init__(
        self,
        url: str,
        prefix: str = "nightshelf",
        remembered: timedelta = timedelta(days=7),
        timeout_s: float = 2.0,
    ) -> None:
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError as error:
            raise InputError(
                "an event log in Redis needs redis: pip install 'nightshelf[redis]'"
            ) from error
        self.prefix, self.remembered_s = prefix, int(remembered.total_seconds())
        waits = {
            "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s,
            "health_check_interval": 15,
        }
        try:
            # One retry, at once: a pooled connection may be one that the server closed.
            self._redis: Any = redis.Redis.from_url(url, retry=Retry(NoBackoff(), 1), **waits)
        except ValueError as error:
            raise InputError(
                f"the event log cannot lie there ({error}): give redis://HOST:PORT/0"
            ) from error
        self._known_key: bytes | None = None
        self._append, self._show, self._named, self._trim, self._take, self._free = map(
            self._redis.register_script, (_APPEND, _SHOW, _NAMED, _ACKNOWLEDGE, _LEASE, _RELEASE)
        )

    def append(self, interactions: Sequence[Interaction]) -> Appended:
        rows: list[Any] = []
        for event in interactions:
            data = packed(event)
            user = self.digest(event.user_id)
            rows += [
                self.digest(event.event_id),
                user,
                event.user_id,
                microseconds(event.time),
                data,
            ]
        return Appended(
            *self._ask(lambda: self._append(args=[self.prefix, self.remembered_s, *rows]))
        )

    def append_impressions(self, impressions: Sequence[Impression]) -> None:
        rows: list[Any] = []
        for shown in impressions:
            data, features = packed_impression(shown)
            user = self.digest(shown.user_id) if shown.user_id is not None else ""
            seen, time = self.digest(shown.request_id), microseconds(shown.time)
            rows += [seen, user, shown.user_id or "", time, data, features]
        self._ask(lambda: self._show(args=[self.prefix, self.remembered_s, *rows]))

    def quarantine(self, rows: Sequence[tuple[str, dict[str, Any]]]) -> None:
        def write() -> None:
            with self._redis.pipeline() as pipe:
                for reason, event in rows:
                    user = str(event.get("user_id") or "").encode("utf-8", "replace")
                    told = {"u": user, "v": json.dumps([reason, event], default=str)}
                    pipe.xadd(self._key("quarantine"), told, maxlen=QUARANTINED)
                pipe.execute()

        self._ask(write)

    def recent(self, user_id: str, after: datetime, limit: int) -> list[Interaction]:
        if limit < 1:
            return []
        key, since = self._key(f"recent:{self.digest(user_id)}"), f"({microseconds(after)}"
        rows = self._ask(lambda: self._redis.zrevrangebyscore(key, "+inf", since, 0, limit))
        return [unpacked(row[16:]) for row in reversed(rows)]

    def last_sequence(self) -> int:
        return self._number("last", "interactions")

    def last_impression(self) -> int:
        return self._number("last", "impressions")

    def interactions(self, until_sequence: int, after: int = 0) -> Iterator[pa.RecordBatch]:
        return interactions_of(self, until_sequence, after)

    def impressions(self, after: int = 0) -> Iterator[Impression]:
        return impressions_of(self, after)

    def impression(self, request_id: str) -> Impression | None:
        key = self._key(f"request:{self.digest(request_id)}")
        if (number := self._ask(lambda: self._redis.get(key))) is None:
            return None
        _, found = self._page("impressions", int(number) - 1, int(number), 1)
        return next((_impression(entry) for entry in found), None)

    def counts(self) -> dict[str, int]:
        return {
            name: self._ask(partial(self._redis.xlen, self._key(key)))
            for name, key in _STREAMS.items()
        }

    def digest(self, user_id: str) -> str:
        return digest_under(self._own_key(), user_id)

    def hasher(self) -> Callable[[str], str]:
        return partial(digest_under, self._own_key())

    def standing(self, user_id: str) -> PrivacyState:
        name = self.digest(user_id)
        said = self._ask(lambda: self._redis.hget(self._key("standings"), name))
        return _standing(said) if said else PrivacyState()

    def set_standing(self, user_id: str, standing: PrivacyState) -> None:
        name = self.digest(user_id)
        forgotten = "" if standing.forgotten is None else microseconds(standing.forgotten)
        said = f"{forgotten} {int(standing.opted_out)}"
        self._ask(lambda: self._redis.hset(self._key("standings"), name, said))

    def standings(self) -> dict[str, PrivacyState]:
        said = self._ask(lambda: self._redis.hgetall(self._key("standings")))
        return {name.decode(): _standing(value) for name, value in said.items()}

    def forget(self, user_id: str) -> dict[str, int]:
        gone = {}
        for name, stream in _STREAMS.items():
            ids = self._ids_of(stream, user_id)
            for low in range(0, len(ids), 500):
                self._ask(lambda: self._redis.xdel(self._key(stream), *ids[low : low + 500]))  # noqa: B023
            gone[name] = len(ids)
        key = self._key(f"recent:{self.digest(user_id)}")
        self._ask(lambda: self._redis.delete(key))
        try:
            self._ask(self._redis.bgrewriteaof)  # the append-only file still holds the rows
        except InputError as error:
            logger.warning(
                "the server's append-only file keeps what was forgotten until it is rewritten: %s",
                error,
            )
        return gone

    def traces(self, user_id: str) -> dict[str, int]:
        found = {name: len(self._ids_of(stream, user_id)) for name, stream in _STREAMS.items()}
        return {**found, "interactions": max(found["interactions"], self.remembered(user_id))}

    def state(self) -> LogState:
        return LogState()

    def close(self) -> None:
        self._redis.close()

    # What an archive needs

    def archived(self) -> tuple[int, int]:
        """Interactions and impressions up to these numbers were acknowledged."""
        return self._number("archived", "interactions"), self._number("archived", "impressions")

    def page(self, until: int, after: int) -> tuple[int, pa.RecordBatch]:
        """Up to which number interactions were archived, and the next page as `NUMBERED_EVENTS`, of
        one moment."""
        mark, entries = self._page("interactions", after, until, PAGE_ROWS)
        return mark, batch_of(
            [_sequence(entry) for entry in entries], [unpacked(each[1][b"v"]) for each in entries]
        )

    def shown(self, after: int) -> tuple[int, list[Impression]]:
        """The same of impressions."""
        mark, entries = self._page("impressions", after, None, PAGE_IMPRESSIONS)
        return mark, [_impression(entry) for entry in entries]

    def acknowledge(self, interactions: int, impressions: int) -> None:
        """What is numbered up to these is in the archive: it goes, but for each user's `recent`."""
        self._ask(lambda: self._trim(args=[self.prefix, interactions, impressions]))

    def remembered(self, user_id: str) -> int:
        """How many of his events `recent` knows."""
        key = self._key(f"recent:{self.digest(user_id)}")
        return int(self._ask(lambda: self._redis.zcard(key)))

    def lease(self, token: str, seconds: float) -> bool:
        """Takes or renews the archive's lock; False where another token holds it."""
        return bool(
            self._ask(lambda: self._take([self._key("lease")], [token, int(seconds * 1000)]))
        )

    def release(self, token: str) -> None:
        """Gives the lock back, where this token holds it."""
        self._ask(lambda: self._free([self._key("lease")], [token]))

    def _key(self, name: str) -> str:
        return f"{self.prefix}:{name}"

    def _number(self, name: str, stream: str) -> int:
        return int(self._ask(lambda: self._redis.hget(self._key(name), stream)) or 0)

    def _page(self, stream: str, after: int, until: int | None, rows: int) -> tuple[int, list[Any]]:
        last = "+" if until is None else f"{max(until, 0)}-0"

        def read() -> tuple[int, list[Any]]:
            with self._redis.pipeline(transaction=True) as pipe:
                pipe.hget(self._key("archived"), stream)
                pipe.xrange(self._key(stream), f"({after}-0", last, count=rows)
                mark, entries = pipe.execute()
            return int(mark or 0), entries

        return self._ask(read)

    def _ids_of(self, stream: str, user_id: str) -> list[bytes]:
        found, start = [], b"-"
        while start:
            asked = start
            last, ids = self._ask(lambda: self._named([self._key(stream)], [asked, user_id]))  # noqa: B023
            found += ids
            start = b"(" + last if last else b""
        return found

    def _own_key(self) -> bytes:
        """Made once, at random, by whoever opens the log first; with it the first look at how the
        server keeps it."""
        if self._known_key is None:
            name = self._key("key")

            def make() -> bytes:
                self._redis.set(name, secrets.token_bytes(32), nx=True)
                return bytes(self._redis.get(name))

            self._known_key = self._ask(make)
            self._warn_if_forgetful()
        return self._known_key

    def _warn_if_forgetful(self) -> None:
        needed = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
        try:
            found = self._ask(lambda: self._redis.config_get(*needed))
        except InputError:
            logger.warning(
                "the Redis server does not tell how it keeps the event log: it needs %s", needed
            )
            return
        wrong = {
            name: found[name] for name in needed if found.get(name) not in (needed[name], None)
        }
        if wrong:
            logger.warning(
                "the Redis server can LOSE acknowledged events, it has %s: it needs %s",
                wrong,
                needed,
            )

    def _ask(self, work: Callable[[], T]) -> T:
        """StoreDownError where the server cannot be reached, or cannot take anything now."""
        from redis import exceptions

        down = (
            exceptions.ConnectionError,
            exceptions.TimeoutError,
            exceptions.ReadOnlyError,
            OSError,
        )
        try:
            return work()
        except (*down, exceptions.OutOfMemoryError, exceptions.MasterDownError) as error:
            raise StoreDownError(
                f"the event log in Redis cannot be reached ({error}): is the server up?"
            ) from error
        except exceptions.ResponseError as error:
            if str(error).startswith(("MISCONF", "NOREPLICAS", "BUSY", "OOM", "LOADING")):
                raise StoreDownError(
                    f"the event log in Redis takes nothing now ({error}): see its log"
                ) from error
            raise InputError(
                f"the event log in Redis refused ({error}): see docs/operations.md"
            ) from error
        except (exceptions.DataError, UnicodeEncodeError) as error:
            raise InputError(f"none of the rows was written ({error}): check them first") from error


#: As `counts` and `traces` name the streams.
_STREAMS = {
    "interactions": "interactions",
    "impressions": "impressions",
    "quarantined": "quarantine",
}


def _sequence(entry: Any) -> int:
    return int(entry[0].split(b"-")[0])


def _impression(entry: Any) -> Impression:
    return unpacked_impression(entry[1][b"v"], entry[1][b"f"], _sequence(entry))


def _standing(said: bytes) -> PrivacyState:
    forgotten, _, opted_out = said.decode().partition(" ")
    return PrivacyState(moment(int(forgotten)) if forgotten else None, opted_out == "1")
