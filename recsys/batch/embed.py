"""Texts to item vectors: CPU tasks tokenise, (GPU) actors encode, only what the previous release does not hold.
Item vectors to places: where the user model has the items.

A shard travels from the tasks to the actors as one Arrow message of its distinct texts: hash, row in the previous
release (-1 for a new text), token ids (empty for a carried one).
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.batch.ingest import TEXTS
from recsys.batch.plan import Done, Place, one_batch
from recsys.release import read_arrow, write_arrow
from recsys.types import Floats

_MESSAGE = pa.schema([("text_hash", pa.binary(16)), ("previous", pa.int32()), ("tokens", pa.list_(pa.int32()))])


def tokenize(place: Place, part: int) -> bytes:
    """Shard `part` of the distinct texts, sorted by hash: carried over where possible, tokenised where new."""
    texts = place.gather("texts", part, TEXTS)
    unique = texts.group_by("text_hash", use_threads=False).aggregate([("text", "first")]).rename_columns(TEXTS.names)
    unique = unique.sort_by("text_hash")
    hashes, words = unique["text_hash"].combine_chunks(), unique["text"].combine_chunks()
    rows_N = np.full(len(hashes), -1, np.int32)
    if previous := place.carried("items.arrow"):
        held = read_arrow(previous)["text_hash"]
        rows_N = np.asarray(pc.fill_null(pc.index_in(hashes, value_set=held), -1)).astype(np.int32)
    fresh_N = (rows_N < 0) & np.asarray(pc.not_equal(words, ""))
    tokens = place.setup.encoder().tokenize(words.filter(pa.array(fresh_N)).to_pylist())
    return write_arrow(
        [pa.record_batch([hashes, pa.array(rows_N), spread(tokens, fresh_N)], schema=_MESSAGE)], _MESSAGE
    ).to_pybytes()


def spread(tokens: pa.ListArray, where_N: np.ndarray) -> pa.ListArray:
    """The lists at the True places, empty lists elsewhere."""
    lengths_N = np.zeros(len(where_N), np.int64)
    lengths_N[where_N] = np.asarray(pc.list_value_length(tokens))
    offsets = np.concatenate([[0], np.cumsum(lengths_N)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), tokens.flatten().cast(pa.int32()))


class Encode:
    """Finishes shards of texts; the model is loaded by the first that has a new one."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.encoder = place.setup.encoder()
        previous = place.carried("item_vectors.npy")
        self.previous_ID = np.load(previous, mmap_mode="r") if previous else np.empty((0, self.encoder.dim), np.float32)

    def finish(self, shard: int, prepared: bytes) -> Done:
        message = pa.ipc.open_file(pa.py_buffer(prepared)).get_batch(0)
        rows_N, fresh_N = np.asarray(message["previous"]), np.asarray(pc.list_value_length(message["tokens"])) > 0
        vectors_ND = np.zeros((len(rows_N), self.encoder.dim), np.float32)
        if fresh_N.any():
            vectors_ND[fresh_N] = self.encoder.encode_tokens(message["tokens"].filter(pa.array(fresh_N)))
        vectors_ND[rows_N >= 0] = self.previous_ID[rows_N[rows_N >= 0]]
        done = Done(len(rows_N), counts={"encoded": int(fresh_N.sum()), "carried": int((rows_N >= 0).sum())})
        hashes = pa.table([message["text_hash"]], ["text_hash"])
        self.place.write_tables(done, f"text_hashes/{shard:05d}.arrow", [one_batch(hashes)], hashes.schema)
        self.place.write_arrays(done, shard, {"text_vectors": vectors_ND})
        return done


def spread_vectors(place: Place, part: int) -> Done:
    """The vectors of item shard `part`, gathered from the text shards that hold them."""
    hashes = place.read_part("items", part)["text_hash"].combine_chunks()
    vectors_ND: Floats | None = None
    for texts in range(place.plan.text_parts):
        known = place.read_part("text_hashes", texts)["text_hash"]
        rows_N = np.asarray(pc.fill_null(pc.index_in(hashes, value_set=known), -1))
        shard_TD = place.read_array("text_vectors", texts)
        if vectors_ND is None:
            vectors_ND = np.zeros((len(hashes), shard_TD.shape[1]), np.float32)
        vectors_ND[rows_N >= 0] = shard_TD[rows_N[rows_N >= 0]]
    done = Done(len(hashes))
    assert vectors_ND is not None
    place.write_arrays(done, part, {"item_vectors": vectors_ND})
    return done


def place_items(place: Place, part: int) -> Done:
    """Item shard `part` as the user model places it; writes nothing where that leaves items where their texts are."""
    items, vectors_ID = place.read_part("items", part), place.read_array("item_vectors", part)
    places_ID = place.setup.user_model().place_items(items, vectors_ID)
    done = Done(len(places_ID))
    if places_ID is not vectors_ID:
        place.write_arrays(done, part, {"taste_vectors": places_ID})
    return done


def taste_vectors(place: Place) -> Floats:
    """The items as the user model takes them, in the release in the making."""
    placed = place.is_assembled("taste_vectors.npy")
    return place.released_array("taste_vectors" if placed else "item_vectors")
