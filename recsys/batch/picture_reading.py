"""References of one shard to what an encoder reads: fetched where their host does not say that they
are what they were, decoded where the previous release lacks their content."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.batch.earlier_pictures import EarlierPictures
from recsys.batch.plan import NightRun
from recsys.errors import InputError
from recsys.interfaces import PictureEncoder
from recsys.pictures.decode import read_picture
from recsys.pictures.fetch import FetchFailure, FetchResult, PictureFetcher, PreviousFetch
from recsys.pictures.references import picture_references
from recsys.pictures.thumbnails import THUMBNAIL_SIDE, thumbnail
from recsys.pictures.unsafe import UnsafePictureModel
from recsys.tables import PICTURES

#: What is said of a reference, its item and place apart. `slot` is the place of its pixels among
#: those of the shard, -1 where the previous release has its vector, in row `earlier`, or it has
#: none; `state` one of STATES.
MESSAGE = pa.schema(
    [
        *(
            field.with_nullable(True)
            for field in PICTURES
            if field.name not in ("item_id", "place")
        ),
        ("earlier", pa.int32()),
        ("slot", pa.int32()),
        ("pixels", pa.large_binary()),
        ("thumbnail", pa.binary()),
        ("reason", pa.string()),
        ("state", pa.string()),
    ]
)
#: Its bytes came; its host said that they are the same; it could not be read; its host did not
#: answer, and it is what it was.
STATES = ("fetched", "unchanged", "broken", "kept")
_OF_HOST, _OF_READING = ("etag", "last_modified"), ("reference", "state", "reason", "earlier")


@dataclass(kw_only=True)
class ReadPicture:
    """One row of MESSAGE but for its slot."""

    reference: str
    state: str = "broken"
    reason: str | None = None
    earlier: int = -1
    pixels: NDArray[np.uint8] | None = None
    fields: dict[str, Any] = field(default_factory=dict)


def count_references(items: pa.Table) -> int:
    """How many pictures the items name."""
    return sum(len(picture_references(cell)) for cell in items["image"].to_pylist())


class PictureReader:
    """Reads the pictures of a shard."""

    def __init__(
        self,
        night: NightRun,
        encoder: PictureEncoder,
        fetcher: PictureFetcher,
        unsafe: UnsafePictureModel | None,
    ) -> None:
        assert night.setup.pictures
        self.choices, self.encoder = night.setup.pictures, encoder
        self.fetcher, self.unsafe, self.earlier = fetcher, unsafe, EarlierPictures(night)
        # No larger than needed: a JPEG of 800 pixels is decoded four times as fast for 224.
        self.side = max(encoder.side, THUMBNAIL_SIDE if self.choices.thumbnails else 0)

    def read(self, references: list[str]) -> pa.Table:
        """MESSAGE, a row a reference in their order."""
        rows = self.earlier.rows("reference", references).tolist()
        pictures = {each: ReadPicture(reference=each) for each in references}
        earlier = dict(zip(references, rows, strict=True))
        requests = [(each, self._previous(row)) for each, row in earlier.items()]
        for reference, outcome in self.fetcher.fetch_many(requests):
            self._add(pictures[reference], earlier[reference], outcome)
        return _message(list(pictures.values()))

    def _previous(self, row: int) -> PreviousFetch | None:
        if not (fields := self._earlier_fields(row)):
            return None
        return PreviousFetch(fields["content_hash"], *(fields[name] or "" for name in _OF_HOST))

    def _earlier_fields(self, row: int) -> dict[str, Any]:
        """Of a picture of the previous release; none without one, and without its thumbnail or
        whether it is unsafe where the setup wants that."""
        if row < 0 or self.earlier.pictures is None:
            return {}
        (fields,) = self.earlier.pictures.slice(row, 1).to_pylist()
        if self.unsafe and fields["unsafe"] is None:
            return {}
        if self.choices.thumbnails:
            fields["thumbnail"] = self._earlier_thumbnail(fields["content_hash"])
            if fields["thumbnail"] is None:
                return {}
        return fields

    def _earlier_thumbnail(self, content_hash: bytes) -> bytes | None:
        (row,) = self.earlier.rows("thumbnail", [content_hash])
        if row < 0 or self.earlier.thumbnails is None:
            return None
        return self.earlier.thumbnails["thumbnail"][int(row)].as_py()

    def _add(self, picture: ReadPicture, row: int, outcome: FetchResult) -> None:
        if isinstance(outcome, FetchFailure):
            picture.reason = outcome.reason
            if row >= 0 and outcome.passing:
                picture.reason += f"; it is what it was in release {self.earlier.version}"
                self._carry(picture, row, "kept")
        elif outcome.data is None:
            self._carry(picture, row, "unchanged")
        else:
            picture.state = "fetched"
            try:
                self._decode(picture, outcome.content_hash, outcome.data)
            except InputError as error:
                picture.state, picture.reason = "broken", str(error)
            picture.fields |= {name: getattr(outcome, name) or None for name in _OF_HOST}

    def _carry(self, picture: ReadPicture, row: int, state: str) -> None:
        picture.earlier, picture.state = row, state
        picture.fields = self._earlier_fields(row)

    def _decode(self, picture: ReadPicture, content_hash: bytes, data: bytes) -> None:
        """Where the content is not new, what is known of it."""
        (same,) = self.earlier.rows("content", [content_hash])
        if fields := self._earlier_fields(int(same)):
            picture.earlier, picture.fields = int(same), fields
            return
        decoded = read_picture(data, self.side)
        picture.pixels = self.encoder.pixels([decoded.picture])[0]
        picture.fields = {
            "content_hash": content_hash,
            "width": decoded.width,
            "height": decoded.height,
            "bytes": len(data),
        }
        if self.unsafe:
            (probability,) = self.unsafe.probabilities([decoded.picture])
            picture.fields["unsafe"] = bool(probability > self.choices.unsafe_above)
        if self.choices.thumbnails:
            picture.fields["thumbnail"] = thumbnail(decoded.picture)


def _message(pictures: list[ReadPicture]) -> pa.Table:
    """Equal contents share a slot: the first has the pixels, and the thumbnail."""
    slots = dict[bytes, int]()
    columns: dict[str, list[Any]] = {name: [] for name in MESSAGE.names if name != "pixels"}
    pixels, lengths = list[NDArray[np.uint8]](), list[int]()
    for picture in pictures:
        row = picture.fields | {name: getattr(picture, name) for name in _OF_READING}
        content_hash, row["slot"] = row.get("content_hash", b""), -1
        lengths.append(0)
        if picture.pixels is not None:
            if content_hash not in slots:
                slots[content_hash] = len(slots)
                pixels.append(picture.pixels)
                lengths[-1] = picture.pixels.nbytes
            row["slot"] = slots[content_hash]
        for name, column in columns.items():
            column.append(row.get(name))
    arrays = {name: pa.array(column, MESSAGE.field(name).type) for name, column in columns.items()}
    offsets = pa.py_buffer(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
    data = pa.py_buffer(np.stack(pixels) if pixels else b"")
    buffers = [None, offsets, data]
    arrays["pixels"] = pa.Array.from_buffers(pa.large_binary(), len(pictures), buffers)
    return pa.table([arrays[name] for name in MESSAGE.names], schema=MESSAGE)
