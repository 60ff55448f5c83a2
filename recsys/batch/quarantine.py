"""Rows that a night could not use: collected, counted by the rule they broke, refused when many."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.batch.input_checks import BAD_ROWS, TITLES, repeated_rows, untitled_items, unusable_rows
from recsys.batch.plan import NightRun
from recsys.batch.stages import StageLine
from recsys.errors import RefusedError
from recsys.interfaces import ColumnReporter
from recsys.tables import QUARANTINE

#: What a reason says of one row, and of all that broke the same rule.
_RULES = (
    (r"(\w+) is .*: ", r"\1: "),
    (
        r"(\w+) .* repeats row \d+ of .* with other cells: ",
        r"\1 repeats that of another row with other cells: ",
    ),
    (r"(\w+) .* repeats row \d+ of .*: ", r"\1 repeats that of another row: "),
    (r"item .* is not in the catalogue: ", "item not in the catalogue: "),
    # Up to its first value.
    (r"picture \d+ of item .*?, .*?: ([^(\d'\"]*).*$", r"picture: \1"),
    (r"the text of item .*: the encoder fails", "text: the encoder fails"),
)


def require_titled(night: NightRun, line: StageLine) -> None:
    """Raises RefusedError where too few of the items that were read have a text."""
    dataset, least = night.dataset(), night.choices.limits.min_titled
    unused = dataset.unused_item_columns() if isinstance(dataset, ColumnReporter) else []
    counts = line.counts
    sentence = untitled_items(counts.get("titled", 0), counts.get("good", 0), least, unused)
    if sentence and TITLES not in night.allow:
        raise RefusedError(
            f"{sentence}; or publish without texts, once with --allow {TITLES}, or with a lower "
            "night.limits.min_titled",
            (TITLES,),
        )


def require_few_repeats(night: NightRun, line: StageLine, key: str) -> None:
    """Raises RefusedError where more than `max_bad_share` of the rows have the key of another row
    and say something else. Equal rows are no loss: exports overlap."""
    rule = f"{line.name}: {key} repeats that of another row with other cells: the first is kept"
    lost = count_rules(quarantined_rows(night)).get(rule, 0)
    sentence = repeated_rows(line.name, key, lost, line.rows + lost, night.choices.max_bad_share)
    if sentence and BAD_ROWS not in night.allow:
        raise RefusedError(
            f"{sentence}; or do without them, once with --allow {BAD_ROWS}, or with a higher "
            "night.max_bad_share",
            (BAD_ROWS,),
        )


def require_usable(night: NightRun, *lines: StageLine) -> None:
    """Raises RefusedError where a stage could not use more than `max_bad_share` of its rows."""
    if BAD_ROWS in night.allow:
        return
    for line in lines:
        bad, share = line.counts.get("quarantined", 0), night.choices.max_bad_share
        if sentence := unusable_rows(line.name, bad, line.rows, share):
            reasons = top_rules(count_rules(quarantined_rows(night)))
            raise RefusedError(
                f"{sentence} ({reasons}): see "
                f"{night.store.uri}/{night.work_path('quarantine')}, mend the input or its column "
                f"mapping; or do without them, once with --allow {BAD_ROWS}, or with a higher "
                "night.max_bad_share",
                (BAD_ROWS,),
            )


def top_rules(rules: Mapping[str, int], most: int = 8) -> str:
    """The rules that most rows broke, in a sentence."""
    parts = [f"{count:,} x {rule}" for rule, count in list(rules.items())[:most]]
    more = sum(list(rules.values())[most:])
    return "; ".join([*parts, f"{more:,} of other rules"] if more else parts)


def quarantined_rows(night: NightRun) -> pa.Table:
    """`tables.QUARANTINE`: what all shards so far could not use."""
    paths = night.store.files(night.work_path("quarantine"))
    tables = (pq.read_table(night.store.open(path)) for path in paths)
    return pa.concat_tables([QUARANTINE.empty_table(), *tables])


def count_rules(quarantined: pa.Table) -> dict[str, int]:
    """How many rows broke each rule, most first. Without the values, which may be somebody's."""
    counts = pc.value_counts(broken_rules(quarantined)).to_pylist()
    counts.sort(key=lambda entry: (-entry["counts"], entry["values"]))
    return {entry["values"]: entry["counts"] for entry in counts}


def broken_rules(quarantined: pa.Table) -> pa.Array:
    """The rule that each row broke, after the name of its table."""
    rules = quarantined["reason"]
    for reason, rule in _RULES:
        rules = pc.replace_substring_regex(rules, f"(?s)^{reason}", rule)
    return pc.binary_join_element_wise(quarantined["table"], rules, ": ").combine_chunks()
