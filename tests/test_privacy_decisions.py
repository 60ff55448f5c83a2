"""Privacy decisions as filters of rows: from literals, without a log."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from recsys.datasets.validate import ValidationResult
from recsys.privacy.decisions import PrivacyDecisions, users_named
from recsys.types import PrivacyState

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
BEFORE, LATER = NOON - timedelta(seconds=1), NOON + timedelta(seconds=1)
DECISIONS = PrivacyDecisions(
    digest=str.upper,
    states={
        "OUT": PrivacyState(opted_out=True),
        "GONE": PrivacyState(forgotten=NOON),
        "BACK": PrivacyState(),
    },
)


def ids(*users: str) -> pa.ChunkedArray:
    return pa.chunked_array([list(users)], pa.string())


@pytest.mark.parametrize(
    ("time", "forbidden"),
    [
        (BEFORE, [True, False, True, False]),
        (NOON, [True, False, True, False]),
        (LATER, [True, False, False, False]),
    ],
)
def test_whose_rows_of_a_time_are_forbidden(time: datetime, forbidden: list[bool]) -> None:
    users = ids("out", "other", "gone", "back")
    assert DECISIONS.forbidden_users(users, time).tolist() == forbidden


@pytest.mark.parametrize(
    ("only", "forbidden"),
    [([], [0, 0, 0]), (["gone"], [0, 0, 1]), (["other"], [0, 0, 0]), (["x", "out"], [1, 0, 0])],
)
def test_of_those_listed_only(only: list[str], forbidden: list[int]) -> None:
    users = ids("out", "other", "gone")
    assert DECISIONS.forbidden_users(users, NOON, only).tolist() == forbidden


def test_without_decisions_nothing_is_forbidden() -> None:
    nobody = PrivacyDecisions()
    assert nobody.forbidden_users(ids("a", "b"), NOON).tolist() == [False, False]
    assert nobody.forbidden_sources(quarantined("a", "b")).tolist() == [False, False]
    checked = ValidationResult(events(("a", NOON)), quarantined("a"))
    assert nobody.filter_events(checked) is checked


def quarantined(*users: str) -> pa.Table:
    return pa.table({"source": [json.dumps({"user_id": user}) for user in users]})


def events(*rows: tuple[str, datetime]) -> pa.Table:
    schema = pa.schema({"user_id": pa.string(), "time": pa.timestamp("us", "UTC")})
    return pa.Table.from_pylist([{"user_id": user, "time": at} for user, at in rows], schema)


def test_quarantined_rows_of_who_decided_anything_are_forbidden() -> None:
    """Whoever took a decision back decided nothing."""
    rows = quarantined("out", "other", "gone", "back")
    assert DECISIONS.forbidden_sources(rows).tolist() == [True, False, True, False]
    line = pa.table({"source": [json.dumps({"_line": "1;other,gone"}), "no json"]})
    assert DECISIONS.forbidden_sources(line).tolist() == [True, False]
    assert DECISIONS.forbidden_sources(rows.slice(0, 0)).dtype == np.bool_


def test_events_are_filtered_by_their_own_time() -> None:
    rows = [(user, at) for user in ("out", "other", "gone", "back") for at in (NOON, LATER)]
    kept = DECISIONS.filter_events(ValidationResult(events(*rows), quarantined("gone", "back")))
    assert list(
        zip(kept.good["user_id"].to_pylist(), kept.good["time"].to_pylist(), strict=True)
    ) == [("other", NOON), ("other", LATER), ("gone", LATER), ("back", NOON), ("back", LATER)]
    assert kept.quarantined["source"].to_pylist() == ['{"user_id": "back"}']


def test_a_chunk_without_events_still_loses_its_quarantined_rows() -> None:
    kept = DECISIONS.filter_events(ValidationResult(events(), quarantined("gone")))
    assert (kept.good.num_rows, kept.quarantined.num_rows) == (0, 0)


def test_decisions_are_not_changed_by_who_reads_them() -> None:
    with pytest.raises(AttributeError):
        DECISIONS.states = {}  # type: ignore[misc]


def test_words_of_a_line_and_the_id_of_a_row_are_named() -> None:
    assert users_named('{"_line": "a\\tb|c", "user_id": "d"}') == {"a", "b", "c", "d"}
    assert users_named('{"user_id": null, "_line": null}') == set()
    assert users_named('{"user_id": 7}') == {"7"}
