"""Shared by all stores of the event log: keyed hashes of ids, times as integers, interactions and
impressions as compact bytes, reading by pages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa

from recsys.errors import InputError
from recsys.interfaces import ArchivableStore
from recsys.tables import LIVE_EVENTS, NUMBERED_EVENTS
from recsys.types import FeatureTable, Impression, Interaction

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
#: Fields of an impression that are tuples.
_TUPLES = ("item_ids", "feature_names", "scores", "propensities", "teams")


def to_microseconds(time: datetime) -> int:
    """Since 1970 UTC."""
    return (time - _EPOCH) // _MICROSECOND


def from_microseconds(since_epoch: int) -> datetime:
    """The inverse of `to_microseconds`."""
    return _EPOCH + since_epoch * _MICROSECOND


def keyed_digest(key: bytes, user_id: str) -> str:
    """32 hex digits: BLAKE2b of the id under a key."""
    return blake2b(user_id.encode("utf-8", "replace"), key=key, digest_size=16).hexdigest()


def read_interactions(log: ArchivableStore, until: int, after: int) -> Iterator[pa.RecordBatch]:
    """`EventLog.interactions` of a store that is read by pages."""
    while (batch := log.interaction_page(until, after)[1]).num_rows:
        after = batch["sequence"][-1].as_py()
        yield batch.select(LIVE_EVENTS.names)


def read_impressions(log: ArchivableStore, after: int) -> Iterator[Impression]:
    """`EventLog.impressions` of a store that is read by pages."""
    while page := log.impression_page(after)[1]:
        yield from page
        after = page[-1].sequence


def encode_interaction(event: Interaction) -> bytes:
    """Raises InputError where a text cannot be written as UTF-8."""
    return _utf8_json({**asdict(event), "time": to_microseconds(event.time)})


def decode_interaction(data: bytes) -> Interaction:
    """The inverse of `encode_interaction`."""
    fields = json.loads(data)
    return Interaction(**{**fields, "time": from_microseconds(fields["time"])})


def encode_impression(impression: Impression) -> tuple[bytes, bytes]:
    """All fields but the features, and those as float32. Raises InputError where a text cannot be
    written as UTF-8."""
    fields = {
        **vars(impression),
        "time": to_microseconds(impression.time),
        "arms": dict(impression.arms),
        "feature_names": impression.features.names,
        "asked": dict(impression.parameters),
    }
    del fields["features"], fields["parameters"], fields["sequence"]
    return _utf8_json(fields), encode_features(impression)


def decode_impression(data: bytes, features: bytes, sequence: int = 0) -> Impression:
    """The inverse of `encode_impression`."""
    fields = json.loads(data)
    fields |= {name: tuple(fields[name]) for name in _TUPLES}
    fields["time"] = from_microseconds(fields["time"])
    fields["features"] = decode_features(features, fields.pop("feature_names"))
    fields["parameters"] = fields.pop("asked")
    return Impression(**fields, sequence=sequence)


def encode_features(impression: Impression) -> bytes:
    """The matrix [N, F] as float32, row by row."""
    return np.asarray(impression.features.values_NF, np.float32).tobytes()


def decode_features(data: bytes, names: tuple[str, ...]) -> FeatureTable:
    """The inverse of `encode_features`; no rows where there are no columns."""
    if not names:
        return FeatureTable()
    return FeatureTable(names, np.frombuffer(data, np.float32).reshape(-1, len(names)))


def to_batch(sequences: Sequence[int], events: Sequence[Interaction]) -> pa.RecordBatch:
    """As `tables.NUMBERED_EVENTS`."""
    rows = [{"sequence": n, **asdict(event)} for n, event in zip(sequences, events, strict=True)]
    return pa.RecordBatch.from_pylist(rows, schema=NUMBERED_EVENTS)


def _utf8_json(fields: dict[str, Any]) -> bytes:
    try:
        return json.dumps(fields, default=float, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"a row cannot be written ({error}): check it first, none of the rows was written"
        ) from error
