"""What a night would make of a shop's files: rows that can be used, a sample of them, and those
that cannot, by reason."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from recsys.attributes.declaration import Attribute
from recsys.datasets import casts
from recsys.datasets.choices import CatalogueChoices
from recsys.datasets.quarantine import Cells
from recsys.datasets.validate import LINE, ValidationResult, check_events, check_items
from recsys.errors import InputError
from recsys.interfaces import DatasetAdapter
from recsys.tables import ITEMS_RAW

SAMPLE_ROWS = 10
_TITLES = 5_000
#: Items whose attributes are looked at for those by which variants differ.
_VARIANTS = 20_000
_CHOICE = re.compile(r"catalogue\.(\w+)")
_ZONE = r"(?i)(Z|UTC|GMT|[+-]\d\d:?\d\d)\s*$"
_VALUE = r"""missing|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|.+?"""
_REASON = re.compile(rf"^(\w+) is (?:{_VALUE}): (.*)$", re.DOTALL)


@dataclass(frozen=True)
class Refusal:
    """Rows that break one rule of a column, and the reason of the first."""

    rows: int
    example: str


@dataclass(kw_only=True)
class Inspection:
    """The rows of a catalogue or a log, chunk by chunk. `refusals` are by column and rule; `filled`
    counts the good rows that have a value, by column."""

    rows: int = 0
    good: int = 0
    sample: pa.Table | None = None
    refusals: dict[str, Refusal] = field(default_factory=dict)
    filled: Counter[str] = field(default_factory=Counter)
    item_ids: set[str] = field(default_factory=set)

    def open_choices(self) -> dict[str, int]:
        """The choices that refusals ask for, and the rows that wait for them."""
        rows: Counter[str] = Counter()
        for rule, refusal in self.refusals.items():
            for name in dict.fromkeys(_CHOICE.findall(rule)):
                rows[name] += refusal.rows
        return dict(rows)

    def add(self, rows: int, result: ValidationResult) -> None:
        good = result.good
        self.rows += rows
        self.good += good.num_rows
        if good.num_rows and self.sample is None:
            self.sample = good.slice(0, SAMPLE_ROWS)
        self.filled.update({name: len(good) - good[name].null_count for name in good.column_names})
        self.item_ids.update(good["item_id"].unique().to_pylist())
        for reason in result.quarantined["reason"].to_pylist():
            before = self.refusals.get(rule := rule_of(reason), Refusal(0, reason))
            self.refusals[rule] = Refusal(before.rows + 1, before.example)


@dataclass(kw_only=True)
class CatalogueInspection(Inspection):
    """`currencies` of prices, the first `titles`, and the attributes by which variants differ."""

    currencies: Counter[str] = field(default_factory=Counter)
    titles: list[str] = field(default_factory=list)
    variant_names: list[str] = field(default_factory=list)

    def add(self, rows: int, result: ValidationResult) -> None:
        super().add(rows, result)
        counts = pc.value_counts(result.good["currency"].drop_null()).to_pylist()
        self.currencies.update({each["values"]: each["counts"] for each in counts})
        self.titles += result.good["title"].drop_null()[: _TITLES - len(self.titles)].to_pylist()


@dataclass(kw_only=True)
class LogInspection(Inspection):
    """`types` of the events, and the `times` of the first and the last; `zoned` counts the raw
    times that say their zone."""

    types: Counter[str] = field(default_factory=Counter)
    zoned: int = 0
    times: tuple[datetime, datetime] | None = None

    def add(self, rows: int, result: ValidationResult) -> None:
        super().add(rows, result)
        self.types.update(result.good["type"].to_pylist())
        if result.good.num_rows:
            ends = pc.min_max(result.good["time"])
            times = [*(self.times or ()), ends["min"].as_py(), ends["max"].as_py()]
            self.times = min(times), max(times)

    def zones(self) -> str:
        if self.zoned >= self.rows:
            return "which say their zone"
        if not self.zoned:
            return "which say no zone and are taken as UTC"
        return f"of which {self.rows - self.zoned:,} say no zone and are taken as UTC"


def inspect_items(dataset: DatasetAdapter, choices: CatalogueChoices) -> CatalogueInspection:
    """The whole catalogue, one chunk in memory at a time."""
    inspection = CatalogueInspection()
    for chunk in dataset.item_chunks():
        raw = dataset.read_items(chunk)
        inspection.add(chunk.rows, check_items(raw, chunk.path, chunk.start, choices))
        if not inspection.variant_names:
            inspection.variant_names = variant_names(raw.slice(0, _VARIANTS))
    return inspection


def inspect_events(
    dataset: DatasetAdapter, choices: CatalogueChoices, now: datetime
) -> LogInspection:
    """The whole log, one chunk in memory at a time."""
    inspection = LogInspection()
    for chunk in dataset.event_chunks():
        raw = dataset.read_events(chunk)
        inspection.zoned += _zoned(raw)
        inspection.add(chunk.rows, check_events(raw, chunk.path, chunk.start, now, choices))
    return inspection


def rule_of(reason: str) -> str:
    """`price: it must be a number` of `price is 'ask us': it must be a number`."""
    match = _REASON.match(reason)
    return f"{match[1]}: {match[2]}" if match else reason


def variant_names(raw: pa.Table) -> list[str]:
    """The attributes in which items of one group differ, most often first: JSON objects in the
    column `attributes`, and columns of their own."""
    if "group_id" not in raw.column_names:
        return []
    values: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    own = [name for name in raw.column_names if name not in ITEMS_RAW.names and name != LINE]
    rows = raw.select([*own, *({"attributes"} & set(raw.column_names))]).to_pylist()
    for group, row in zip(raw["group_id"].to_pylist(), rows, strict=True):
        pairs = {**_object(row.pop("attributes", None)), **row} if group else {}
        for name, value in pairs.items():
            if value not in (None, ""):
                values[str(group), name].add(str(value))
    counts = Counter(name for (_, name), each in values.items() if len(each) > 1)
    return [name for name, _ in counts.most_common() if _is_attribute(name)]


def _is_attribute(name: str) -> bool:
    try:
        return bool(Attribute(name))
    except InputError:
        return False


def _zoned(raw: pa.Table) -> int:
    """How many times say their zone."""
    time = raw["time"] if "time" in raw.column_names else pa.chunked_array([pa.array([])])
    if pa.types.is_timestamp(time.type):
        return len(time) if time.type.tz else 0
    texts = time.cast(pa.string()) if casts.is_text(time.type) else time[:0].cast(pa.string())
    return int(pc.sum(pc.match_substring_regex(texts, _ZONE)).as_py() or 0)


def _object(text: object) -> Mapping[str, object]:
    try:
        value = json.loads(text) if isinstance(text, str) and text.startswith("{") else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def sample_cells(sample: pa.Table | None, names: Iterable[str]) -> Cells:
    """The columns of a sample that have a value in any row."""
    if sample is None:
        return {}
    columns = {name: sample[name] for name in names if name in sample.column_names}
    return {
        name: column.to_pylist()
        for name, column in columns.items()
        if column.null_count < len(column)
    }
