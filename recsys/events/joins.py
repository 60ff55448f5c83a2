"""Impressions joined with the interactions under their `request_id`: labelled examples to learn
ranking from, and query-item pairs to learn search from.

Legend: N shown items, E interactions, F features."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.datasets.judgments import GRADES, JudgedPairs
from recsys.datasets.validate import CLOCK_SKEW
from recsys.errors import InputError
from recsys.tables import EXAMPLES, LIVE_EVENTS, TIME
from recsys.types import EVENT_TYPES, Impression, Rows
from recsys.understanding.normalisation import normalise

T = TypeVar("T")
_SEPARATOR = "\x1f"  # ids have no control characters
#: Columns of `tables.EXAMPLES` that are the same for all items of an answer.
_ANSWER_COLUMNS = ("request_id", "user_id", "surface", "query", "release", "time", "ranker")


def label_examples(
    impressions: Iterable[Impression],
    interactions: Iterable[pa.RecordBatch],
    now: datetime | None = None,
) -> pa.Table:
    """Labelled examples (`tables.EXAMPLES`): one row a shown item, answers in order, each best
    first.

    `label` is the strongest interaction with the item under the answer's `request_id`: 0 for none,
    then 1 + its place in EVENT_TYPES; `origin` is the first one's. `features` follow
    `feature_names(table)`, the union over all impressions; one that an impression does not have is
    0. An impression that comes twice counts once. Interactions with no or an unknown `request_id`,
    with an item that the answer did not show, or more than CLOCK_SKEW before it or after `now`,
    label nothing: `log_checks.count_anomalies` counts them."""
    newest_first = reversed(list(impressions))
    unique = list({each.request_id: each for each in newest_first}.values())[::-1]
    names = tuple(dict.fromkeys(name for each in unique for name in each.features.names))
    items = shown_items(unique, names)
    events = to_events_table(interactions, ["request_id", "item_id", "type", "time", "origin"])
    events = events.filter(events["request_id"].is_valid())
    row_E = pc.index_in(request_item_keys(events), value_set=request_item_keys(items))
    events, row_E = events.filter(row_E.is_valid()), row_E.drop_null()
    is_wrong_E = pc.or_(
        is_before(events["time"], items["time"].take(row_E)),
        is_in_future(events["time"], now or datetime.now(UTC)),
    )
    events = events.filter(pc.invert(is_wrong_E))
    row_E = np.asarray(row_E.filter(pc.invert(is_wrong_E))).astype(np.int64)
    label_N, origin_N = np.zeros(items.num_rows, np.int8), np.full(items.num_rows, None, object)
    np.maximum.at(label_N, row_E, 1 + event_codes(events["type"]))
    origin_N[row_E[::-1]] = events["origin"].to_pylist()[::-1]
    schema = EXAMPLES.with_metadata({"feature_names": json.dumps(names)})
    labelled = items.append_column("label", pa.array(label_N))
    return labelled.append_column("origin", pa.array(origin_N.tolist(), pa.string())).cast(schema)


def feature_names(examples: pa.Table) -> tuple[str, ...]:
    """Names of the columns of `features`."""
    return tuple(json.loads((examples.schema.metadata or {})[b"feature_names"]))


def query_pairs(
    examples: pa.Table, rows_of: Callable[[pa.ChunkedArray], Rows]
) -> dict[str, JudgedPairs]:
    """Searches that led to something, as pairs to train on: a tenth of the queries, by hash, is
    `valid`.

    The grade of an item is that of the strongest interaction anybody had with it after this query
    (GRADES); an item without one is no pair: it may not have been seen. `rows_of` gives the rows of
    item ids, -1 for unknown. Raises InputError where that leaves no query to train or to choose on.
    """
    touched = examples.filter(
        pc.and_(pc.greater(examples["label"], 0), pc.is_valid(examples["query"]))
    )
    columns = touched["query"].to_pylist(), rows_of(touched["item_id"]).tolist()
    grades: dict[tuple[str, int], float] = {}
    for text, row, label in zip(*columns, touched["label"].to_pylist(), strict=True):
        key = normalise(text).casefold(), row
        if row >= 0 and key[0]:
            grades[key] = max(grades.get(key, 0.0), GRADES[label])
    split = {
        "train": [key for key in grades if not _is_held_out(key[0])],
        "valid": [key for key in grades if _is_held_out(key[0])],
    }
    for name, keys in split.items():
        if not keys:
            raise InputError(
                f"{len(grades):,} items were touched after a search, none of them for a query of "
                f"the {name} part: wait for more traffic, or train on judged pairs with --data"
            )
    return {
        name: JudgedPairs.from_texts(
            [text for text, _ in keys],
            np.array([row for _, row in keys]),
            np.array([grades[key] for key in keys]),
        )
        for name, keys in split.items()
    }


def _is_held_out(text: str) -> bool:
    return blake2b(text.encode("utf-8", "replace"), digest_size=1).digest()[0] < 26


# What checks of the log and histories need, too


def shown_items(impressions: Sequence[Impression], names: tuple[str, ...]) -> pa.Table:
    """`tables.EXAMPLES` without `label` and `origin`; features in the order of `names`."""
    counts = [len(each.item_ids) for each in impressions]
    features_NF = np.concatenate(
        [np.empty((0, len(names)), np.float32), *(_features(each, names) for each in impressions)]
    )
    offsets = np.arange(len(features_NF) + 1, dtype=np.int32) * len(names)
    offset_N = np.repeat([each.offset for each in impressions], counts).astype(np.int32)
    places = [np.arange(1, count + 1, dtype=np.int32) for count in counts]
    scores = _flatten((each.scores for each in impressions), counts, 0.0)
    propensities = _flatten((each.propensities for each in impressions), counts, 1.0)
    teams = _flatten((each.teams for each in impressions), counts, "")
    columns = {
        "item_id": pa.array([item for each in impressions for item in each.item_ids], pa.string()),
        "position": pa.array(offset_N + np.concatenate([np.empty(0, np.int32), *places])),
        "features": pa.ListArray.from_arrays(pa.array(offsets), pa.array(features_NF.ravel())),
        "score": pa.array(scores, pa.float32()),
        "propensity": pa.array(propensities, pa.float32()),
        "team": pa.array(teams, pa.string()),
    }
    table = _answers(impressions).take(pa.array(np.repeat(np.arange(len(impressions)), counts)))
    for name, column in columns.items():
        table = table.append_column(name, column)
    return table.select([name for name in EXAMPLES.names if name not in ("label", "origin")])


def to_events_table(interactions: Iterable[pa.RecordBatch], columns: list[str]) -> pa.Table:
    """Some columns of the log's batches as one table."""
    schema = pa.schema([LIVE_EVENTS.field(name) for name in columns])
    batches = [batch.select(columns) for batch in interactions]
    return pa.Table.from_batches(batches, schema).combine_chunks()


