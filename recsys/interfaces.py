"""The seams, as Protocols. A stranger starts here.

A part of a shop's own implements one of these and is named by a factory in a setup (`config.py`).
Each seam has a contract class in `tests/contracts.py`; an implementation that passes it fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.arrays import Candidates, Histories, Requests
from recsys.types import Floats, Impression, Interaction, Mask, PrivacyState, Rows

if TYPE_CHECKING:
    from PIL.Image import Image


class Encoder(Protocol):
    """Texts to unit vectors.

    `space` names everything that decides the vectors (weights, pooling, prefix): two encoders of
    one space agree. Making one must be cheap, and tokenising must not load the model: the night
    tokenises in CPU tasks and encodes in (GPU) actors, both made by the same factory."""

    space: str
    dim: int

    def tokenize(self, texts: Sequence[str]) -> pa.ListArray:
        """Token ids of item texts, int32, one list a text. An empty text gives a list that
        `encode_tokens` accepts."""
        ...

    def load(self) -> None:
        """Does beforehand what the first `encode_tokens` of many texts would do before it
        encodes."""
        ...

    def encode_tokens(self, tokens: pa.ListArray) -> Floats:
        """[N, dim] float32, each row of length 1. The same tokens give the same row whatever stands
        beside them."""
        ...

    def encode_items(self, texts: Sequence[str]) -> Floats:
        """Item texts (`encoders.text.item_text`) to [N, dim]."""
        ...

    def encode_queries(self, texts: Sequence[str]) -> Floats:
        """What shoppers type to [N, dim], in the same space as the items."""
        ...


class PictureEncoder(Protocol):
    """Pictures to unit vectors, by the rules of `Encoder`: `space` names the preparation too, and
    `pixels` must not load the model. `side` is the model's input in pixels."""

    space: str
    dim: int
    side: int

    def pixels(self, pictures: Sequence[Image]) -> NDArray[np.uint8]:
        """[N, side, side, 3]: upright RGB pictures of any size as the model reads them."""
        ...

    def load(self) -> None:
        """Does beforehand what the first `encode_pixels` would do before it encodes."""
        ...

    def encode_pixels(self, pixels_NSSC: NDArray[np.uint8]) -> Floats:
        """[N, dim] float32, each row of length 1. The same picture gives the same row, to rounding,
        whatever stands beside it."""
        ...


@runtime_checkable
class JointEncoder(PictureEncoder, Protocol):
    """A picture encoder whose space has words too."""

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        """[N, dim] float32, each row of length 1: near the pictures of what the texts name."""
        ...


class UserModel(Protocol):
    """Histories to user vectors in one space with the items; the one function for night and day.

    A model without training leaves the items where the encoder put them. A trained one gives them
    places of its own, which the release keeps as `taste_vectors`: nightly lists and live answers
    are dot products there."""

    def embed_items(self, items: pa.Table, vectors_ID: Floats) -> Floats:
        """[I, d] float32, finite: the items (columns of `tables.ITEMS`) as `encode_history` takes
        them.

        `vectors_ID` are their encoded texts, zeros where there is none. An item that training never
        saw has a place."""
        ...

    def encode_history(self, histories: Histories, items_ID: Floats) -> Floats:
        """[B, d] float32, each row of length 1, or all zeros where the history says nothing.

        `items_ID` is what `embed_items` gave, of which the histories' items are rows; events of row
        -1 are ignored."""
        ...


