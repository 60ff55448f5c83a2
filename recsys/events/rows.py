"""What the stores of the live log share: digests, times, rows as compact bytes and back, page after
page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa

from recsys.errors import InputError
from recsys.interfaces import Drainable
from recsys.tables import LIVE_EVENTS, NUMBERED_EVENTS
from recsys.types import Impression, Interaction

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
#: Fields of an impression that are tuples.
_TUPLES = ("item_ids", "feature_names", "scores", "propensities", "teams")


def microseconds(moment: datetime) -> int:
    """Since 1970 UTC."""
    return (moment - _EPOCH) // _MICROSECOND


def moment(since: int) -> datetime:
    """What `microseconds` was made of."""
    return _EPOCH + since * _MICROSECOND


def digest_under(key: bytes, user_id: str) -> str:
    """32 hex digits: BLAKE2b of the id under a key."""
    return blake2b(user_id.encode("utf-8", "replace"), key=key, digest_size=16).hexdigest()


def interactions_of(log: Drainable, until: int, after: int) -> Iterator[pa.RecordBatch]:
    """`EventStore.interactions` of a log that gives pages."""
    while (batch := log.page(until, after)[1]).num_rows:
        after = batch["sequence"][-1].as_py()
        yield batch.select(LIVE_EVENTS.names)


def impressions_of(log: Drainable, after: int) -> Iterator[Impression]:
    """`EventStore.impressions` of a log that gives pages."""
    while page := log.shown(after)[1]:
        yield from page
        after = page[-1].sequence


def packed(event: Interaction) -> bytes:
    """Raises InputError where a text cannot be written as UTF-8."""
    return _utf8({**asdict(event), "time": microseconds(event.time)})


def unpacked(data: bytes) -> Interaction:
    """What `packed` was given."""
    told = json.loads(data)
    return Interaction(**{**told, "time": moment(told["time"])})


def packed_impression(shown: Impression) -> tuple[bytes, bytes]:
    """All but the features, and those as float32. Raises InputError where a text cannot be written
    as UTF-8."""
    told = {
        **vars(shown),
        "time": microseconds(shown.time),
        "arms": dict(shown.arms),
        "asked": dict(shown.asked),
    }
    del told["features"], told["sequence"]
    return _utf8(told), np.asarray(shown.features, np.float32).tobytes()


def unpacked_impression(data: bytes, features: bytes, sequence: int = 0) -> Impression:
    """What `packed_impression` was given."""
    told = json.loads(data)
    told.update(
        {name: tuple(told[name]) for name in _TUPLES}, time=moment(told["time"]), sequence=sequence
    )
    values_NF = np.frombuffer(features, np.float32).reshape(-1, max(1, len(told["feature_names"])))
    return replace(Impression(**told), features=tuple(map(tuple, values_NF.tolist())))


def batch_of(sequences: Sequence[int], events: Sequence[Interaction]) -> pa.RecordBatch:
    """As `tables.NUMBERED_EVENTS`."""
    rows = [{"sequence": at, **asdict(event)} for at, event in zip(sequences, events, strict=True)]
    return pa.RecordBatch.from_pylist(rows, schema=NUMBERED_EVENTS)


def _utf8(told: dict[str, Any]) -> bytes:
    try:
        return json.dumps(told, default=float, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"a row cannot be written ({error}): check it first, nothing of it was kept"
        ) from error