def request_item_keys(table: pa.Table) -> pa.ChunkedArray:
    """One key for (request_id, item_id)."""
    return pc.binary_join_element_wise(table["request_id"], table["item_id"], _SEPARATOR)


def is_before(times_E: pa.ChunkedArray, answered_E: pa.ChunkedArray) -> pa.ChunkedArray:
    """[E]: whether the event claims to be earlier than its answer, by more than CLOCK_SKEW."""
    return pc.less(times_E, pc.subtract(answered_E, pa.scalar(CLOCK_SKEW, pa.duration("us"))))


def is_in_future(times_E: pa.ChunkedArray, now: datetime) -> pa.ChunkedArray:
    """[E]: whether the event claims to be later than `now`, by more than CLOCK_SKEW."""
    return pc.greater(times_E, pa.scalar(now + CLOCK_SKEW, TIME))


def event_codes(types: pa.ChunkedArray) -> NDArray[np.int8]:
    """Places in EVENT_TYPES."""
    return pc.index_in(types, value_set=pa.array(EVENT_TYPES)).to_numpy().astype(np.int8)


def _answers(impressions: Sequence[Impression]) -> pa.Table:
    """One row an answer."""
    columns = {
        name: pa.array([getattr(each, name) for each in impressions], EXAMPLES.field(name).type)
        for name in _ANSWER_COLUMNS
    }
    arms = [list(each.arms.items()) for each in impressions]
    return pa.table({**columns, "arms": pa.array(arms, EXAMPLES.field("arms").type)})


def _flatten(values: Iterable[Sequence[T]], counts: list[int], default: T) -> list[T]:
    """Laid end to end; an impression without values gets `default` for each of its items."""
    return [
        each
        for row, count in zip(values, counts, strict=True)
        for each in (row or [default] * count)
    ]


def _features(impression: Impression, names: tuple[str, ...]) -> NDArray[np.float32]:
    """[N, F]: the impression's features in the columns of `names`, 0 elsewhere."""
    features_NF = np.zeros((len(impression.item_ids), len(names)), np.float32)
    if names and len(impression.features):
        columns = [names.index(name) for name in impression.features.names]
        features_NF[:, columns] = impression.features.values_NF
    return features_NF
