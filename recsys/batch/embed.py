"""Texts to item vectors: CPU tasks tokenise, (GPU) actors encode, only what the previous release
does not hold. Then items into the user model's space.

A shard travels from the tasks to the actors as one Arrow message of its distinct texts: hash, row
in the previous release (-1 for a new text), token ids (empty for a carried one), why the tokenizer
fails on it.

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
from recsys.batch.stages import ActorWork
from recsys.interfaces import Encoder
from recsys.release import files
from recsys.release.arrow import read_arrow, write_arrow
from recsys.tables import QUARANTINE
from recsys.types import Floats, Rows

_HASHES = pa.schema([("text_hash", pa.binary(16)), ("reason", pa.string())])
_MESSAGE = pa.schema([*_HASHES, ("previous", pa.int32()), ("tokens", pa.list_(pa.int32()))])


def tokenize_texts(night: NightRun, part: int) -> bytes:
    """Shard `part` of the distinct texts, sorted by hash: carried over where possible, tokenised
    where new."""
    texts = night.gather("texts", part, TEXTS).group_by("text_hash", use_threads=False)
    unique = texts.aggregate([("text", "first")]).rename_columns(TEXTS.names).sort_by("text_hash")
    hashes, words = unique["text_hash"].combine_chunks(), unique["text"].combine_chunks()
    rows_N = _rows_of_previous(night, hashes)
    new_N = (rows_N < 0) & np.asarray(pc.not_equal(words, ""))
    tokens, errors = _tokenize(_encoder(night), words.filter(pa.array(new_N)).to_pylist())
    new = np.flatnonzero(new_N)
    reasons: list[str | None] = [None] * len(hashes)
    for row, error in errors.items():
        reasons[new[row]] = error
    columns = [hashes, pa.array(reasons, pa.string()), pa.array(rows_N), _expand(tokens, new_N)]
    return write_arrow([pa.record_batch(columns, schema=_MESSAGE)], _MESSAGE).to_pybytes()


def _rows_of_previous(night: NightRun, hashes: pa.Array) -> Rows:
    """Where the previous release has each text; -1 for a new one, and for one that has no vector
    there."""
    items = night.previous_file(night.plan.carry_from, files.ITEMS)
    vectors_ID = _previous_vectors(night)
    if items is None or vectors_ID is None:
        return np.full(len(hashes), -1, np.int32)
    rows = pc.index_in(hashes, value_set=read_arrow(items)["text_hash"])
    rows_N = np.asarray(pc.fill_null(rows, -1)).astype(np.int32)
    old = rows_N >= 0
    rows_N[old] = np.where(vectors_ID[rows_N[old]].any(axis=1), rows_N[old], -1)
    return rows_N


def _previous_vectors(night: NightRun) -> Floats | None:
    path = night.previous_file(night.plan.carry_from, files.ITEM_VECTORS)
    return None if path is None else np.load(path, mmap_mode="r")


def _encoder(night: NightRun) -> Encoder:
    """The one of this worker process, which many shards pass through: it remembers the words of
    those before."""
    # Ray gives each task a core; theirs would be all cores.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    factory = night.setup.encoder
    if repr(factory) not in _ENCODERS:
        _ENCODERS.clear()
        # The factory too: while it lives, no other has its address and so its repr.
        _ENCODERS[repr(factory)] = factory, factory()
    return _ENCODERS[repr(factory)][1]


_ENCODERS: dict[str, tuple[Callable[[], Encoder], Encoder]] = {}


def _tokenize(encoder: Encoder, texts: list[str]) -> tuple[pa.ListArray, dict[int, str]]:
    """A list a text, empty where the tokenizer fails, and why it does."""
    if not texts:
        return pa.array([], pa.list_(pa.int32())), {}
    lists, errors = bisect(lambda start, stop: encoder.tokenize(texts[start:stop]), 0, len(texts))
    mask_N = np.ones(len(texts), bool)
    mask_N[list(errors)] = False
    return _expand(pa.concat_arrays(lists or [pa.array([], pa.list_(pa.int32()))]), mask_N), errors


def _expand(tokens: pa.ListArray, mask_N: np.ndarray) -> pa.ListArray:
    """The lists where the mask is True, empty lists elsewhere."""
    lengths_N = np.zeros(len(mask_N), np.int64)
    lengths_N[mask_N] = np.asarray(pc.list_value_length(tokens))
    offsets = np.concatenate([[0], np.cumsum(lengths_N)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), tokens.flatten().cast(pa.int32()))


class TextEncoderActor:
    """Encodes shards of texts. Where all are new the model is loaded while tasks tokenise the first
    of them, else by the first shard that has a new one."""

    def __init__(self, night: NightRun) -> None:
        self.night = night
        self.encoder = night.setup.encoder()
        self.one_at_a_time = threading.Lock()
        previous_ID = _previous_vectors(night)
        if previous_ID is None:
            self.encoder.load()
            previous_ID = np.empty((0, self.encoder.dim), np.float32)
        self.previous_ID = previous_ID

    def process(self, shard: int, prepared: bytes) -> ShardResult:
        message = pa.ipc.open_file(pa.py_buffer(prepared)).get_batch(0)
        rows_N = np.asarray(message["previous"])
        new = np.flatnonzero(np.asarray(pc.list_value_length(message["tokens"])))
        vectors_ND = np.zeros((len(rows_N), self.encoder.dim), np.float32)
        vectors_ND[new], errors = self._encode(shard, message["tokens"].take(pa.array(new)))
        carried_N = rows_N >= 0
        vectors_ND[carried_N] = self.previous_ID[rows_N[carried_N]]
        reasons = message["reason"].to_pylist()
        for row, error in errors.items():
            reasons[new[row]] = error
        counts = {"encoded": len(new), "carried": int(carried_N.sum())}
        result = ShardResult(len(rows_N), counts=counts)
        hashes = pa.table([message["text_hash"], pa.array(reasons, pa.string())], schema=_HASHES)
        self.night.write_table(result, "text_hashes", shard, [one_batch(hashes)], hashes.schema)
        self.night.write_arrays(result, shard, {"text_vectors": vectors_ND})
        return result

    def _encode(self, shard: int, tokens: pa.ListArray) -> tuple[Floats, dict[int, str]]:
        def encode(start: int, stop: int) -> Floats:
            return self.encoder.encode_tokens(tokens.slice(start, stop - start))

        # Shards are read and written beside each other; when the process dies, it dies of one.
        with self.one_at_a_time:
            path = self.night.work_path(f"encoding/{shard:05d}.json")
            isolator = FailureIsolator(self.night.store, path)
            return isolator.encode(encode, len(tokens), self.encoder.dim)


#: The stage of texts: CPU tasks tokenise what actors encode.
ENCODE_TEXTS = ActorWork(TextEncoderActor, prepare=tokenize_texts)


def gather_vectors(night: NightRun, part: int) -> ShardResult:
    """The vectors of item shard `part`, gathered from the text shards that hold them; its items
    without one, quarantined."""
    items = night.read_part(files.ITEMS, part)
    hashes = items["text_hash"].combine_chunks()
    vectors_ND: Floats | None = None
    result, refused = ShardResult(len(hashes)), []
    for shard in range(night.plan.text_parts):
        texts = night.read_part("text_hashes", shard)
        rows_N = np.asarray(pc.fill_null(pc.index_in(hashes, value_set=texts["text_hash"]), -1))
        shard_TD = night.read_array("text_vectors", shard)
        if vectors_ND is None:
            vectors_ND = np.zeros((len(hashes), shard_TD.shape[1]), np.float32)
        vectors_ND[rows_N >= 0] = shard_TD[rows_N[rows_N >= 0]]
        reasons = texts["reason"].take(pa.array(rows_N, mask=rows_N < 0))
        refused.append(_quarantine_rows(items["item_id"], reasons))
    assert vectors_ND is not None
    night.write_arrays(result, part, {files.ITEM_VECTORS: vectors_ND})
    night.write_quarantine(result, f"items-unread-{part:05d}", *refused)
    result.counts["quarantined"] = sum(table.num_rows for table in refused)
    return result


def _quarantine_rows(item_ids: pa.ChunkedArray, reasons: pa.ChunkedArray) -> pa.Table:
    """Quarantine rows of the items whose text the encoder fails on."""
    failed = pc.is_valid(reasons)
    ids = item_ids.filter(failed).to_pylist()
    sentences = [
        f"the text of item {item!r}: the encoder fails on it ({reason})"
        for item, reason in zip(ids, reasons.filter(failed).to_pylist(), strict=True)
    ]
    rows = len(ids)
    columns = [["items"] * rows, ["after sorting"] * rows, list(range(rows)), sentences, ids]
    return pa.table(columns, schema=QUARANTINE)


def embed_items(night: NightRun, part: int) -> ShardResult:
    """Item shard `part` as the user model places it; writes nothing where that leaves items where
    their texts are."""
    items = night.read_part(files.ITEMS, part)
    vectors_ID = night.read_array(files.ITEM_VECTORS, part)
    vectors_Id = night.setup.user_model().embed_items(items, vectors_ID)
    result = ShardResult(len(vectors_Id))
    if vectors_Id is not vectors_ID:
        night.write_arrays(result, part, {files.TASTE_VECTORS: vectors_Id})
    return result


def user_space_item_vectors(night: NightRun) -> Floats:
    """[I, d]: the items in the user model's space, in the release in the making."""
    own_space = night.is_assembled(files.TASTE_VECTORS)
    return night.open_array(files.TASTE_VECTORS if own_space else files.ITEM_VECTORS)
