"""The checkerboard shop: even users buy even items, odd users odd ones, and each leaves out exactly
one.

That one is what a recommender must put first. Red things are even, blue things are odd; the two
colours of a thing are variants of one product. Each item has been sold a day longer than the one
before it; the first does not say."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import pyarrow as pa

from recsys.config import Day, Night, Setup, event_log, home
from recsys.encoders.hashing import HashingEncoder
from recsys.interfaces import Chunk
from recsys.tables import TIME

ITEMS, USERS = 16, 40
THINGS = ["chair", "table", "lamp", "shelf", "clock", "mirror", "vase", "carpet"]
UNTIL = datetime(2026, 1, 2, 2, tzinfo=UTC)


def title(item: int) -> str:
    return f"{'blue' if item % 2 else 'red'} {THINGS[item // 2]}"


def left_out(user: int) -> int:
    """The one item of the user's colour that they did not buy."""
    return 2 * (user // 2 % (ITEMS // 2)) + user % 2


def bought(user: int) -> list[int]:
    """In order of time: three items in one basket, three in the next, and one on the last day."""
    mine = [item for item in range(ITEMS) if item % 2 == user % 2 and item != left_out(user)]
    turn = user % len(mine)
    return mine[turn:] + mine[:turn]


@dataclass(frozen=True)
class Checkerboard:
    """The shop as an adapter, with one unusable row in each table."""

    until: datetime
    name: str = "checkerboard"

    def item_chunks(self) -> list[Chunk]:
        return [
            Chunk("items", 0, ITEMS // 2),
            Chunk("items", ITEMS // 2, ITEMS // 2),
            Chunk("bad items", 0, 1),
        ]

    def event_chunks(self) -> list[Chunk]:
        return [
            *(Chunk("events", user, 1) for user in range(0, USERS, 10)),
            Chunk("bad events", 0, 1),
        ]

    def read_items(self, chunk: Chunk) -> pa.Table:
        if chunk.path == "bad items":
            return pa.table(
                {"item_id": ["broken"], "title": ["a thing of no price"], "price": [-1.0]}
            )
        rows = range(chunk.start, chunk.start + chunk.rows)
        return pa.table(
            {
                "item_id": [f"i{item:02d}" for item in rows],
                "title": [title(item) for item in rows],
                "category": [f"home / {THINGS[item // 2]}" for item in rows],
                "brand": ["acme" if item < ITEMS // 2 else "globex" for item in rows],
                "price": [float(10 + item) for item in rows],
                "group_id": [THINGS[item // 2] for item in rows],
                "added": [None if item == 0 else UNTIL - timedelta(days=item) for item in rows],
            }
        )

    def read_events(self, chunk: Chunk) -> pa.Table:
        if chunk.path == "bad events":
            return self._events([("u00", "i00", "stare", self.until)])
        return self._events(
            [
                (
                    f"u{user:02d}",
                    f"i{item:02d}",
                    "purchase",
                    self.until - timedelta(days=2 - place // 3, hours=1),
                )
                for user in range(chunk.start, chunk.start + 10)
                for place, item in enumerate(bought(user))
            ]
        )

    def _events(self, rows: list[tuple[str, str, str, datetime]]) -> pa.Table:
        users, items, types, times = zip(*rows, strict=True)
        return pa.table(
            {
                "event_id": [f"{user}-{item}" for user, item in zip(users, items, strict=True)],
                "user_id": list(users),
                "item_id": list(items),
                "type": list(types),
                "time": pa.array(times, TIME),
            }
        )


def setup() -> Setup:
    """Two shards of everything, no model weights; lies in $NIGHTSHELF_HOME."""
    return Setup(
        name="checkerboard",
        home=home(),
        dataset=Checkerboard,
        encoder=partial(HashingEncoder, 64),
        event_store=event_log(home()),
        night=Night(
            items_per_shard=10,
            events_per_shard=2,
            texts_per_shard=10,
            users_per_block=8,
            candidates=12,
            similar=5,
            neighbours=12,
            neighbours_per_shard=6,
            max_bad_share=0.5,
            task_cpus=0.25,
            encoder_workers=2,
            encoder_cpus=0.25,
        ),
        day=Day(replicas=2, replica_cpus=0.2, encoder_cpus=0.2, refresh_s=0.2),
    )
