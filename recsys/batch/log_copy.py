"""What a night copies from the event log before it begins: events, past queries, attraction.

The log goes on while the night runs, and a night that was killed is continued from the same
input."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.events.item_clicks import count_item_clicks
from recsys.interfaces import EventLog
from recsys.storage.artifacts import ArtifactStore
from recsys.storage.streams import parquet_bytes
from recsys.tables import EVENTS
from recsys.types import Floats, Ints
from recsys.understanding.suggestion_builder import FrequentQueries

T = TypeVar("T")

#: The path of a chunk that comes from the live event log, as copied when the night began.
LIVE = "live.parquet"
#: Past queries: `tables.QUERIES`.
QUERIES = "queries.parquet"
#: `tables.ATTRACTION`.
ATTRACTION = "attraction.parquet"
#: Past queries are suggested for so long.
QUERIES_OF = timedelta(days=90)
#: What attracts is counted over so long.
ATTRACTION_OF = timedelta(days=90)


def copy_log(
    events: EventLog,
    until: datetime,
    store: ArtifactStore,
    folder: str,
    examined: Callable[[Ints], Floats],
) -> int:
    """Writes LIVE, QUERIES and ATTRACTION, each up to `until`, into the folder of the store; how
    many live events there are. Reads interactions once, and impressions once.

    `examined` gives the chance that positions are looked at."""
    sink, queries = pa.BufferOutputStream(), FrequentQueries(until - QUERIES_OF, until)
    with pq.ParquetWriter(sink, EVENTS) as writer:
        live = _LiveEvents(writer, until)
        clicks = count_item_clicks(
            tap(events.impressions(), queries.add),
            tap(events.interactions(events.end().interactions), live.add),
            examined,
            until - ATTRACTION_OF,
            until,
        )
    store.write(f"{folder}/{LIVE}", sink.getvalue())
    store.write(f"{folder}/{QUERIES}", parquet_bytes(queries.table()))
    store.write(f"{folder}/{ATTRACTION}", parquet_bytes(clicks))
    return live.rows


def tap(values: Iterable[T], also: Callable[[T], None]) -> Iterator[T]:
    """The values, each handed to `also` on its way."""
    for value in values:
        also(value)
        yield value


class _LiveEvents:
    """Writes the events of batches up to a time, and counts them."""

    def __init__(self, writer: pq.ParquetWriter, until: datetime) -> None:
        self.writer, self.until, self.rows = writer, until, 0

    def add(self, batch: pa.RecordBatch) -> None:
        until = pa.scalar(self.until, batch.schema.field("time").type)
        events = batch.filter(pc.less_equal(batch["time"], until)).select(EVENTS.names).cast(EVENTS)
        self.writer.write_batch(events)
        self.rows += events.num_rows