class Retriever(Protocol):
    """One source of candidates.

    Filters are applied inside: with `allowed` [I] a request gets min(k, allowed matches) items,
    never fewer because others were better. All sources but buy-again leave out what the request's
    history bought."""

    source: str

    def retrieve(self, requests: Requests, k: int, allowed: Mask | None = None) -> Candidates:
        """Up to k item rows per request, best first, no row twice; raises ValueError when k < 1."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """A retriever that can also say what it thinks of any row, not only of its best: a feature
    without gaps."""

    source: str

    def score(self, requests: Requests, rows_BN: Rows) -> Floats:
        """[B, N] float32 on the scale of `retrieve`'s scores; the value at a pad (-1) means
        nothing."""
        ...


class Classifier(Protocol):
    """What a search text asks for, as one of a fixed set of classes."""

    def classify(self, texts: Sequence[str]) -> list[tuple[str | None, float]]:
        """The likeliest class, None for none of these, and its calibrated probability."""
        ...


class Ranker(Protocol):
    """Orders the merged candidates. Sees each item only through its features."""

    feature_names: tuple[str, ...]

    def score(self, features_BNF: Floats) -> Floats:
        """[B, N] float32, higher is better. A feature of 0 means that its source did not bring the
        item."""
        ...


@runtime_checkable
class ExplainableRanker(Protocol):
    """A ranker that can say what each feature did to a score."""

    feature_names: tuple[str, ...]

    def contributions(self, features_BNF: Floats) -> Floats:
        """[B, N, F + 1] float32: what each feature adds to the score, and last what it begins from;
        their sum is `score`, to rounding."""
        ...


@dataclass(frozen=True)
class AppendResult:
    """Outcome of an append: `duplicates` had an `event_id` that the log has already, `dropped` are
    of users who opted out, or not later than their user's `forgotten`."""

    accepted: int
    duplicates: int
    dropped: int = 0


@dataclass(frozen=True)
class LogPosition:
    """A point in the log: the `sequence` numbers of an interaction and of an impression."""

    interactions: int = 0
    impressions: int = 0


@dataclass(frozen=True)
class LogState:
    """Health of an event log, for monitors: whether it can be reached, and if not the `reason`; how
    many rows wait on this host to be written, and the age of the oldest of them in seconds."""

    up: bool = True
    waiting: int = 0
    lag_s: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class UserEvents:
    """A user's latest interactions, oldest first, as they are stored, and the user's decision
    about them: whether they may be used is for the reader to ask `privacy`."""

    privacy: PrivacyState
    interactions: list[Interaction]


class EventLog(Protocol):
    """The live event log: an append-only record of impressions and interactions.

    An `append` that returned survives kill -9 and is seen by every other opener of the log. What
    the `PrivacyState` of a user rules out is not written. Interactions and impressions are each
    numbered by `sequence`, in order of arrival, from 1 and with gaps: a night reads up to a fixed
    position while more arrive, and a follower of the log resumes where it stopped."""

    def append(self, interactions: Sequence[Interaction]) -> AppendResult:
        """All or none; an `event_id` that the log has already is counted and skipped."""
        ...

    def append_impressions(self, impressions: Sequence[Impression]) -> None:
        """Idempotent by `request_id`: a write may be retried."""
        ...

    def user_events(self, user_id: str, after: datetime, limit: int) -> UserEvents:
        """The user's privacy state and interactions later than `after` by event time, of more than
        `limit` the newest: one round trip, for the request path."""
        ...

    def interactions(self, until_sequence: int, after: int = 0) -> Iterator[pa.RecordBatch]:
        """Those with `after` < sequence <= `until_sequence`, in order of arrival, as
        `tables.LIVE_EVENTS`."""
        ...

    def impressions(self, after: int = 0) -> Iterator[Impression]:
        """Those with a sequence above `after`, in order of arrival."""
        ...

    def impression(self, request_id: str) -> Impression | None:
        """The answer that was logged under this id."""
        ...

    def end(self) -> LogPosition:
        """The last interaction and the last impression; 0 where there is none."""
        ...

    def counts(self) -> dict[str, int]:
        """Rows by kind: `interactions`, `impressions`, `quarantined`."""
        ...

    def state(self) -> LogState:
        """Never waits for the log."""
        ...

    def drain(self) -> int:
        """Moves what the log holds into its archive, and returns the number of rows; 0 for a log
        without one. Readers see both as one log."""
        ...

    def close(self) -> None: ...


class Quarantine(Protocol):
    """Where events go that cannot be used."""

    def quarantine(self, rows: Sequence[tuple[str, dict[str, Any]]]) -> None:
        """Stores (reason, event as received) for a person to look at."""
        ...


