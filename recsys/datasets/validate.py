"""Row validation: each row of a raw table is valid, or quarantined with a reason. Nothing is
repaired by guessing, and nothing is dropped silently.

`check_items` and `check_events` validate a chunk; the valid rows of many chunks, partitioned by a
key and gathered again, then go through `deduplicate`. Between the two they carry their source:
`_path` and `_row`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.attributes.cells import CARRIED, read_attributes
from recsys.datasets.casts import cast, decode_layout, to_array, to_mask
from recsys.datasets.choices import CatalogueChoices
from recsys.datasets.event_ids import fill_event_ids
from recsys.datasets.event_words import IGNORE, RETURN
from recsys.datasets.image_cells import read_item_images
from recsys.datasets.prices import Violations, raw_column, read_item_prices, read_prices
from recsys.datasets.quarantine import printable_cells, quarantine_rows, violation_sentence
from recsys.datasets.rules import Rule, event_rules, item_rules
from recsys.datasets.variant_rows import inherit_fields
from recsys.errors import InputError
from recsys.tables import EVENTS, EVENTS_RAW, ITEMS_IN, ITEMS_RAW, REQUIRED

#: A raw column that an adapter may add: the text of a line that it could not split into columns,
#: null elsewhere.
LINE = "_line"
_LINE_RULE = "it must have the form of the other lines: as many cells, quotes closed, one encoding"
CLOCK_SKEW = timedelta(minutes=5)
#: The source of a valid row: the two columns that tables carry until `deduplicate`.
SOURCE = pa.schema(
    [
        pa.field("_path", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("_row", pa.int64(), nullable=False),
    ]
)


@dataclass(frozen=True)
class ValidationResult:
    """Every row once: `good`, or `quarantined` (`tables.QUARANTINE`), or counted as `ignored`
    because it is no interaction with an item. `counts` says what else is worth a line."""

    good: pa.Table
    quarantined: pa.Table
    ignored: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)


def check_items(
    raw: pa.Table,
    path: str,
    first_row: int,
    choices: CatalogueChoices = CatalogueChoices(),  # noqa: B008
    now: datetime | None = None,
) -> ValidationResult:
    """Rows first_row.. of `path` as `tables.ITEMS_IN` and `SOURCE`; without `in_stock` an item is
    in stock. Prices are those of `now` (None: of the moment). Where the choices have attributes,
    their pairs are one more column, `cells.CARRIED`.

    Raises InputError when there is no `item_id` column.
    """
    raw, pairs = read_attributes(raw, choices.attributes, choices.infer_attributes)
    made = partial(_prices_and_images, choices=choices, now=now or datetime.now(UTC))
    reading = _Reading(
        name="items",
        schema=ITEMS_IN,
        raw=ITEMS_RAW,
        rules=item_rules(choices),
        made=made,
        finish=inherit_fields,
    )
    checked = _check(raw, path, first_row, reading)
    rows = pc.subtract(checked.good["_row"].combine_chunks(), first_row)
    checked = replace(checked, counts={"gtins_dropped": _dropped_gtins(raw, checked.good, rows)})
    if pairs is None:
        return checked
    return replace(checked, good=checked.good.append_column(CARRIED, pairs.take(rows)))


def _prices_and_images(
    raw: pa.Table, choices: CatalogueChoices, now: datetime
) -> tuple[dict[str, pa.Array], Violations]:
    prices, of_prices = read_item_prices(raw, choices, now)
    images, of_images = read_item_images(raw)
    return prices | images, [*of_prices, *of_images]


def _dropped_gtins(raw: pa.Table, good: pa.Table, rows: pa.Array) -> int:
    """How many valid items had a GTIN that is none."""
    if "gtin" not in raw.column_names:
        return 0
    written = cast(to_array(decode_layout(raw["gtin"])), pa.string()).take(rows)
    is_written = pc.not_equal(pc.utf8_trim_whitespace(written), "").fill_null(False)
    return int(to_mask(pc.and_(is_written, good["gtin"].combine_chunks().is_null())).sum())


def check_events(
    raw: pa.Table,
    path: str,
    first_row: int,
    now: datetime,
    choices: CatalogueChoices = CatalogueChoices(),  # noqa: B008
) -> ValidationResult:
    """Rows first_row.. of `path` as `tables.EVENTS` and `SOURCE`; times without a zone are taken as
    UTC.

    What returns a purchase is a purchase of a negative quantity. An event without an id gets one
    that the same export read again gives it too. Raises InputError when a column that
    `tables.REQUIRED` names is missing."""
    rules = event_rules((now + CLOCK_SKEW).astimezone(UTC), choices)
    made = partial(_event_prices, choices=choices)
    reading = _Reading(name="events", schema=EVENTS_RAW, raw=EVENTS_RAW, rules=rules, made=made)
    checked = _check(raw, path, first_row, reading)
    events, ignored = _without_ignored(_with_returns(checked.good))
    guests = events["user_id"].null_count
    columns = {name: events[name] for name in (*EVENTS.names, *SOURCE.names)}
    columns["event_id"] = fill_event_ids(events)
    good = pa.table(columns).cast(pa.schema([*EVENTS, *SOURCE]))
    counts = {"guest_events": guests, "ignored": ignored}
    return ValidationResult(good, checked.quarantined, ignored, counts)


def _event_prices(
    raw: pa.Table, choices: CatalogueChoices
) -> tuple[dict[str, pa.Array], Violations]:
    """What came back may have a negative price."""
    columns, _, violations = read_prices(raw, ("price",), choices)
    is_negative = pc.less(columns["price"], 0.0)
    if not pc.any(is_negative).as_py():
        return columns, violations
    rules = event_rules(datetime.now(UTC), choices)
    present_N = np.ones(raw.num_rows, bool)
    quantity, types = (
        rules[name](raw_column(raw, name), present_N)[0] for name in ("quantity", "type")
    )
    is_return = pc.or_kleene(pc.less(quantity, 0.0), pc.equal(types, RETURN))
    is_back = to_mask(pc.and_(is_negative, is_return))
    price = pc.if_else(pa.array(is_back), pc.abs(columns["price"]), columns["price"])
    return {"price": price}, [
        (bad_N & ~is_back, column, rule) for bad_N, column, rule in violations
    ]


def _with_returns(events: pa.Table) -> pa.Table:
    """Returns as purchases of less than nothing: `-inf` where it is not said how many."""
    is_return = pc.equal(events["type"], RETURN)
    if not pc.any(is_return).as_py():
        return events
    negative = pc.negate(pc.abs(pc.fill_null(events["quantity"], np.inf)))
    quantities = pc.if_else(is_return, negative, events["quantity"])
    types = pc.if_else(is_return, "purchase", events["type"])
    for name, column in (("quantity", quantities), ("type", types)):
        events = events.set_column(events.schema.get_field_index(name), name, column)
    return events


def _without_ignored(events: pa.Table) -> tuple[pa.Table, int]:
    """Without what is no interaction, as is less than nothing of what is no purchase."""
    is_less = pc.fill_null(pc.less(events["quantity"], 0.0), False)
    is_undone = pc.and_(is_less, pc.not_equal(events["type"], "purchase"))
    stays = pc.invert(pc.or_(is_undone, pc.equal(events["type"], IGNORE)))
    if pc.all(stays, min_count=0).as_py():
        return events, 0
    remaining = events.filter(stays)
    return remaining, events.num_rows - remaining.num_rows


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """How a raw table becomes canonical: `made` gives the columns that several raw ones make, a
    rule each of the others, `finish` fills them. `raw` are the columns that there may be."""

    name: str
    schema: pa.Schema
    raw: pa.Schema
    rules: Mapping[str, Rule]
    made: Callable[[pa.Table], tuple[dict[str, pa.Array], Violations]]
    finish: Callable[[Mapping[str, pa.Array]], Mapping[str, pa.Array]] = dict


def _check(raw: pa.Table, path: str, first_row: int, reading: _Reading) -> ValidationResult:
    _require_columns(raw, path, reading)
    raw = pa.table([decode_layout(column) for column in raw.columns], names=raw.column_names)
    columns, violations = _apply_rules(raw, reading)
    violation_N = np.full(raw.num_rows, -1)
    for number in reversed(range(len(violations))):  # the first violation is a row's reason
        violation_N[violations[number][0]] = number
    row_N = np.arange(first_row, first_row + raw.num_rows)
    path_N = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(raw.num_rows, np.int32)), pa.array([path])
    )
    schema = pa.schema([*reading.schema, *SOURCE])
    checked = pa.table([*columns, path_N, pa.array(row_N)], names=schema.names)
    good = checked.filter(pa.array(violation_N < 0)).cast(schema)
    bad = np.flatnonzero(violation_N >= 0)
    cells = printable_cells(raw.take(pa.array(bad)))
    reasons = [
        violation_sentence(cells, at, *violations[number][1:])
        for at, number in enumerate(violation_N[bad])
    ]
    paths, rows = [path] * len(bad), row_N[bad].tolist()
    return ValidationResult(good, quarantine_rows(reading.name, paths, rows, reasons, cells))


def _require_columns(raw: pa.Table, path: str, reading: _Reading) -> None:
    columns, name = raw.column_names, reading.name
    for column in reading.raw.names:
        if columns.count(column) > 1:
            raise InputError(f"the {name} of {path} have the column {column!r} twice: leave one")
        if column in REQUIRED[name] and column not in columns:
            raise InputError(
                f"the {name} of {path} have no column {column!r}, only "
                f"{', '.join(columns) or 'none'}: say which of them is the {column}"
            )


def _apply_rules(raw: pa.Table, reading: _Reading) -> tuple[list[pa.Array], Violations]:
    """The canonical columns, and every violation as (rows, column, rule)."""
    columns, violations = reading.made(raw)
    if LINE in raw.column_names:
        malformed_N = to_mask(raw[LINE].is_valid())
        violations.insert(0, (malformed_N, LINE, _LINE_RULE))
    for name, rule in reading.rules.items():
        column = raw[name] if name in raw.column_names else pa.nulls(raw.num_rows, pa.string())
        columns[name], of_column = rule(to_array(column), to_mask(column.is_valid()))
        violations += [(bad_N, name, sentence) for bad_N, sentence in of_column]
    filled = reading.finish(columns)
    return [filled[name] for name in reading.schema.names], violations
