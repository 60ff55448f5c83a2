"""The seams, as Protocols. A stranger starts here.

A part of a shop's own implements one of these and is named by a factory in a setup (`config.py`).
Each seam has a contract class in `tests/contracts.py`; an implementation that passes it fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa

from recsys.types import (
    Candidates,
    Floats,
    Histories,
    Impression,
    Interaction,
    Mask,
    PrivacyState,
    Requests,
    Rows,
)


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
class Explained(Protocol):
    """A ranker that can say what each feature did to a score."""

    feature_names: tuple[str, ...]

    def contributions(self, features_BNF: Floats) -> Floats:
        """[B, N, F + 1] float32: what each feature adds to the score, and last what it begins from;
        their sum is `score`, to rounding."""
        ...


@dataclass(frozen=True)
class Appended:
    """What became of a batch of events; `duplicates` had an `event_id` that was there already,
    `dropped` are of users who opted out, or not later than their user's `forgotten`."""

    accepted: int
    duplicates: int
    dropped: int = 0


@dataclass(frozen=True)
class LogState:
    """How an event log is, for a monitor: whether it can be reached, and if not `why`; how many
    rows wait on this host for it, and for how many seconds the oldest of them has."""

    up: bool = True
    waiting: int = 0
    lag_s: float = 0.0
    why: str = ""


class EventStore(Protocol):
    """The live event log. An `append` that returned survives kill -9 and is seen by every other
    opener of the store.

    `sequence` numbers interactions, and impressions by themselves, in order of arrival, from 1 and
    with gaps: a night reads up to a fixed point while more keep coming, and who follows the log
    goes on where he stopped."""

    def append(self, interactions: Sequence[Interaction]) -> Appended:
        """All or none; an `event_id` seen before is counted and skipped, and so is what a
        `PrivacyState` rules out."""
        ...

    def append_impressions(self, impressions: Sequence[Impression]) -> None:
        """One whose `request_id` is there already is skipped: a write may be tried again. A
        `PrivacyState` counts here too."""
        ...

    def quarantine(self, rows: Sequence[tuple[str, dict[str, Any]]]) -> None:
        """Keeps (reason, event as it came) for a person to look at."""
        ...

    def recent(self, user_id: str, after: datetime, limit: int) -> list[Interaction]:
        """This user's interactions later than `after` by event time, oldest first; of more than
        `limit`, the newest."""
        ...

    def last_sequence(self) -> int:
        """Of interactions; 0 where there is none."""
        ...

    def last_impression(self) -> int:
        """The last impression's `sequence`; 0 where there is none."""
        ...

    def interactions(self, until_sequence: int, after: int = 0) -> Iterator[pa.RecordBatch]:
        """What arrived later than `after`, up to and with `until_sequence`, in order of arrival, as
        `tables.LIVE_EVENTS`."""
        ...

    def impressions(self, after: int = 0) -> Iterator[Impression]:
        """Those of a `sequence` above `after`, in order of arrival."""
        ...

    def impression(self, request_id: str) -> Impression | None: ...

    def counts(self) -> dict[str, int]:
        """`interactions`, `impressions`, `quarantined`."""
        ...

    def digest(self, user_id: str) -> str:
        """A hash of the id under this log's own random key: always the same one, and it does not
        tell the id."""
        ...

    def hasher(self) -> Callable[[str], str]:
        """`digest` as a function that pickles: for workers that do not reach the log."""
        ...

    def standing(self, user_id: str) -> PrivacyState:
        """What he decided; the default `PrivacyState()` of who decided nothing."""
        ...

    def set_standing(self, user_id: str, standing: PrivacyState) -> None:
        """Durable, and seen by every opener. Kept under `digest`: the log does not hold the id for
        it."""
        ...

    def standings(self) -> dict[str, PrivacyState]:
        """Of everybody who decided something, by `digest`."""
        ...

    def forget(self, user_id: str) -> dict[str, int]:
        """Deletes every row that names him, however late, and says how many that were, as `traces`
        counts them."""
        ...

    def traces(self, user_id: str) -> dict[str, int]:
        """How many rows name him now: `interactions`, `impressions`, `quarantined`."""
        ...

    def state(self) -> LogState:
        """Never waits for the log."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class Drainable(EventStore, Protocol):
    """A store whose older rows can go elsewhere (`events.archive`). Everything it tells is of later
    ones, but for `recent` and what was seen before."""

    def archived(self) -> tuple[int, int]:
        """Interactions and impressions up to these numbers were acknowledged."""
        ...

    def page(self, until: int, after: int) -> tuple[int, pa.RecordBatch]:
        """The number up to which interactions were acknowledged, and the next ones after `after` as
        `tables.NUMBERED_EVENTS`, both of one moment."""
        ...

    def shown(self, after: int) -> tuple[int, list[Impression]]:
        """The same of impressions."""
        ...

    def acknowledge(self, interactions: int, impressions: int) -> None:
        """What is numbered up to these is elsewhere: it may go. Never goes back; may be said
        again."""
        ...

    def remembered(self, user_id: str) -> int:
        """How many of his events `recent` knows."""
        ...

    def lease(self, token: str, seconds: float) -> bool:
        """Takes or renews the one lock; False where another token holds it."""
        ...

    def release(self, token: str) -> None:
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

    `read_*` returns exactly chunk.rows rows with columns named as in `tables.ITEMS_IN` /
    `tables.EVENTS_IN`, raw: nothing is dropped or repaired here, `ingest.py` judges every row. A
    column may come as strings (a price or time read from CSV), and one that the schema calls
    nullable may be left out."""

    name: str

    def item_chunks(self) -> list[Chunk]: ...

    def event_chunks(self) -> list[Chunk]: ...

    def read_items(self, chunk: Chunk) -> pa.Table: ...

    def read_events(self, chunk: Chunk) -> pa.Table: ...
