"""Pictures of items to vectors: references scattered so that each is read once, CPU tasks fetch,
decode and resize, (GPU) actors encode what the previous release does not hold.

A shard travels from the tasks to the actors as one Arrow message, a row a reference: the items that
name it, what its host said of it, the pixels of content that is new.

A picture that cannot be read or encoded leaves its item with its text, and stands in the quarantine
with the reason. One whose host does not answer is what it was in the previous release."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from math import ceil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
from numpy.typing import NDArray

from recsys.batch.earlier_pictures import EarlierPictures, index_pictures
from recsys.batch.failures import FailureIsolator
from recsys.batch.picture_reading import PictureReader
from recsys.batch.plan import NightRun, ShardResult, id_parts, one_batch, scattered
from recsys.batch.quarantine import top_rules
from recsys.batch.stages import ActorWork, Stage, StageLine
from recsys.interfaces import PictureEncoder
from recsys.pictures.choices import FetchLimits, PictureChoices
from recsys.pictures.fetch import PictureFetcher
from recsys.pictures.references import picture_references
from recsys.pictures.store import PictureStore
from recsys.pictures.unsafe import UnsafePictureModel
from recsys.release import files
from recsys.release.arrow import write_arrow
from recsys.tables import PICTURES, QUARANTINE, THUMBNAILS
from recsys.types import Floats, Mask

#: A reference in an item's cell; scattered by reference so that equal ones meet.
REFERENCES = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("place", pa.int32(), nullable=False),
        pa.field("reference", pa.string(), nullable=False),
    ]
)
#: A picture with its vector, float16; scattered by item.
_ROWS = pa.schema([*PICTURES, pa.field("vector", pa.binary(), nullable=False)])


def picture_stages(night: NightRun, references: int) -> list[list[Stage]]:
    """Groups of stages, each of which needs those before; none where the setup reads no
    pictures. The catalogue names `references`."""
    choices = night.setup.pictures
    if choices is None:
        return []
    items, parts = night.plan.item_parts, picture_parts(night, references)
    thumbnails = [files.THUMBNAILS] if choices.thumbnails else []
    return [
        [
            Stage("references", items, partial(scatter_references, parts=parts)),
            Stage("earlier pictures", 1, index_pictures),
        ],
        [Stage("embed pictures", parts, ENCODE_PICTURES, thumbnails)],
        [Stage("pictures", items, gather_pictures, files.ITEM_PICTURES)],
    ]


def picture_parts(night: NightRun, references: int) -> int:
    """Shards of pictures."""
    return max(1, ceil(references / night.choices.pictures_per_shard))


def scatter_references(night: NightRun, part: int, parts: int) -> ShardResult:
    """What the items of shard `part` name, by reference."""
    items = night.read_part(files.ITEMS, part)
    cells = zip(items["item_id"].to_pylist(), items["image"].to_pylist(), strict=True)
    rows = [
        (item_id, place, reference)
        for item_id, cell in cells
        for place, reference in enumerate(picture_references(cell))
    ]
    columns = zip(*rows, strict=True) if rows else [[]] * len(REFERENCES)
    table = pa.table([list(column) for column in columns], schema=REFERENCES)
    result = ShardResult(table.num_rows)
    batches = scattered(table, id_parts(table["reference"], parts), parts)
    night.write_table(result, "references", part, batches, REFERENCES)
    return result


def prepare_pictures(night: NightRun, shard: int) -> bytes:
    """The distinct references of shard `shard`, sorted, read and made ready for the encoder."""
    named = night.gather("references", shard, REFERENCES)
    named = named.sort_by([("reference", "ascending"), ("item_id", "ascending")])
    by_reference = named.group_by("reference", use_threads=False).aggregate(
        [("item_id", "list"), ("place", "list")]
    )
    references = by_reference["reference"].to_pylist()
    message = _reader(night).read(references)
    for name in ("item_id", "place"):
        message = message.append_column(f"{name}s", by_reference[f"{name}_list"])
    return write_arrow([one_batch(message)], message.schema).to_pybytes()


def _reader(night: NightRun) -> PictureReader:
    """With the encoder and the connections of this worker process, which many shards pass
    through."""
    choices = night.setup.pictures
    assert choices
    key = repr((choices, night.plan.version))
    if key not in _PARTS:
        _PARTS.clear()
        fetcher = PictureFetcher(
            _share_of_limits(choices.limits, night.choices.task_cpus),
            PictureStore(night.setup.home, choices.cache_bytes),
            picture_folders(night),
        )
        unsafe = choices.unsafe() if choices.unsafe else None
        # The choices too: while they live, no others have their address and so their repr.
        _PARTS[key] = choices, choices.encoder(), fetcher, unsafe
    return PictureReader(night, *_PARTS[key][1:])


_Parts = tuple[PictureChoices, PictureEncoder, PictureFetcher, UnsafePictureModel | None]
_PARTS: dict[str, _Parts] = {}


def _share_of_limits(limits: FetchLimits, task_cpus: float) -> FetchLimits:
    """What one task may ask for, so that all tasks together keep to the limits; at least one
    request at a time."""
    cpus = ray.cluster_resources().get("CPU", 1.0) if ray.is_initialized() else 1.0
    tasks = max(1, int(cpus / task_cpus))
    names = ("concurrency", "host_concurrency")
    shares = {name: max(1, getattr(limits, name) // tasks) for name in names}
    return replace(limits, host_pause_s=limits.host_pause_s * tasks, **shares)


def picture_folders(night: NightRun) -> list[str]:
    """Below which an image may name files: those of the setup, and of the catalogue's own files."""
    assert night.setup.pictures
    paths = {Path(chunk.path) for chunk in night.plan.item_chunks}
    beside = {str(path.parent.absolute()) for path in paths if path.is_file()}
    return [*night.setup.pictures.folders, *sorted(beside)]


