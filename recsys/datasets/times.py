"""Times as shops write them, as `tables.TIME`."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.datasets.casts import bisect_cast, cast, null_unless_match, to_float, to_mask
from recsys.tables import TIME

#: With `T` or a space; with a zone or without.
_NAIVE = r"^\d{4}-\d\d-\d\d[T ]\d\d(:?\d\d(:?\d\d(\.\d+)?)?)?$"
_ZONED = rf"{_NAIVE[:-1]}(Z|[+-]\d\d(:?\d\d)?)$"
#: A text of digits alone, and one whose day and month could be swapped.
DIGITS = r"^\s*[-+]?\d+(\.\d*)?\s*$"
SWAPPABLE = r"^\s*\d{1,2}[/-]\d{1,2}[/-]\d{4}\b"
#: Microseconds of a unit since 1970, and the powers of ten between which a number can be nothing
#: else: of the years 2001 to 2286.
EPOCHS = {"s": (1e6, 1e9), "ms": (1e3, 1e12), "us": (1.0, 1e15), "ns": (1e-3, 1e18)}
#: RFC 2822's zones, and those of Europe.
_OFFSETS = {
    "EST": "-0500", "EDT": "-0400", "CST": "-0600", "CDT": "-0500", "MST": "-0700",
    "MDT": "-0600", "PST": "-0800", "PDT": "-0700", "CET": "+0100", "CEST": "+0200",
    "UTC": "Z", "GMT": "Z", "UT": "Z", "Z": "Z",
}  # fmt: skip
#: `parsedate_to_datetime` reads others too, and of `2:00 PM` the first half.
_RFC_2822 = re.compile(
    r"(?:[A-Za-z]{3}, )?\d{1,2} [A-Za-z]{3} \d{4} \d\d:\d\d(?::\d\d)? (?:[+-]\d{4}|[A-Z]{2,3})"
)
#: English words of months, after the date was put in order.
_FORMATS = [
    f"{day}{time}"
    for day in ("%Y-%m-%d", "%d %b %Y", "%d %B %Y", "%b %d %Y", "%B %d %Y", "%d-%b-%Y")
    for time in ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
]


@dataclass(frozen=True)
class TimeReading:
    """How times are read that say too little: the `zone` of those without one, whether the day
    stands before the month (None: only where the column shows it), and the unit of numbers
    (None: the one that their size leaves)."""

    zone: str = "UTC"
    day_first: bool | None = None
    epoch: str | None = None


def to_time(column: pa.Array, reading: TimeReading = TimeReading()) -> pa.Array:
    """Timestamps, dates, ISO 8601 and what is written like it, RFC 2822, and numbers since 1970,
    cut to microseconds; null for anything else. A text of digits is a number only where `epoch`
    says so."""
    if column.null_count == len(column):
        return pa.nulls(len(column), TIME)
    if pa.types.is_timestamp(column.type):
        return cast(column, TIME) if column.type.tz else _localised(column, reading.zone)
    if pa.types.is_date(column.type):
        return _localised(cast(column, pa.timestamp("us")), reading.zone)
    if pa.types.is_string(column.type):
        return _texts(column, reading)
    if pa.types.is_boolean(column.type):
        return pa.nulls(len(column), TIME)
    return _numbers(to_float(column), reading.epoch)


def _localised(column: pa.Array, zone: str) -> pa.Array:
    """Clocks of the zone. What they show twice in autumn is the earlier, what they skip in spring
    the hour before."""
    if zone == "UTC":
        return cast(column, TIME)
    column = cast(column, pa.timestamp("us"))
    return bisect_cast(
        column,
        TIME,
        lambda part: pc.assume_timezone(
            part, zone, ambiguous="earliest", nonexistent="earliest"
        ).cast(TIME),
    )


def _numbers(values: pa.Array, epoch: str | None) -> pa.Array:
    values_N = np.array(values.fill_null(np.nan).to_numpy(zero_copy_only=False), float)
    micros_N = np.full(len(values_N), np.nan)
    for unit, (factor, least) in EPOCHS.items():
        if epoch in (None, unit):
            rows_N = (values_N >= (least if epoch is None else 0.0)) & (values_N < 10 * least)
            micros_N[rows_N] = np.round(values_N[rows_N] * factor)
    is_time_N = np.isfinite(micros_N)
    times = np.where(is_time_N, micros_N, 0).astype(np.int64)
    return pa.array(times, mask=~is_time_N).cast(TIME)


def _texts(column: pa.Array, reading: TimeReading) -> pa.Array:
    texts = pc.replace_substring_regex(column, r"(\.\d{6})\d+", r"\1")
    texts = pc.replace_substring_regex(texts, r"^(\d{4}-\d\d-\d\d)$", r"\1 00:00")
    odd = pc.and_(
        pc.invert(pc.match_substring_regex(texts, _ZONED)),
        pc.invert(pc.match_substring_regex(texts, _NAIVE)),
    ).fill_null(False)
    if pc.any(odd).as_py():
        texts = pc.replace_with_mask(texts, odd, _as_iso(texts.filter(odd), reading))
    times = cast(null_unless_match(texts, _ZONED), TIME)
    naive = null_unless_match(texts, _NAIVE)
    if naive.null_count < len(naive):
        if reading.zone == "UTC":
            local = cast(pc.binary_join_element_wise(naive, "Z", ""), TIME)
        else:
            local = _localised(cast(naive, pa.timestamp("us")), reading.zone)
        times = pc.coalesce(times, local)
    return times


def _as_iso(texts: pa.Array, reading: TimeReading) -> pa.Array:
    """ISO 8601, with a zone where the text has one; what cannot be read stays as it is."""
    if reading.epoch:
        numbers = _numbers(to_float(null_unless_match(texts, DIGITS)), reading.epoch)
        texts = pc.coalesce(pc.strftime(numbers, "%Y-%m-%dT%H:%M:%SZ"), texts)
    texts = _day_before_month(pc.utf8_trim_whitespace(texts), reading.day_first)
    written = texts
    for pattern, replacement in (
        (r"^(\d{4})[/.](\d\d)[/.](\d\d)", r"\1-\2-\3"),
        (r"^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)", r"\1-\2-\3T\4:\5:\6"),
        (r"^(\d{4}-\d\d-\d\d)[T ,]+(\d):", r"\1 0\2:"),
        (r"^(\d{4}-\d\d-\d\d)[ ,]+", r"\1 "),
        (r"(:\d\d),(\d+)", r"\1.\2"),
        (r"(\.\d{6})\d+", r"\1"),
        (r"(:\d\d(\.\d+)?)\s+([+-]\d\d)", r"\1\3"),
        (r"\[[A-Za-z_/]+\]$", ""),
        (r"^(\d{4}-\d\d-\d\d)$", r"\1 00:00"),
    ):
        texts = pc.replace_substring_regex(texts, pattern, replacement)
    for zone, offset in _OFFSETS.items():
        if pc.any(pc.ends_with(texts, zone)).as_py():
            texts = pc.replace_substring_regex(texts, rf"(\d)\s*{zone}$", rf"\1{offset}")
    is_iso = pc.or_(
        pc.match_substring_regex(texts, _ZONED), pc.match_substring_regex(texts, _NAIVE)
    )
    words = pc.if_else(pc.match_substring_regex(texts, r"^\d{4}-"), texts, written)
    rest = words.filter(pc.invert(is_iso)).dictionary_encode()
    parsed = pa.array([_parse_words(text) for text in rest.dictionary.to_pylist()], pa.string())
    return pc.replace_with_mask(texts, pc.invert(is_iso), parsed.take(rest.indices))


def _day_before_month(texts: pa.Array, day_first: bool | None) -> pa.Array:
    """`31.12.2026` and `12/31/2026` with the year first; those that could be swapped stay as they
    are unless the column shows, or `day_first` says, which is which."""
    pattern = r"^(?P<a>\d{1,2})(?P<mark>[/.-])(?P<b>\d{1,2})[/.-](?P<year>\d{4})(?P<rest>$|\D.*)"
    parts = pc.extract_regex(texts, pattern)
    if parts.null_count == len(parts):
        return texts
    fields = {name: pc.struct_field(parts, name) for name in ("a", "mark", "b", "year", "rest")}
    first_N, second_N = (
        np.asarray(fields[name].cast(pa.int64()).fill_null(0)) for name in ("a", "b")
    )
    is_dotted_N = to_mask(pc.equal(fields["mark"], "."))
    days_N, months_N = first_N > 12, second_N > 12
    if day_first is None and days_N[~is_dotted_N].any() != months_N[~is_dotted_N].any():
        day_first = bool(days_N[~is_dotted_N].any())
    is_day_first_N = is_dotted_N | days_N | (~months_N & bool(day_first))
    day, month = (
        pc.if_else(
            pa.array(is_day_first_N if is_day else ~is_day_first_N), fields["a"], fields["b"]
        )
        for is_day in (True, False)
    )
    padded = (pc.utf8_lpad(each, 2, "0") for each in (month, day))
    dates = pc.binary_join_element_wise(fields["year"], *padded, "-")
    swapped = pc.binary_join_element_wise(dates, fields["rest"], "")
    is_clear_N = is_dotted_N | days_N | months_N | (first_N == second_N) | (day_first is not None)
    return pc.if_else(pa.array(is_clear_N & to_mask(parts.is_valid())), swapped, texts)


def _parse_words(text: str | None) -> str | None:
    """RFC 2822, and dates with a month in English words."""
    if not text or not any(map(str.isalpha, text)):
        return text
    if _RFC_2822.fullmatch(text):
        with suppress(ValueError, TypeError, OverflowError):
            return parsedate_to_datetime(text).isoformat()
    plain = " ".join(text.replace(",", " ").replace(" at ", " ").split())
    for form in _FORMATS:
        with suppress(ValueError):
            return datetime.strptime(plain, form).isoformat()
    return text
