"""Changes as a shop sends them, judged by the very lines that judge a night's rows: `check_items`.

What a change means does not depend on what else comes with it: cells that a file's other rows would
help to read are read alone."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, get_args

import pyarrow as pa

from recsys.attributes.cells import CARRIED, COLUMN, walk_pairs
from recsys.catalogue.changes import ItemChange, Kind, version_of_time
from recsys.datasets.choices import CatalogueChoices
from recsys.datasets.json_files import to_column
from recsys.datasets.money import is_beyond_doubt
from recsys.datasets.times import SWAPPABLE
from recsys.datasets.validate import CLOCK_SKEW, check_items
from recsys.datasets.variant_rows import INHERITED
from recsys.tables import ITEMS_IN

KINDS: tuple[Kind, ...] = get_args(Kind)
PRICES = ("price", "list_price", "currency")
#: When a sale holds: a night knows what a price is at its time, a change says what it is now.
WINDOWS = ("sale_starts", "sale_ends", "sale_price_effective_date")
#: What a row may have beside the fields of its item.
CONTROLS = ("op", "item_id", "if_version", "updated_at")
_PRICE_FIELDS = ("price", "list_price", "sale_price")
FIELDS = tuple(name for name in ITEMS_IN.names if name != "item_id")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)")


@dataclass(frozen=True)
class InvalidChange:
    """A row that is no change: its place among the others, what it names, and why."""

    place: int
    item_id: str
    field: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class _Row:
    place: int
    kind: Kind
    item_id: str | int
    version: int | None
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cells(self) -> dict[str, Any]:
        """What is to be checked: a null is as nothing."""
        return {"item_id": self.item_id} | {
            name: value for name, value in self.fields.items() if value is not None
        }


class _InvalidError(Exception):
    """`field` of a row, and why it cannot be used."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field


def allowed_fields(choices: CatalogueChoices) -> tuple[str, ...]:
    """The fields that an item has: those of the catalogue, and its attributes' own."""
    own = [attribute.column or attribute.name for attribute in choices.attributes]
    return (*FIELDS, "sale_price", *own)


def read_changes(
    rows: Sequence[Any], choices: CatalogueChoices, now: datetime | None = None
) -> list[ItemChange | InvalidChange]:
    """Each row's change, or why it is none: rows are objects as JSON has them, with an `op` (by
    default put), an `item_id`, and the item's fields.

    A put has every field, null where its row has none; a patch those that its row names."""
    now = now or datetime.now(UTC)
    outcomes: dict[int, ItemChange | InvalidChange] = {}
    groups = defaultdict[Any, list[_Row]](list)
    for place, raw in enumerate(rows):
        try:
            row = _parsed(place, raw, choices, now)
            groups[_group(row, choices)].append(row)
        except _InvalidError as error:
            item_id = raw.get("item_id") if isinstance(raw, dict) else None
            outcomes[place] = InvalidChange(place, str(item_id or ""), error.field, str(error))
    for group in groups.values():
        outcomes |= _checked(group, choices, now)
    return [outcomes[place] for place in range(len(rows))]


# One row


