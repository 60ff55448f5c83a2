"""What a night would make of its input: rows that cannot be used and why, columns that nothing is
made of, checks that would refuse. Reads the shop's files a chunk at a time; writes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import ceil
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.batch.input_checks import repeated_rows, titled_rows, untitled_items, unusable_rows
from recsys.batch.quarantine import broken_rules
from recsys.config import Setup
from recsys.datasets.platforms.adapter import count_left_out
from recsys.datasets.repeats import deduplicate
from recsys.datasets.validate import ValidationResult, check_events, check_items
from recsys.interfaces import ColumnReporter, DatasetAdapter
from recsys.release.checks import events_of_catalogue, not_shrunk
from recsys.release.manifest import Manifest

#: Of a longer log, chunks with about so many rows are read, spread evenly.
EVENT_ROWS = 5_000_000
#: Rules that are named, most rows first.
MAX_RULES = 8


@dataclass(kw_only=True)
class TablePreview:
    """What became of the rows that were read of `items` or `events`, of `rows_in_all`."""

    name: Literal["items", "events"]
    rows_in_all: int
    unused_columns: Sequence[str] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    rows: int = 0
    unusable: int = 0
    repeats: int = 0
    other_repeats: int = 0
    titled: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    item_hashes: list[NDArray[np.uint64]] = field(default_factory=list)

    def add(self, checked: ValidationResult) -> pa.Table:
        """The rows of the chunk that can be used, each key once."""
        unique = deduplicate(checked.good, "item_id" if self.name == "items" else "event_id")
        self.rows += checked.good.num_rows + checked.quarantined.num_rows
        self.unusable += checked.quarantined.num_rows
        self.repeats += unique.quarantined.num_rows
        for quarantined in (checked.quarantined, unique.quarantined):
            counts = pc.value_counts(rules := broken_rules(quarantined)).to_pylist()
            for rule, count in (each.values() for each in counts):
                self.rules[rule] += count
                first = pc.index(rules, rule).as_py()
                self.examples.setdefault(rule, quarantined["reason"][first].as_py())
        other = pc.match_substring(unique.quarantined["reason"], " with other cells: ")
        self.other_repeats += pc.sum(other, min_count=0).as_py()
        if self.name == "items":
            self.titled += titled_rows(unique.good)
        self.item_hashes.append(_hashes(unique.good["item_id"]))
        return unique.good

    @property
    def good(self) -> int:
        return self.rows - self.unusable - self.repeats

    def lines(self) -> list[str]:
        sample = f" of {self.rows_in_all:,}" if self.rows < self.rows_in_all else ""
        lines = [
            f"{self.name:<7}{self.rows:>12,} rows read{sample}: {self.unusable:,} cannot be used, "
            f"{self.repeats:,} repeat others"
        ]
        for rule, count in self.rules.most_common(MAX_RULES):
            lines.append(
                f"{count:>19,} x {rule.partition(': ')[2]} (for example {self.examples[rule]!r})"
            )
        if more := sum(count for _, count in self.rules.most_common()[MAX_RULES:]):
            lines.append(f"{more:>19,} x other rules")
        lines += [f"{count:>19,} other rows: {kind}" for kind, count in self.left_out.items()]
        if self.unused_columns:
            lines.append(f"{'':>7}nothing is made of the columns {', '.join(self.unused_columns)}")
        return lines


@dataclass(frozen=True, kw_only=True)
class InputPreview:
    """Both tables, how many events name unknown items, and a sentence for each check that would
    refuse the night."""

    items: TablePreview
    events: TablePreview
    unknown: int
    refusals: list[str]

    def lines(self) -> list[str]:
        lines = [*self.items.lines(), *self.events.lines()]
        if self.unknown:
            lines.append(f"{self.unknown:>19,} x the item is not in the catalogue")
        lines += [f"the night would be refused: {sentence}" for sentence in self.refusals]
        return lines


def preview_inputs(
    setup: Setup,
    dataset: DatasetAdapter,
    until: datetime,
    previous: Manifest | None,
    also: Callable[[pa.Table], object],
) -> InputPreview:
    """Reads the catalogue, each chunk's usable items handed to `also`, and the log, or a sample of
    it; not the live event log."""
    item_chunks, event_chunks = dataset.item_chunks(), dataset.event_chunks()
    items = TablePreview(name="items", rows_in_all=sum(chunk.rows for chunk in item_chunks))
    events = TablePreview(name="events", rows_in_all=sum(chunk.rows for chunk in event_chunks))
    items.left_out, events.left_out = (
        count_left_out(dataset, each.name) for each in (items, events)
    )
    if isinstance(dataset, ColumnReporter):
        items.unused_columns = dataset.unused_item_columns()
        events.unused_columns = dataset.unused_event_columns()
    for chunk in item_chunks:
        raw = dataset.read_items(chunk)
        also(items.add(check_items(raw, chunk.path, chunk.start, setup.catalogue)))
    for chunk in event_chunks[:: ceil(events.rows_in_all / EVENT_ROWS) or 1]:
        raw = dataset.read_events(chunk)
        events.add(check_events(raw, chunk.path, chunk.start, until, setup.catalogue))
    catalogue, named = (_joined(table.item_hashes) for table in (items, events))
    unknown = int((~np.isin(named, np.unique(catalogue))).sum())
    refusals = _refusals(setup, items, events, unknown, previous)
    return InputPreview(items=items, events=events, unknown=unknown, refusals=refusals)


def _refusals(
    setup: Setup,
    items: TablePreview,
    events: TablePreview,
    unknown: int,
    previous: Manifest | None,
) -> list[str]:
    choices, limits = setup.night, setup.night.limits
    if not items.rows:
        return ["the catalogue has no rows"]
    sentences = [
        unusable_rows(table.name, table.unusable, table.rows, choices.max_bad_share)
        for table in (items, events)
    ]
    sentences += [
        repeated_rows(table.name, key, table.other_repeats, table.rows, choices.max_bad_share)
        for table, key in ((items, "item_id"), (events, "event_id"))
    ]
    sentences.append(
        untitled_items(items.titled, items.good, limits.min_titled, items.unused_columns)
    )
    checks = [events_of_catalogue(unknown, events.good, limits.min_known_events)]
    if previous:
        counts = (items.good, previous.counts["items"])
        checks.append(not_shrunk("items", counts, previous.version, lost=limits.max_lost_items))
    sentences += [check.sentence for check in checks if not check.passed]
    return [sentence for sentence in sentences if sentence]


def _hashes(ids: pa.ChunkedArray) -> NDArray[np.uint64]:
    coded = ids.combine_chunks().dictionary_encode()
    values = coded.dictionary.to_numpy(zero_copy_only=False).astype(object)
    return pd.util.hash_array(values, categorize=False)[np.asarray(coded.indices)]


def _joined(hashes: list[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    return np.concatenate([np.empty(0, np.uint64), *hashes])