class PrivacyRegistry(Protocol):
    """What users decided about their data, stored under a keyed hash of their ids; and the deletion
    of what the log holds of them."""

    def digest(self, user_id: str) -> str:
        """Hash of the id under this log's own random key: stable, and not reversible without it."""
        ...

    def hasher(self) -> Callable[[str], str]:
        """`digest` as a function that pickles, for workers that do not reach the log."""
        ...

    def privacy_state(self, user_id: str) -> PrivacyState:
        """The default `PrivacyState()` for users who decided nothing."""
        ...

    def set_privacy_state(self, user_id: str, state: PrivacyState) -> None:
        """Durable, and seen by every opener. Stored under `digest`: the id itself is not."""
        ...

    def privacy_states(self) -> dict[str, PrivacyState]:
        """Of all users who decided something, by `digest`."""
        ...

    def forget(self, user_id: str) -> dict[str, int]:
        """Deletes every row that names the user; how many, counted as `traces` does."""
        ...

    def traces(self, user_id: str) -> dict[str, int]:
        """Number of rows that name the user: `interactions`, `impressions`, `quarantined`."""
        ...


class EventStore(EventLog, Quarantine, PrivacyRegistry, Protocol):
    """All three in one store: what a setup's `event_store` makes."""


class ArchivableStore(EventStore, Protocol):
    """An event store whose older rows can be moved into an archive (`events.archive`).

    After `acknowledge` its reads cover the rows that are left; `user_events` and the detection of
    duplicates go on to cover rows that were archived."""

    def archived(self) -> LogPosition:
        """The position up to which rows were acknowledged."""
        ...

    def interaction_page(self, until: int, after: int) -> tuple[int, pa.RecordBatch]:
        """The number up to which interactions were acknowledged, and the next ones after `after` as
        `tables.NUMBERED_EVENTS`: read in one transaction."""
        ...

    def impression_page(self, after: int) -> tuple[int, list[Impression]]:
        """The same for impressions."""
        ...

    def acknowledge(self, position: LogPosition) -> None:
        """Rows up to this position are in the archive, so the store may delete them. Idempotent;
        never moves backwards."""
        ...

    def user_event_count(self, user_id: str) -> int:
        """How many archived interactions of the user `user_events` can still return."""
        ...

    def acquire_lease(self, token: str, seconds: float) -> bool:
        """Takes or renews the one lock; False where another token holds it."""
        ...

    def release_lease(self, token: str) -> None:
        """Gives the lock back, where this token holds it."""
        ...


@dataclass(frozen=True)
class Chunk:
    """A part of a source that one worker reads: rows start..start+rows-1 of `path`."""

    path: str
    start: int
    rows: int


class DatasetAdapter(Protocol):
    """A shop's files as canonical tables, chunk by chunk.

    `read_*` returns exactly chunk.rows rows with columns named as in `tables.ITEMS_RAW` /
    `tables.EVENTS_RAW`, raw: nothing is dropped or repaired here, `ingest.py` judges every row. A
    column may come as strings (a price or time read from CSV), and one that is not
    `tables.REQUIRED` may be left out."""

    name: str

    def item_chunks(self) -> list[Chunk]: ...

    def event_chunks(self) -> list[Chunk]: ...

    def read_items(self, chunk: Chunk) -> pa.Table: ...

    def read_events(self, chunk: Chunk) -> pa.Table: ...


@runtime_checkable
class ColumnReporter(DatasetAdapter, Protocol):
    """An adapter that can say which columns of its source nothing is made of."""

    def unused_item_columns(self) -> list[str]: ...

    def unused_event_columns(self) -> list[str]: ...


@runtime_checkable
class FingerprintedAdapter(DatasetAdapter, Protocol):
    """An adapter that knows when its source changed. Without it a night looks at the sizes and
    times of those files that chunks name and this machine has."""

    def fingerprint(self) -> str:
        """The same for as long as nothing changed that is read, nor how it is read. Reads no
        rows."""
        ...


@runtime_checkable
class DatedAdapter(DatasetAdapter, Protocol):
    """An adapter that knows when its items were written: a change of the catalogue by day wins over
    what is older. Without it every change wins."""

    def item_times(self) -> dict[str, datetime]:
        """When the file that each path of `item_chunks` names was last written."""
        ...
