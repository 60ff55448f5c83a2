"""The live catalogue log in a Redis or Valkey server, for replicas on any number of hosts.

`PREFIX:catalogue:numbers` is a sorted set of items by the number of their last change, and
`PREFIX:catalogue:states` holds what each has become. A state's numbers stand before it, so that the
server can fill in those that it gives: "17 17 12\\n{...}" is of the change 17, as is its first
field."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from recsys.catalogue.changes import (
    ChangeResult,
    ItemChange,
    ItemState,
    apply_changes,
    last_of_each,
)
from recsys.errors import StoreDownError
from recsys.events.redis_client import call, connect, warn_unless_durable
from recsys.interfaces import LogState

PAGE_STATES = 1_000
#: Attempts of one append, whose items others may change between its read and its write.
TRIES = 100
#: A number above this one is the server's to give: its distance, beyond the highest of the log.
PENDING = 1 << 60

#: ARGV: the prefix; how many numbers to give; how many items were read, and of each its id and its
#: number then; of each item to write its id, the distance of its number, its numbers, its state.
#: Nothing is written, and the answer is -1, where an item has changed since.
_APPEND = """
local numbers, states = ARGV[1] .. ':numbers', ARGV[1] .. ':states'
local at = 4
for _ = 1, tonumber(ARGV[3]) do
  if (redis.call('ZSCORE', numbers, ARGV[at]) or '0') ~= ARGV[at + 1] then return -1 end
  at = at + 2
end
local last = redis.call('INCRBY', ARGV[1] .. ':last', ARGV[2]) - ARGV[2]
local function number(distance) return string.format('%.0f', last + distance) end
while at < #ARGV do
  local head = string.gsub(ARGV[at + 2], '%+(%d+)', number)
  redis.call('ZADD', numbers, number(ARGV[at + 1]), ARGV[at])
  redis.call('HSET', states, ARGV[at], head .. '\\n' .. ARGV[at + 3])
  at = at + 4
end
return last
"""
#: ARGV: the prefix, the number after which the states are, and how many.
_READ = """
local items = redis.call('ZRANGEBYSCORE', ARGV[1] .. ':numbers', '(' .. ARGV[2], '+inf',
  'LIMIT', 0, ARGV[3])
if #items == 0 then return {} end
return redis.call('HMGET', ARGV[1] .. ':states', unpack(items))
"""


class RedisCatalogueLog:
    """A `CatalogueLog` in the server at `url` (rediss:// for TLS, user and password inside), under
    keys `prefix`:catalogue:...

    Nothing is connected before the first call. The factory is `partial(RedisCatalogueLog, url)`;
    InputError where `url` is no address."""

    def __init__(self, url: str, prefix: str = "nightshelf", timeout_s: float = 2.0) -> None:
        self.prefix = f"{prefix}:catalogue"
        self.client: Any = connect(url, timeout_s)
        self._append, self._read = (self.client.register_script(s) for s in (_APPEND, _READ))
        self._is_checked = False

    def append(
        self, changes: Sequence[ItemChange], exists: Callable[[str], bool], folded: int = 0
    ) -> list[ChangeResult]:
        """Raises InputError where a text cannot be written."""
        self._check_server()
        if not changes:
            return []
        for _ in range(TRIES):
            if results := self._try_append(changes, exists, folded):
                return results
        raise StoreDownError(
            f"{len(changes)} changes were not written: their items were changed by others {TRIES} "
            "times meanwhile, try again"
        )

    def _try_append(
        self, changes: Sequence[ItemChange], exists: Callable[[str], bool], folded: int
    ) -> list[ChangeResult] | None:
        """None where another writer was faster."""
        item_ids = list({change.item_id: None for change in changes})
        rows = call(self.client.hmget, f"{self.prefix}:states", item_ids)
        states = {
            item_id: _state(row) if row else None
            for item_id, row in zip(item_ids, rows, strict=True)
        }
        after, results = apply_changes(
            states, changes, end=PENDING, time=datetime.now(UTC), exists=exists, folded=folded
        )
        if not after:
            return results
        read = [
            part
            for item_id, state in states.items()
            for part in (item_id, state.number if state else 0)
        ]
        count = sum(result.status == "accepted" for result in results)
        written = [part for state in after for part in _row(state)]
        last = call(self._append, args=[self.prefix, count, len(states), *read, *written])
        return None if last < 0 else [_numbered(result, last) for result in results]

    def states(self, after: int = 0, limit: int | None = None) -> list[ItemState]:
        states = list[ItemState]()
        while limit is None or len(states) < limit:
            count = PAGE_STATES if limit is None else min(PAGE_STATES, limit - len(states))
            page = [_state(row) for row in call(self._read, args=[self.prefix, after, count])]
            states += page
            if len(page) < count:
                break
            after = page[-1].number
        # what changed between two pages is on both
        newest = last_of_each(states)
        return [state for state in states if newest[state.item_id] is state]

    def state(self, item_id: str) -> ItemState | None:
        row = call(self.client.hget, f"{self.prefix}:states", item_id)
        return _state(row) if row else None

    def end(self) -> int:
        return int(call(self.client.get, f"{self.prefix}:last") or 0)

    def health(self) -> LogState:
        return LogState()

    def drain(self) -> int:
        return 0

    def close(self) -> None:
        self.client.close()

    def _check_server(self) -> None:
        if not self._is_checked:
            warn_unless_durable(self.client)
            self._is_checked = True


def _row(state: ItemState) -> tuple[Any, ...]:
    """Of a state with pending numbers what the server writes."""
    numbers = [state.number, *(change.number for change in state.fields.values())]
    head = " ".join(f"+{n - PENDING}" if n > PENDING else str(n) for n in numbers)
    return state.item_id, state.number - PENDING, head, state.to_json()


def _state(row: bytes) -> ItemState:
    head, _, text = row.partition(b"\n")
    number, *numbers = map(int, head.split())
    state = ItemState.from_json(text)
    fields = {
        name: change._replace(number=own)
        for (name, change), own in zip(state.fields.items(), numbers, strict=True)
    }
    return replace(state, number=number, fields=fields)


def _numbered(result: ChangeResult, last: int) -> ChangeResult:
    if result.number <= PENDING:
        return result
    return replace(result, number=result.number - PENDING + last)
