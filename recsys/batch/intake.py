"""What became of every row that a night read, in lines for a person."""

from __future__ import annotations

from collections.abc import Mapping

from recsys.batch.catalogue_changes import change_line
from recsys.batch.pictures import picture_line
from recsys.batch.plan import NightRun
from recsys.batch.quarantine import count_rules, quarantined_rows, top_rules
from recsys.batch.stages import StageLine
from recsys.datasets.platforms.adapter import Kind, count_left_out
from recsys.interfaces import ColumnReporter

#: Counts of the stages that read and sort events, as a summary has them; those of rows that are not
#: kept, then those of rows that are.
SET_ASIDE = {
    "unknown_items": "of items not in the catalogue",
    "forgotten": "of users who asked to be forgotten or opted out",
    "ignored": "no interactions with an item",
    "bot_events": "of accounts that are bots",
}
#: Those of them that a stage's rows do not hold any more.
_NOT_READ_ON = ("forgotten", "ignored")
NOTES = {
    "untitled": "without a title or description",
    "undated": "with an updated_at that is no time",
    "guest_events": "of guests",
    "order_lines": "lines of one order under one id",
    "returned_purchases": "purchases taken back",
}


def intake_lines(night: NightRun, lines: Mapping[str, StageLine]) -> list[str]:
    """A line each for items and events: rows read, kept, set aside, and the commonest reasons; what
    changed by day; and the columns that nothing is made of."""
    rules, dataset = count_rules(quarantined_rows(night)), night.dataset()
    tables: tuple[Kind, ...] = ("items", "events")
    summary = []
    for name in tables:
        counts = lines[f"read {name}"].counts | lines[name].counts
        used = lines[name].rows - counts.get("unknown_items", 0)
        used += counts.get("withdrawn", 0) - counts.get("added", 0)
        rows = lines[f"read {name}"].rows + sum(counts.get(each, 0) for each in _NOT_READ_ON)
        parts = [f"{rows:,} rows read, {used:,} kept", *_counted(counts, SET_ASIDE)]
        if broken := _of_table(rules, name):
            parts.append(f"{sum(broken.values()):,} quarantined ({top_rules(broken, 3)})")
        parts += _counted(counts, NOTES)
        left_out = count_left_out(dataset, name)
        parts += [f"{count:,} other rows: {kind}" for kind, count in left_out.items() if count]
        summary.append(f"{name}: {', '.join(parts)}")
    if line := change_line(lines["items"].counts):
        summary.append(line)
    if line := picture_line(lines, _of_table(rules, "pictures")):
        summary.append(line)
    if isinstance(dataset, ColumnReporter):
        unused = {"items": dataset.unused_item_columns(), "events": dataset.unused_event_columns()}
        summary += [
            f"{name}: nothing is made of the columns {', '.join(columns)}"
            for name, columns in unused.items()
            if columns
        ]
    return summary


def _counted(counts: Mapping[str, int], phrases: Mapping[str, str]) -> list[str]:
    return [f"{counts[name]:,} {phrase}" for name, phrase in phrases.items() if counts.get(name)]


def _of_table(rules: Mapping[str, int], name: str) -> dict[str, int]:
    """The rules of one table without its name; events of unknown items have a count of their
    own."""
    return {
        rule.removeprefix(f"{name}: "): count
        for rule, count in rules.items()
        if rule.startswith(f"{name}: ") and "not in the catalogue" not in rule
    }
