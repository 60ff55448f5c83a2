"""Events and impressions as rows of plain values: what the Redis log and the archive hold."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa

from recsys.tables import LIVE_EVENTS, TIME
from recsys.types import Impression, Interaction

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TEXTS = pa.list_(pa.string())
_FLOATS = pa.list_(pa.float64())
#: Interactions of a log, with their numbers in it.
NUMBERED = pa.schema([*LIVE_EVENTS, ("sequence", pa.int64())])
#: Impressions in Parquet; `features` are float32, an item after the other.
IMPRESSIONS = pa.schema(
    [
        ("request_id", pa.string()),
        ("time", TIME),
        ("user_id", pa.string()),
        ("release", pa.string()),
        ("surface", pa.string()),
        ("query", pa.string()),
        ("offset", pa.int64()),
        ("item_ids", _TEXTS),
        ("feature_names", _TEXTS),
        ("features", pa.binary()),
        ("scores", _FLOATS),
        ("propensities", _FLOATS),
        ("teams", _TEXTS),
        ("ranker", pa.string()),
        ("arms", pa.string()),
        ("asked", pa.string()),
        ("sequence", pa.int64()),
    ]
)


def digest_under(key: bytes, user_id: str) -> str:
    """32 hex digits: BLAKE2b of the id under a key."""
    return blake2b(user_id.encode("utf-8", "replace"), key=key, digest_size=16).hexdigest()


def microseconds(moment: datetime) -> int:
    """Since 1970 UTC."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def moment(microseconds: int) -> datetime:
    """The inverse of `microseconds`."""
    return _EPOCH + timedelta(microseconds=microseconds)


def interaction_row(event: Interaction) -> str:
    """As JSON; UnicodeEncodeError where a text cannot be stored."""
    row = {name: getattr(event, name) for name in LIVE_EVENTS.names}
    return _checked(json.dumps({**row, "time": microseconds(event.time)}, ensure_ascii=False, default=float))


def interaction_of(row: str | bytes) -> Interaction:
    """The inverse of `interaction_row`."""
    told = json.loads(row)
    return Interaction(**{**told, "time": moment(told["time"])})


def interactions_table(rows: Sequence[str | bytes], sequences: Sequence[int]) -> pa.RecordBatch:
    """Rows of `interaction_row` as NUMBERED."""
    told = [json.loads(row) for row in rows]
    columns = [pa.array([each[name] for each in told]) for name in LIVE_EVENTS.names]
    typed = [column.cast(field.type) for column, field in zip(columns, LIVE_EVENTS, strict=True)]
    return pa.RecordBatch.from_arrays([*typed, pa.array(sequences, pa.int64())], schema=NUMBERED)


def impression_columns(shown: Impression) -> dict[str, Any]:
    """By name as in IMPRESSIONS."""
    row: dict[str, Any] = {name: getattr(shown, name) for name in IMPRESSIONS.names}
    return row | {
        "features": np.asarray(shown.features, np.float32).tobytes(),
        "scores": [float(score) for score in shown.scores],
        "propensities": [float(chance) for chance in shown.propensities],
        "arms": json.dumps(dict(shown.arms), default=float),
        "asked": json.dumps(dict(shown.asked), default=float),
    }


def impression_of(row: Mapping[str, Any]) -> Impression:
    """The inverse of `impression_columns`."""
    names = tuple(row["feature_names"])
    values_NF = np.frombuffer(row["features"], np.float32).reshape(-1, max(1, len(names)))
    lists = {name: tuple(row[name]) for name in ("item_ids", "scores", "propensities", "teams")}
    told = {"arms": json.loads(row["arms"]), "asked": json.loads(row["asked"]), "feature_names": names}
    return Impression(**{**row, **lists, **told, "features": tuple(map(tuple, values_NF.tolist()))})


def impression_row(shown: Impression) -> str:
    """As JSON; UnicodeEncodeError where a text cannot be stored."""
    row = impression_columns(shown)
    plain = {**row, "time": microseconds(shown.time), "features": b64encode(row["features"]).decode()}
    return _checked(json.dumps(plain, ensure_ascii=False))


def impression_of_row(row: str | bytes, sequence: int) -> Impression:
    """The inverse of `impression_row`."""
    told = json.loads(row)
    told |= {"time": moment(told["time"]), "features": b64decode(told["features"]), "sequence": sequence}
    return impression_of(told)


def _checked(text: str) -> str:
    text.encode()
    return text
