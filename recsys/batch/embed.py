"""Texts to item vectors: CPU tasks tokenise, (GPU) actors encode, only what the previous release
does not hold. Item vectors to places: where the user model has the items.

A shard travels from the tasks to the actors as one Arrow message of its distinct texts: hash, row
in the previous release (-1 for a new text), token ids (empty for a carried one), why the tokenizer
refuses it.

A text that the encoder fails on has no vector, as if it were empty: its items are found by their
words, and stand in the quarantine with the reason."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.batch.failures import FailureIsolator, bisect
from recsys.batch.ingest import TEXTS
from recsys.batch.plan import NightRun, ShardResult, one_batch
from recsys.interfaces import Encoder
from recsys.release.release import read_arrow, write_arrow
from recsys.tables import QUARANTINE
from recsys.types import Floats, Rows

_HASHES = pa.schema([("text_hash", pa.binary(16)), ("refused", pa.string())])
_MESSAGE = pa.schema([*_HASHES, ("previous", pa.int32()), ("tokens", pa.list_(pa.int32()))])


def tokenize_texts(night: NightRun, part: int) -> bytes:
    """Shard `part` of the distinct texts, sorted by hash: carried over where possible, tokenised
    where new."""
    texts = night.gather("texts", part, TEXTS)
    unique = (
        texts.group_by("text_hash", use_threads=False)
        .aggregate([("text", "first")])
        .rename_columns(TEXTS.names)
    )
    unique = unique.sort_by("text_hash")
    hashes, words = unique["text_hash"].combine_chunks(), unique["text"].combine_chunks()
    rows_N = _carried_rows(night, hashes)
    fresh_N = (rows_N < 0) & np.asarray(pc.not_equal(words, ""))
    tokens, refused = _tokens(_encoder(night).tokenize, words.filter(pa.array(fresh_N)).to_pylist())
    reasons = dict(
        zip(np.flatnonzero(fresh_N)[list(refused)].tolist(), refused.values(), strict=True)
    )
    told = pa.array([reasons.get(at) for at in range(len(hashes))], pa.string())
    columns = [hashes, told, pa.array(rows_N), expand_lists(tokens, fresh_N)]
    return write_arrow([pa.record_batch(columns, schema=_MESSAGE)], _MESSAGE).to_pybytes()


def _carried_rows(night: NightRun, hashes: pa.Array) -> Rows:
    """Where the previous release has each text; -1 for a new one, and for one that has no vector
    there."""
    previous = night.carried_file("items.arrow")
    if previous is None:
        return np.full(len(hashes), -1, np.int32)
    held = read_arrow(previous)["text_hash"]
    rows_N = np.asarray(pc.fill_null(pc.index_in(hashes, value_set=held), -1)).astype(np.int32)
    vectors_ID = np.load(str(night.carried_file("item_vectors.npy")), mmap_mode="r")
    rows_N[rows_N >= 0] = np.where(
        vectors_ID[rows_N[rows_N >= 0]].any(axis=1), rows_N[rows_N >= 0], -1
    )
    return rows_N


def _encoder(night: NightRun) -> Encoder:
    """The one of this worker process, which many shards pass through: it remembers the words of
    those before."""
    os.environ.setdefault(
        "TOKENIZERS_PARALLELISM", "false"
    )  # Ray gives each task a core; theirs would be all cores
    factory = night.setup.encoder
    if repr(factory) not in _ENCODERS:
        _ENCODERS.clear()
        _ENCODERS[repr(factory)] = (
            factory,
            factory(),
        )  # while the factory is held none else has its address
    return _ENCODERS[repr(factory)][1]


_ENCODERS: dict[str, tuple[Callable[[], Encoder], Encoder]] = {}


def _tokens(
    tokenize: Callable[[list[str]], pa.ListArray], texts: list[str]
) -> tuple[pa.ListArray, dict[int, str]]:
    """A list a text, empty where the tokenizer fails, and why it does."""
    if not texts:
        return pa.array([], pa.list_(pa.int32())), {}
    made, refused = bisect(lambda start, stop: tokenize(texts[start:stop]), 0, len(texts))
    read_N = np.ones(len(texts), bool)
    read_N[list(refused)] = False
    return expand_lists(
        pa.concat_arrays(made or [pa.array([], pa.list_(pa.int32()))]), read_N
    ), refused


def expand_lists(tokens: pa.ListArray, where_N: np.ndarray) -> pa.ListArray:
    """The lists at the True places, empty lists elsewhere."""
    lengths_N = np.zeros(len(where_N), np.int64)
    lengths_N[where_N] = np.asarray(pc.list_value_length(tokens))
    offsets = np.concatenate([[0], np.cumsum(lengths_N)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), tokens.flatten().cast(pa.int32()))


class TextEncoderActor:
    """Finishes shards of texts. Where all are new the model is loaded while tasks tokenise the
    first of them, else by the first shard that has a new one."""

    def __init__(self, night: NightRun) -> None:
        self.night = night
        self.encoder = night.setup.encoder()
        self.one_at_a_time = threading.Lock()
        previous = night.carried_file("item_vectors.npy")
        if previous is None:
            self.encoder.load()
        self.previous_ID = (
            np.load(previous, mmap_mode="r")
            if previous
            else np.empty((0, self.encoder.dim), np.float32)
        )

    def process(self, shard: int, prepared: bytes) -> ShardResult:
        message = pa.ipc.open_file(pa.py_buffer(prepared)).get_batch(0)
        rows_N, fresh_N = (
            np.asarray(message["previous"]),
            np.asarray(pc.list_value_length(message["tokens"])) > 0,
        )
        vectors_ND = np.zeros((len(rows_N), self.encoder.dim), np.float32)
        tokens, fresh = message["tokens"].filter(pa.array(fresh_N)), np.flatnonzero(fresh_N)
        vectors_ND[fresh], refused = self._encode(shard, tokens)
        vectors_ND[rows_N >= 0] = self.previous_ID[rows_N[rows_N >= 0]]
        told = message["refused"].to_pylist()
        for at, reason in refused.items():
            told[fresh[at]] = reason
        result = ShardResult(
            len(rows_N), counts={"encoded": int(fresh_N.sum()), "carried": int((rows_N >= 0).sum())}
        )
        hashes = pa.table([message["text_hash"], pa.array(told, pa.string())], schema=_HASHES)
        self.night.write_tables(
            result, f"text_hashes/{shard:05d}.arrow", [one_batch(hashes)], hashes.schema
        )
        self.night.write_arrays(result, shard, {"text_vectors": vectors_ND})
        return result

    def _encode(self, shard: int, tokens: pa.ListArray) -> tuple[Floats, dict[int, str]]:
        def work(start: int, stop: int) -> Floats:
            return self.encoder.encode_tokens(tokens.slice(start, stop - start))

        # Shards are read and written beside each other; when the process dies, it dies of one.
        with self.one_at_a_time:
            careful = FailureIsolator(
                self.night.store, self.night.work_path(f"encoding/{shard:05d}.json")
            )
            return careful.encode(work, len(tokens), self.encoder.dim)


def gather_vectors(night: NightRun, part: int) -> ShardResult:
    """The vectors of item shard `part`, gathered from the text shards that hold them; its items
    without one, noted."""
    items = night.read_part("items", part)
    hashes = items["text_hash"].combine_chunks()
    vectors_ND: Floats | None = None
    result, refused = ShardResult(len(hashes)), []
    for texts in range(night.plan.text_parts):
        known = night.read_part("text_hashes", texts)
        rows_N = np.asarray(pc.fill_null(pc.index_in(hashes, value_set=known["text_hash"]), -1))
        shard_TD = night.read_array("text_vectors", texts)
        if vectors_ND is None:
            vectors_ND = np.zeros((len(hashes), shard_TD.shape[1]), np.float32)
        vectors_ND[rows_N >= 0] = shard_TD[rows_N[rows_N >= 0]]
        reasons = known["refused"].take(pa.array(rows_N, mask=rows_N < 0))
        refused.append(_refused(items["item_id"], reasons))
    assert vectors_ND is not None
    night.write_arrays(result, part, {"item_vectors": vectors_ND})
    night.write_quarantine(result, f"items-unread-{part:05d}", *refused)
    result.counts["quarantined"] = sum(table.num_rows for table in refused)
    return result


def _refused(item_ids: pa.ChunkedArray, reasons: pa.ChunkedArray) -> pa.Table:
    """Quarantine rows of the items whose text the encoder refused."""
    bad = pc.is_valid(reasons)
    ids, why = item_ids.filter(bad).to_pylist(), reasons.filter(bad).to_pylist()
    told = [
        f"the text of item {item!r}: the encoder fails on it ({reason})"
        for item, reason in zip(ids, why, strict=True)
    ]
    rows = len(ids)
    columns = [["items"] * rows, ["after sorting"] * rows, list(range(rows)), told, ids]
    return pa.table(columns, schema=QUARANTINE)


def embed_items(night: NightRun, part: int) -> ShardResult:
    """Item shard `part` as the user model places it; writes nothing where that leaves items where
    their texts are."""
    items, vectors_ID = night.read_part("items", part), night.read_array("item_vectors", part)
    places_ID = night.setup.user_model().embed_items(items, vectors_ID)
    result = ShardResult(len(places_ID))
    if places_ID is not vectors_ID:
        night.write_arrays(result, part, {"taste_vectors": places_ID})
    return result


def user_space_item_vectors(night: NightRun) -> Floats:
    """The items as the user model takes them, in the release in the making."""
    placed = night.is_assembled("taste_vectors.npy")
    return night.open_array("taste_vectors" if placed else "item_vectors")
