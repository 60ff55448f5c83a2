"""Estimates a night before it runs: what it would refuse, and what it costs. Writes nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.batch.preview import preview_inputs
from recsys.config import Setup
from recsys.encoders.text import item_texts, text_hashes
from recsys.errors import NotFoundError
from recsys.release.arrow import read_arrow
from recsys.release.files import ITEMS
from recsys.release.manifest import Manifest, OtherFormatError, read_manifest
from recsys.storage.artifacts import ArtifactStore

#: Rows a second and stage of the setup `tiny` on two cores: a guess for a first night. Later nights
#: are estimated from the stage times of the release that is current.
FIRST_RATES = {
    "read items": 42_000,
    "read events": 600_000,
    "items": 400_000,
    "events": 1_200_000,
    "embed items": 300,
    "vectors": 80_000,
    "embed users": 9_900,
    "co_occurrence": 19_000,
    "lexical": 30_000,
    "nearest": 1_000,
    "candidates": 300,
    "similar": 7_500,
    "held out": 20,
}
#: How many of the smallest hashes count distinct texts (K minimum values; Bar-Yossef et
#: al., 2002): exact below, within about 1/sqrt(K) = 0.4 % above.
SKETCH = 65_536


@dataclass(frozen=True)
class NightEstimate:
    """What `--plan` prints, and whether the night would be refused."""

    text: str
    refused: bool

    def __str__(self) -> str:
        return self.text


def estimate(setup: Setup, until: datetime) -> NightEstimate:
    """What the night would make of its input, and a table: rows, distinct texts to encode, bytes,
    memory a worker, seconds a stage."""
    dataset, store = setup.dataset(until), ArtifactStore(setup.home)
    previous, sketch = _current_manifest(store), TextSketch()
    preview = preview_inputs(setup, dataset, until, previous, sketch.add)
    items, events = preview.items.rows_in_all, preview.events.rows_in_all
    texts = distinct(sketch.hashes)
    new = round(texts * _share_new(store, setup.encoder().space, previous, sketch.hashes))
    rates, measured, source = _measured(store)
    users = round(events * measured.get("embed users", 1) / measured.get("read events", 100))
    rows = {"read items": items, "read events": events, "items": items, "events": events}
    rows["embed items"] = new
    rows |= dict.fromkeys(("vectors", "co_occurrence", "lexical", "similar"), items)
    rows |= dict.fromkeys(("embed users", "nearest", "candidates"), users)
    rows["held out"] = round(measured.get("held out", users / 30))
    seconds = {name: count / rates.get(name, 1_000) for name, count in rows.items()}
    release_mib, worker_mib = _mebibytes(setup, items, users)
    lines = [
        f"setup {setup.name} into {setup.home}: {items:,} item rows, {events:,} event rows, "
        f"about {users:,} users",
        f"{texts:,} distinct texts, {new:,} of them to encode, the others carried over",
        f"about {release_mib:,.0f} MiB of release; about {worker_mib:,.0f} MiB a worker",
        f"rows a second: {source}",
        *(f"{name:<14}{count:>12,} rows {seconds[name]:>8.0f} s" for name, count in rows.items()),
        f"{'in all':<14}{'':>17} {sum(seconds.values()):>8.0f} s, and Ray's starts",
        *preview.lines(),
    ]
    return NightEstimate("\n".join(lines), bool(preview.refusals))


class TextSketch:
    """The smallest hashes of the texts of items that are added."""

    def __init__(self) -> None:
        self.hashes = np.empty(0, "V16")

    def add(self, items: pa.Table) -> None:
        hashes = as_bytes(text_hashes(item_texts(items)))
        self.hashes = smallest(np.concatenate([self.hashes, hashes]))


def _current_manifest(store: ArtifactStore) -> Manifest | None:
    version = store.current()
    try:
        return read_manifest(store, version) if version else None
    except OtherFormatError:
        return None


def _mebibytes(setup: Setup, items: int, users: int) -> tuple[float, float]:
    """Of the release, and of a worker: scores of a block of users, a shard of vectors, and 500 for
    the process."""
    night, dim = setup.night, setup.encoder().dim
    release = items * dim * 4 + items * (night.similar + night.neighbours) * 8
    release += users * (dim * 4 + night.candidates * 20 + night.history * 13)
    scores = night.users_per_block * min(items, 65_536) * 4
    shard = night.items_per_shard * dim * 4
    return release / 2**20, (scores + shard) / 2**20 + 500


def as_bytes(hashes: object) -> NDArray[np.void]:
    """16-byte hashes as a numpy array."""
    return np.frombuffer(b"".join(hashes.to_pylist()), "V16")  # type: ignore[attr-defined]


def smallest(hashes: NDArray[np.void]) -> NDArray[np.void]:
    """The SKETCH smallest distinct hashes."""
    order = np.unique(hashes.view(">u8").reshape(-1, 2), axis=0)[:SKETCH]
    return np.ascontiguousarray(order).view("V16").reshape(-1)


def distinct(sketch: NDArray[np.void]) -> int:
    """How many distinct hashes the sketch stands for."""
    if len(sketch) < SKETCH:
        return len(sketch)
    largest = int(sketch.view(">u8").reshape(-1, 2)[-1, 0]) / 2**64
    return round((SKETCH - 1) / largest)


def _share_new(
    store: ArtifactStore, space: str, previous: Manifest | None, sketch: NDArray[np.void]
) -> float:
    if previous is None or previous.space != space:
        return 1.0
    file = f"releases/{previous.version}/{ITEMS.name}"
    path = store.local(file, previous.files[ITEMS.name])
    hashes = set(read_arrow(path)["text_hash"].to_pylist())
    return 1 - sum(value.tobytes() in hashes for value in sketch) / max(1, len(sketch))


def _measured(store: ArtifactStore) -> tuple[dict[str, float], dict[str, float], str]:
    """Rows a second by stage, the rows they were measured on, and where both come from."""
    try:
        stages = json.loads(store.read(f"releases/{store.current()}/run.json"))["stages"]
    except NotFoundError:
        return dict(FIRST_RATES), {}, "those of setup tiny on two cores, until a night has run here"
    timed = {stage["name"]: stage for stage in stages if stage["rows"] and stage["seconds"] > 0}
    rates = {name: stage["rows"] / stage["seconds"] for name, stage in timed.items()}
    encoding = timed.get("embed items")
    if encoding and 2 * encoding["counts"].get("encoded", 0) < encoding["rows"]:
        del rates["embed items"]  # carried vectors are copied, which says nothing about encoding
    rows = {name: stage["rows"] for name, stage in timed.items()}
    return FIRST_RATES | rates, rows, f"as measured by release {store.current()}"
