"""Rules for the cells of a raw column: its canonical values, and every violation.

A value that is there but comes out null violates its rule; an empty text is no number, flag or
time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.types import is_nested

from recsys.attributes.values import parse_boolean
from recsys.datasets.availability import to_stock
from recsys.datasets.casts import cast, is_number_type, to_float, to_mask, to_whole_text, trim
from recsys.datasets.category_paths import to_paths
from recsys.datasets.choices import CatalogueChoices
from recsys.datasets.event_words import meaning_of
from recsys.datasets.gtins import to_gtin
from recsys.datasets.html_text import strip_html
from recsys.datasets.money import read_money
from recsys.datasets.times import DIGITS, SWAPPABLE, TimeReading, to_time
from recsys.tables import TIME
from recsys.types import EVENT_TYPES, Mask

MAX_ID_LENGTH = 256
#: An item may be announced: unlike an event it can lie in the future. Beyond this stands "never",
#: or another unit.
LAST_ADDED = datetime(2100, 1, 1, tzinfo=UTC)

#: Control characters but for tabs and line ends.
_CONTROL = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x{80}-\x{9f}]"
_UNKNOWN_TYPE = (
    f"use one of {', '.join(EVENT_TYPES)}, or say in catalogue.event_words what the word means"
)

#: The rows that violate a rule, and the rule as the end of a sentence.
Violation = tuple[Mask, str]
Checked = tuple[pa.Array, list[Violation]]
#: A raw column, and where it has values, to canonical values and violations.
Rule = Callable[[pa.Array, Mask], Checked]


def _text(column: pa.Array, present_N: Mask) -> Checked:
    """Strings as they are, numbers written out: in many shops ids are numbers."""
    values = cast(column, pa.string())
    if pa.types.is_floating(column.type):
        values = pc.coalesce(to_whole_text(column), values)
        # NaN is how many tools write a missing number.
        present_N = present_N & ~to_mask(pc.equal(values, "nan"))
        values = pc.if_else(pc.equal(values, "nan"), pa.scalar(None, pa.string()), values)
    return values, [(present_N & to_mask(values.is_null()), "it must be text")]


def _prose(column: pa.Array, present_N: Mask, lines: bool = False) -> Checked:
    """Text without markup; without `lines` in one line."""
    values, violations = _text(column, present_N)
    texts, control = strip_html(values), _CONTROL if lines else r"\p{Cc}"
    if pc.any(pc.match_substring_regex(texts, control)).as_py():
        texts = pc.replace_substring_regex(texts, rf"\p{{Zs}}*({control})[\p{{Cc}}\p{{Zs}}]*", " ")
    return texts, violations


def _category(
    column: pa.Array, present_N: Mask, separator: str | None, list_separator: str | None
) -> Checked:
    """Paths as `category_paths` writes them."""
    if not is_nested(column.type):
        column, violations = _prose(column, present_N)
        return to_paths(column, separator, list_separator), violations
    values = to_paths(column, separator, list_separator)
    return strip_html(values), [(present_N & to_mask(values.is_null()), "it must be text")]


def _gtin(column: pa.Array, present_N: Mask) -> Checked:
    """A wrong one says nothing of its item, which stays."""
    return to_gtin(_text(column, present_N)[0]), []


def _id(column: pa.Array, present_N: Mask, optional: bool = False) -> Checked:
    values, violations = _text(column, present_N)
    blank_N = to_mask(pc.equal(pc.utf8_trim_whitespace(values), ""), null=True)
    if optional:
        values = pc.if_else(pa.array(blank_N), pa.scalar(None, pa.string()), values)
    else:
        violations.append((blank_N, "it must not be empty"))
    long_N = to_mask(pc.greater(pc.utf8_length(values), MAX_ID_LENGTH))
    control_N = to_mask(pc.match_substring_regex(values, r"[\p{Cc}\x{FFFD}]"))
    violations += [(long_N, f"it must have {MAX_ID_LENGTH} characters or fewer")]
    return values, [*violations, (control_N, "it must have no control or replacement characters")]


def _user(column: pa.Array, present_N: Mask, guest_ids: Sequence[str]) -> Checked:
    """An id, null for what stands for nobody. Users are fewer than rows: each is looked at once."""
    texts, violations = _text(column, present_N)
    coded = texts.dictionary_encode()
    users, rows_N = coded.dictionary, pc.fill_null(coded.indices, len(coded.dictionary))
    values, of_users = _id(users, np.ones(len(users), bool), optional=True)
    folded = pc.utf8_lower(pc.utf8_trim_whitespace(values))
    guests = pa.array([each.casefold() for each in guest_ids], pa.string())
    values = pc.if_else(pc.is_in(folded, guests), pa.scalar(None, pa.string()), values)
    values = pa.concat_arrays([values, pa.nulls(1, pa.string())])
    of_rows = ((np.append(bad_U, False)[np.asarray(rows_N)], rule) for bad_U, rule in of_users)
    return values.take(rows_N), [*violations, *of_rows]


def _quantity(column: pa.Array, present_N: Mask) -> Checked:
    """Negative ones take purchases back. `2,0` is two; `1.000` one."""
    column = trim(column)
    values = pc.coalesce(to_float(column), read_money(column).amounts)
    endless_N = ~to_mask(pc.is_finite(values), null=True)
    return values, [
        (_unparsed(column, present_N, values), "it must be a number"),
        (endless_N, "it must be a finite number"),
        (to_mask(pc.equal(values, 0.0)), "it must not be zero"),
    ]


def _stock(column: pa.Array, present_N: Mask, words: Mapping[str, bool]) -> Checked:
    """Without a value an item is in stock."""
    column = trim(column)
    values = to_stock(column, words)
    rule = (
        "it must be true or false, a count, or a word such as in_stock or out_of_stock; "
        "say in catalogue.stock_words what others mean"
    )
    return values.fill_null(True), [(_unparsed(column, present_N, values), rule)]


def _flag(column: pa.Array, present_N: Mask) -> Checked:
    """Yes or no in any language's word; without a value no. Each distinct text is read once."""
    column = trim(column)
    if not pa.types.is_boolean(column.type):
        coded = cast(column, pa.string()).dictionary_encode()
        flags = [parse_boolean(word or "") for word in coded.dictionary.to_pylist()]
        values = pa.array(flags, pa.bool_()).take(coded.indices)
    else:
        values = column
    violations = [(_unparsed(column, present_N, values), "it must be true or false")]
    return values.fill_null(False), violations