class PictureEncoderActor:
    """Encodes shards of pictures. Where all are new the model is loaded while tasks read the first
    of them, else by the first shard that has a new one."""

    def __init__(self, night: NightRun) -> None:
        assert night.setup.pictures
        self.night = night
        self.encoder = night.setup.pictures.encoder()
        self.one_at_a_time = threading.Lock()
        self.earlier = EarlierPictures(night)
        if self.earlier.pictures is None:
            self.encoder.load()

    def process(self, shard: int, prepared: bytes) -> ShardResult:
        message = pa.Table.from_batches([pa.ipc.open_file(pa.py_buffer(prepared)).get_batch(0)])
        pixels_NSSC = _pixels(message["pixels"].combine_chunks(), self.encoder.side)
        new_ND, errors = self._encode(shard, pixels_NSSC)
        slots_R = np.asarray(message["slot"])
        rows_R = np.asarray(message["earlier"])
        vectors_RD = np.zeros((len(message), self.encoder.dim), np.float16)
        vectors_RD[slots_R >= 0] = new_ND[slots_R[slots_R >= 0]]
        if (rows_R >= 0).any():
            vectors_RD[rows_R >= 0] = self.earlier.vectors_GE[rows_R[rows_R >= 0]]
        reasons = message["reason"].to_pylist()
        for reference in np.flatnonzero(np.isin(slots_R, list(errors))):
            reasons[reference] = f"the encoder fails on it ({errors[int(slots_R[reference])]})"
        return self._write(shard, message, vectors_RD, reasons)

    def _encode(self, shard: int, pixels: NDArray[np.uint8]) -> tuple[Floats, dict[int, str]]:
        # Shards are read and written beside each other; when the process dies, it dies of one.
        with self.one_at_a_time:
            path = self.night.work_path(f"encoding pictures/{shard:05d}.json")
            isolator = FailureIsolator(self.night.store, path)
            return isolator.encode(
                lambda start, stop: self.encoder.encode_pixels(pixels[start:stop]),
                len(pixels),
                self.encoder.dim,
            )

    def _write(
        self,
        shard: int,
        message: pa.Table,
        vectors_RD: NDArray[np.float16],
        reasons: list[str | None],
    ) -> ShardResult:
        """The shard's pictures by item, its thumbnails, and those that could not be used."""
        result, night = ShardResult(len(message)), self.night
        usable_R = np.any(vectors_RD, axis=1)
        vectors = [row.tobytes() for row in vectors_RD]
        message = message.append_column("vector", pa.array(vectors, pa.binary()))
        rows = _by_item(message.filter(pa.array(usable_R))).select(_ROWS.names).cast(_ROWS)
        parts = night.plan.item_parts
        batches = scattered(rows, id_parts(rows["item_id"], parts), parts)
        night.write_table(result, "picture rows", shard, batches, _ROWS)
        thumbnails = message.filter(pc.is_valid(message["thumbnail"]))
        thumbnails = thumbnails.select(THUMBNAILS.names).cast(THUMBNAILS)
        night.write_table(result, files.THUMBNAILS, shard, [one_batch(thumbnails)], THUMBNAILS)
        message = message.append_column("why", pa.array(reasons, pa.string()))
        quarantined = _quarantine_rows(_by_item(message.filter(pc.is_valid(message["why"]))))
        night.write_quarantine(result, f"pictures-{shard:05d}", quarantined)
        result.counts = _counts(message, usable_R)
        return result


