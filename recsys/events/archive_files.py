"""The files of an archived event log.

log/interactions/day=2026-11-28/AFTER-UNTIL-TOKEN.parquet   rows AFTER+1..UNTIL, by the day they
                                                            were drained
log/interactions/commits/AFTER-UNTIL-TOKEN.json             the segment, written last: a file that
                                                            no segment names does not exist
log/impressions/...                                         the same

Segments may overlap: a reader resumes after the last number it has, in the segment that extends
furthest. So two drainers at once write some rows twice, and nobody reads a row twice."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.errors import NotFoundError
from recsys.events.codec import decode_impression, encode_impression
from recsys.storage.artifacts import ArtifactStore
from recsys.tables import NUMBERED_EVENTS, NUMBERED_IMPRESSIONS
from recsys.types import Impression

KINDS = ("interactions", "impressions")
_BATCH_ROWS = {"interactions": 10_000, "impressions": 200}
_SCHEMA = {"interactions": NUMBERED_EVENTS, "impressions": NUMBERED_IMPRESSIONS}
#: A file that vanishes while it is read was rewritten without a user: so often it is looked up
#: again.
_RETRIES = 5


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Rows after+1..until of one kind are in `file`; None where none of them is left. `path` is
    where the segment itself is stored."""

    path: str
    after: int
    until: int
    rows: int
    file: str | None


class ArchiveFiles:
    """Segments of archived rows in the shop's home."""

    def __init__(self, home: ArtifactStore) -> None:
        self.home = home

    # Reading

    def segments(self, kind: str) -> list[Segment]:
        """By where they begin."""
        paths = self.home.files(f"log/{kind}/commits")
        segments = (Segment(path=path, **json.loads(self.home.read(path))) for path in paths)
        return sorted(segments, key=lambda segment: segment.after)

    def continuation(self, kind: str, after: int) -> list[Segment]:
        """The segments that lead on from `after`, each from where the one before it ends or
        earlier."""
        chain, segments = list[Segment](), self.segments(kind)
        while candidates := [each for each in segments if each.after <= after < each.until]:
            chain.append(max(candidates, key=lambda segment: segment.until))
            after = chain[-1].until
        return chain

    def rows(
        self, kind: str, after: int, until: int, columns: Sequence[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Rows after+1..until, in order. Raises NotFoundError where the archive does not hold all
        of them."""
        for attempts_left in range(_RETRIES, -1, -1):
            try:
                for segment in self.continuation(kind, after):
                    if after >= until:
                        return
                    for batch in self._batches(kind, segment.file, columns):
                        if (fresh := _between(batch, after, until)).num_rows:
                            after = fresh["sequence"][-1].as_py()
                            yield fresh
                    after = segment.until
                if after < until:
                    raise NotFoundError(
                        f"the archive of {kind} in {self.home.uri} ends at {after}, not at {until}"
                    )
                return
            except NotFoundError:
                if not attempts_left:
                    raise

    def impression(self, request_id: str) -> Impression | None:
        """The archived answer of this request; of recent ones first."""
        for segment in reversed(self.segments("impressions")):
            if segment.file is None:
                continue
            with suppress(NotFoundError):  # rewritten without a user: the next look finds it
                matches = pc.equal(self._column(segment.file, "request_id"), request_id)
                if pc.any(matches).as_py():
                    return to_impression(self._table(segment.file).filter(matches).to_pylist()[0])
        return None

    def count_user(self, file: str, user_id: str) -> int:
        """Rows of the file that name the user."""
        return pc.sum(pc.equal(self._column(file, "user_id"), user_id)).as_py() or 0

    # Writing

    def write(
        self, kind: str, after: int, until: int, batches: Sequence[pa.RecordBatch]
    ) -> Segment:
        """The file of a new segment, which exists once it is committed."""
        name = f"{after:016d}-{until:016d}-{uuid.uuid4().hex[:8]}"
        file = f"log/{kind}/day={datetime.now(UTC):%Y-%m-%d}/{name}.parquet"
        self.home.write(file, _parquet(batches, _SCHEMA[kind]))
        rows = sum(batch.num_rows for batch in batches)
        path = f"log/{kind}/commits/{name}.json"
        return Segment(path=path, after=after, until=until, rows=rows, file=file)

    def commit(self, segment: Segment) -> None:
        """From here on readers see its file."""
        fields = asdict(segment)
        self.home.write(fields.pop("path"), json.dumps(fields).encode())

    def remove_user(self, segment: Segment, user_id: str) -> None:
        """Rewrites the segment's file without the user's rows, under a new name."""
        assert segment.file
        table = self._table(segment.file)
        is_user_N = pc.fill_null(pc.equal(table["user_id"], user_id), False)
        rest, file = table.filter(pc.invert(is_user_N)), None
        if rest.num_rows:
            folder, _, name = segment.file.rpartition("/")
            file = f"{folder}/{name[:33]}-{uuid.uuid4().hex[:8]}.parquet"
            self.home.write(file, _parquet(rest.to_batches(), table.schema))
        self.commit(replace(segment, rows=rest.num_rows, file=file))
        self.home.remove(segment.file)

    def remove_uncommitted(self) -> None:
        """Files of drainers that were killed before their commit. Only for the holder of the lease:
        others may be writing theirs."""
        for kind in KINDS:
            committed = {segment.file for segment in self.segments(kind)}
            for path in self.home.files(f"log/{kind}"):
                if path.endswith(".parquet") and path not in committed:
                    self.home.remove(path)

    def _batches(
        self, kind: str, file: str | None, columns: Sequence[str] | None
    ) -> Iterator[pa.RecordBatch]:
        if file is None:
            return
        with self.home.open(file) as stream:
            parquet = pq.ParquetFile(stream, page_checksum_verification=True)
            yield from parquet.iter_batches(_BATCH_ROWS[kind], columns=columns)

    def _table(self, file: str) -> pa.Table:
        with self.home.open(file) as stream:
            return pq.read_table(stream, page_checksum_verification=True)

    def _column(self, file: str, name: str) -> pa.ChunkedArray:
        with self.home.open(file) as stream:
            return pq.ParquetFile(stream).read([name])[name]


def to_impression_batch(page: Sequence[Impression]) -> pa.RecordBatch:
    """As `tables.NUMBERED_IMPRESSIONS`."""
    rows = []
    for each in page:
        fields, features = encode_impression(each)
        ids = {"sequence": each.sequence, "request_id": each.request_id, "user_id": each.user_id}
        rows.append({**ids, "time": each.time, "told": fields, "features": features})
    return pa.RecordBatch.from_pylist(rows, schema=NUMBERED_IMPRESSIONS)


def to_impression(row: dict[str, Any]) -> Impression:
    """From a row of `tables.NUMBERED_IMPRESSIONS`."""
    return decode_impression(row["told"], row["features"], row["sequence"])


def _between(batch: pa.RecordBatch, after: int, until: int) -> pa.RecordBatch:
    sequence = batch["sequence"]
    return batch.filter(pc.and_(pc.greater(sequence, after), pc.less_equal(sequence, until)))


def _parquet(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema, compression="zstd", write_page_checksum=True) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue()