def _event_type(column: pa.Array, present_N: Mask, words: Mapping[str, str]) -> Checked:
    """One of `event_words.MEANINGS`; each distinct word is looked up once."""
    values, violations = _text(column, present_N)
    coded = values.dictionary_encode()
    meanings = [meaning_of(word, words) for word in coded.dictionary.to_pylist()]
    meant = pa.array(meanings, pa.string()).take(coded.indices)
    return meant, [
        *violations,
        (to_mask(values.is_null()), "it must not be empty"),
        (to_mask(meant.is_null()), _UNKNOWN_TYPE),
    ]


def _time(
    column: pa.Array,
    present_N: Mask,
    latest: datetime,
    reading: TimeReading,
    optional: bool = False,
) -> Checked:
    """Whatever `times.to_time` reads, from 1970 to `latest`."""
    column = trim(column)
    values = to_time(column, reading)
    unparsed_N = _unparsed(column, present_N, values)
    violations = _unclear(column, unparsed_N) if unparsed_N.any() else []
    violations.append((unparsed_N, "it must be a timestamp or ISO 8601 text"))
    if not optional:
        violations.append((to_mask(values.is_null()), "it must not be empty"))
    # Before 1970 lie broken clocks, and years that Python's datetime cannot hold.
    early_N, late_N = (
        pc.less(values, pa.scalar(0, TIME)),
        pc.greater(values, pa.scalar(latest, TIME)),
    )
    violations.append((to_mask(early_N), "it must not be before 1970"))
    return values, [
        *violations,
        (to_mask(late_N), f"it must not be later than {latest:%Y-%m-%dT%H:%M:%SZ}"),
    ]


def _unclear(column: pa.Array, unparsed_N: Mask) -> list[Violation]:
    """Times that a setting makes clear."""
    numbers = (
        "a number is a time where catalogue.epoch says whether it counts s, ms, us or ns since 1970"
    )
    if not pa.types.is_string(column.type):
        is_number = is_number_type(column.type)
        return [(unparsed_N & is_number, numbers)]
    swapped = "its day and month could be swapped; say in catalogue.day_first which comes first"
    return [
        (unparsed_N & to_mask(pc.match_substring_regex(column, pattern)), rule)
        for pattern, rule in ((DIGITS, numbers), (SWAPPABLE, swapped))
    ]


_ITEM_RULES: dict[str, Rule] = {
    "item_id": _id,
    **dict.fromkeys(("title", "brand"), _prose),
    "description": partial(_prose, lines=True),
    **dict.fromkeys(("attributes", "group_id", "mpn"), _text),
    "gtin": _gtin,
}
_EVENT_RULES: dict[str, Rule] = {
    "item_id": _id,
    **dict.fromkeys(("event_id", "request_id", "order_id"), partial(_id, optional=True)),
    "quantity": _quantity,
}


def _unparsed(column: pa.Array, present_N: Mask, values: pa.Array) -> Mask:
    """Where there is a value that is not empty and its cast is null."""
    empty_N = to_mask(pc.equal(column, "")) if pa.types.is_string(column.type) else np.False_
    return present_N & to_mask(values.is_null()) & ~empty_N


def item_rules(choices: CatalogueChoices) -> dict[str, Rule]:
    """The rules of those columns of `tables.ITEMS_IN` that are made of one raw column each."""
    separators = choices.category_separator, choices.category_list_separator
    return _ITEM_RULES | {
        "category": partial(_category, separator=separators[0], list_separator=separators[1]),
        "in_stock": partial(_stock, words=choices.stock_words),
        "hidden": _flag,
        "added": partial(_time, latest=LAST_ADDED, reading=choices.times, optional=True),
    }


def event_rules(latest: datetime, choices: CatalogueChoices) -> dict[str, Rule]:
    """The rules of `tables.EVENTS_RAW` but for the price: no event is later than `latest`."""
    return _EVENT_RULES | {
        "user_id": partial(_user, guest_ids=choices.guest_ids),
        "type": partial(_event_type, words=choices.event_words),
        "time": partial(_time, latest=latest, reading=choices.times),
    }