#: The stage of pictures: CPU tasks prepare what actors encode.
ENCODE_PICTURES = ActorWork(PictureEncoderActor, prepare=prepare_pictures)


def _pixels(pixels: pa.LargeBinaryArray, side: int) -> NDArray[np.uint8]:
    """[N, side, side, 3] of the rows that have some, without a copy."""
    size = pc.sum(pc.binary_length(pixels)).as_py() or 0
    flat = np.frombuffer(pixels.buffers()[2], np.uint8, size) if size else np.empty(0, np.uint8)
    return flat.reshape(-1, side, side, 3)


def _by_item(message: pa.Table) -> pa.Table:
    """A row an item and picture."""
    parents = pc.list_parent_indices(message["item_ids"])
    names = [name for name in message.column_names if name not in ("item_ids", "places", "pixels")]
    table = message.select(names).take(parents)
    for name in ("item_id", "place"):
        table = table.append_column(name, pc.list_flatten(message[f"{name}s"]))
    return table


def _counts(message: pa.Table, usable_R: Mask) -> dict[str, int]:
    """Of references: what was read, what was encoded, what became of the others."""
    counted = pc.value_counts(message["state"]).to_pylist()
    states = {entry["values"]: entry["counts"] for entry in counted}
    fresh = message.filter(pc.equal(message["state"], "fetched"))
    return states | {
        "encoded": len(message["slot"].filter(pc.greater_equal(message["slot"], 0)).unique()),
        "carried": int((np.asarray(message["earlier"]) >= 0).sum()),
        "broken": int((~usable_R).sum()),
        "bytes": pc.sum(fresh["bytes"]).as_py() or 0,
    }


def _quarantine_rows(pictures: pa.Table) -> pa.Table:
    ids, rows = pictures["item_id"].to_pylist(), pictures.num_rows
    sentences = [
        f"picture {place} of item {item!r}, {reference!r}: {reason}"
        for item, place, reference, reason in zip(
            ids,
            pictures["place"].to_pylist(),
            pictures["reference"].to_pylist(),
            pictures["why"].to_pylist(),
            strict=True,
        )
    ]
    columns = [["pictures"] * rows, ["after sorting"] * rows, list(range(rows)), sentences, ids]
    return pa.table(columns, schema=QUARANTINE)


def gather_pictures(night: NightRun, part: int) -> ShardResult:
    """The pictures of item shard `part` and their vectors, in the order of its items."""
    assert night.setup.pictures
    rows = night.gather("picture rows", part, _ROWS)
    ids = night.read_part(files.ITEMS, part)["item_id"].combine_chunks()
    rows = rows.append_column("row", pc.index_in(rows["item_id"], value_set=ids))
    rows = rows.sort_by([("row", "ascending"), ("place", "ascending")])
    result = ShardResult(rows.num_rows)
    result.counts["items"] = len(rows["row"].unique())
    table = rows.select(PICTURES.names).cast(PICTURES)
    night.write_table(result, files.PICTURES, part, [one_batch(table)], PICTURES)
    vectors = b"".join(rows["vector"].to_pylist())
    dim = night.setup.pictures.encoder().dim
    vectors_GE = np.frombuffer(vectors, np.float16).reshape(-1, dim)
    night.write_arrays(result, part, {files.PICTURE_VECTORS: vectors_GE})
    return result


def picture_counts(lines: Mapping[str, StageLine]) -> dict[str, int]:
    """What the manifest says of pictures; nothing where none were read."""
    if "pictures" not in lines:
        return {}
    counts = lines["embed pictures"].counts
    return {
        "pictures": lines["pictures"].rows,
        "items_with_pictures": lines["pictures"].counts.get("items", 0),
        "picture_references": lines["embed pictures"].rows,
        **{f"pictures_{name}": counts.get(name, 0) for name in ("encoded", "carried", "broken")},
    }


def picture_line(lines: Mapping[str, StageLine], rules: Mapping[str, int]) -> str:
    """What became of the references, in a line for a person; "" where none were read. `rules` are
    those that pictures broke."""
    if "pictures" not in lines:
        return ""
    line = lines["embed pictures"]
    counts = {name: line.counts.get(name, 0) for name in ("fetched", "unchanged", "kept", "broken")}
    parts = [f"{line.rows:,} read", *(f"{n:,} {name}" for name, n in counts.items() if n)]
    parts.append(f"{line.counts.get('encoded', 0):,} encoded")
    parts.append(f"{lines['pictures'].counts.get('items', 0):,} items have one")
    return f"pictures: {', '.join(parts)}" + (f" ({top_rules(rules, 3)})" if rules else "")