def _parsed(place: int, raw: Any, choices: CatalogueChoices, now: datetime) -> _Row:
    if not isinstance(raw, dict):
        raise _InvalidError("item", f"item is {_short(raw)}: give an object with an item_id")
    try:
        json.dumps(raw, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        raise _InvalidError("item", "item holds half a character or is nested too deep") from None
    kind, item_id = raw.get("op", "put"), raw.get("item_id")
    if kind not in KINDS:
        raise _InvalidError("op", f"op is {_short(kind)}: give one of {', '.join(KINDS)}")
    if not isinstance(item_id, str | int) or isinstance(item_id, bool):
        raise _InvalidError("item_id", f"item_id is {_short(item_id)}: give the item's id as text")
    fields = {name: value for name, value in raw.items() if name not in CONTROLS}
    _require_fields(kind, fields, choices)
    if isinstance(fields.get(COLUMN), dict | list):
        pairs = walk_pairs(fields[COLUMN])
        fields[COLUMN] = [{"name": name, "value": value} for name, value in pairs]
    version = _version(raw, now)
    return _Row(place=place, kind=kind, item_id=item_id, version=version, fields=fields)


def _require_fields(kind: Kind, fields: Mapping[str, Any], choices: CatalogueChoices) -> None:
    allowed = allowed_fields(choices)
    for name, value in fields.items():
        if name in WINDOWS:
            if value is not None:
                raise _InvalidError(name, window_reason(name, value))
        elif name not in allowed:
            raise _InvalidError(
                name, f"field {_short(name)} is unknown: an item has {', '.join(allowed)}"
            )
    if kind == "delete" and fields:
        name = next(iter(fields))
        raise _InvalidError(name, f"a delete names {name}: it has an item_id alone")
    if kind == "patch":
        _require_patch(fields, choices)


def window_reason(name: str, value: Any) -> str:
    """Why a change may not say when its sale holds."""
    return (
        f"{name} is {_short(value)}: a change says what holds now; send sale_price when the sale "
        "begins, and null when it ends"
    )


def _require_patch(fields: Mapping[str, Any], choices: CatalogueChoices) -> None:
    """What one field of a patch cannot say without another."""
    if not fields:
        raise _InvalidError("item", "the patch names no field: name those that change")
    for name in ("list_price", "sale_price", "currency"):
        if name in fields and "price" not in fields:
            raise _InvalidError(
                name, f"{name} comes without price: send price, the regular one, beside it"
            )
    for attribute in choices.attributes:
        name = attribute.column or attribute.name
        if name in fields and name not in FIELDS:
            raise _InvalidError(
                name, f"{name} is one attribute: send all of the item's as {COLUMN}"
            )


def _version(raw: Mapping[str, Any], now: datetime) -> int | None:
    number, text = raw.get("if_version"), raw.get("updated_at")
    if number is not None and text is not None:
        raise _InvalidError("if_version", "if_version and updated_at both say a version: send one")
    if text is not None:
        return version_of_time(_time(text, now))
    if number is None:
        return None
    is_whole = isinstance(number, int) and not isinstance(number, bool)
    if not is_whole or not 0 <= number < 2**63:
        raise _InvalidError(
            "if_version", f"if_version is {_short(number)}: give a whole number from 0 up"
        )
    return int(number)


def _time(text: Any, now: datetime) -> datetime:
    sentence = f"updated_at is {_short(text)}: "
    try:
        if not isinstance(text, str) or not _TIME.fullmatch(text):
            raise ValueError
        time = datetime.fromisoformat(text)
    except ValueError:
        sentence += "give an ISO 8601 time with its zone, such as 2026-01-31T18:00:00Z"
        raise _InvalidError("updated_at", sentence) from None
    if reason := clock_reason(time, now):
        raise _InvalidError("updated_at", reason)
    return time


def clock_reason(time: datetime, now: datetime) -> str:
    """Why a source's time cannot be a version; "" where it can."""
    if time <= now + CLOCK_SKEW:
        return ""
    return (
        f"updated_at is {time.isoformat()}: that is {(time - now).total_seconds():,.0f} s ahead of "
        f"this host's clock, and more than {CLOCK_SKEW.total_seconds():.0f} may not be: set the "
        "clocks"
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."


# Rows of one shape


def _group(row: _Row, choices: CatalogueChoices) -> Any:
    """Rows of one group are checked together; its own place for one to be checked alone."""
    cells = row.cells
    # Rows of one group_id inherit what is blank from the first.
    is_blank = any(not str(cells.get(name, "x")).strip() for name in INHERITED)
    if (is_blank and "group_id" in cells) or any(
        _is_unclear(name, value, choices) for name, value in cells.items()
    ):
        return row.place
    shapes = tuple(sorted((name, _shape(value)) for name, value in cells.items()))
    return shapes, repr(cells.get("currency"))


def _is_unclear(name: str, value: Any, choices: CatalogueChoices) -> bool:
    """Whether other cells of its column could say how it is to be read."""
    if name in _PRICE_FIELDS and isinstance(value, str):
        return not is_beyond_doubt(value)
    if name == "category" and not (choices.category_separator and choices.category_list_separator):
        return bool(re.search(r"[,|/;]", json.dumps(value)))
    if name == "added" and isinstance(value, str):
        return choices.day_first is None and bool(re.match(SWAPPABLE, value))
    return False


def _shape(value: Any) -> str:
    """Its type, down to the elements: Arrow makes one column of values of one shape."""
    if isinstance(value, list):
        return f"[{' '.join(sorted({_shape(each) for each in value}))}]"
    if isinstance(value, dict):
        return repr({name: _shape(value[name]) for name in sorted(value)})
    return type(value).__name__


def _checked(
    rows: Sequence[_Row], choices: CatalogueChoices, now: datetime
) -> dict[int, ItemChange | InvalidChange]:
    """By place."""
    names = list(dict.fromkeys(name for row in rows for name in row.cells))
    columns = {name: to_column([row.cells.get(name) for row in rows]) for name in names}
    if COLUMN not in columns:
        columns[COLUMN] = pa.nulls(len(rows), pa.string())
    result = check_items(pa.table(columns), "the request", 0, choices, now)
    outcomes = dict[int, ItemChange | InvalidChange]()
    for values in result.good.to_pylist():
        row = rows[values["_row"]]
        outcomes[row.place] = _change(row, values)
    for values in result.quarantined.select(["row", "reason"]).to_pylist():
        row, reason = rows[values["row"]], values["reason"]
        name = reason.partition(" ")[0]
        outcomes[row.place] = InvalidChange(row.place, str(row.item_id), name, reason)
    return outcomes


def _change(row: _Row, values: Mapping[str, Any]) -> ItemChange:
    names = _kept_fields(row, values)
    return ItemChange(
        item_id=values["item_id"],
        kind=row.kind,
        fields={name: json_value(values[name]) for name in names},
        version=row.version,
    )


def _kept_fields(row: _Row, values: Mapping[str, Any]) -> list[str]:
    """The fields that a change has, in the order of the catalogue."""
    fields = [*FIELDS, *[CARRIED][: CARRIED in values]]
    if row.kind == "put":
        return fields
    names = set(row.fields)
    if "sale_price" in names:
        names |= {"price", "list_price"}
    if "price" in names and (values["currency"] or values["price"] is None):
        names.add("currency")
    if COLUMN in names:
        names.add(CARRIED)
    return [name for name in fields if name in names]


def json_value(value: Any) -> Any:
    """A cell of `tables.ITEMS_IN`, or the pairs of CARRIED, as JSON has it."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list):
        return [[pair["name"], pair["value"]] for pair in value]
    return value
