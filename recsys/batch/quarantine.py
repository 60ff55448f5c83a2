"""Rows that a night could not use: collected, counted by the rule they broke, refused when many."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.batch.plan import NightRun
from recsys.batch.stages import StageLine
from recsys.errors import RefusedError
from recsys.tables import QUARANTINE

#: What allows more unusable rows, once.
BAD_ROWS = "bad-rows"
#: What a reason says of one row, and of all that broke the same rule.
_RULES = (
    (r"(\w+) is .*: ", r"\1: "),
    (r"(\w+) .* repeats row \d+ of .*: ", r"\1 stands there before: "),
    (r"item .* is not in the catalogue: ", "item not in the catalogue: "),
    (r"the text of item .*: the encoder fails", "text: the encoder fails"),
)


def require_usable(night: NightRun, *lines: StageLine) -> None:
    """Raises RefusedError where a stage could not use more than `max_bad_share` of its rows."""
    if BAD_ROWS in night.allow:
        return
    for line in lines:
        bad, share = line.counts.get("quarantined", 0), night.choices.max_bad_share
        if bad > share * line.rows:
            reasons = top_rules(count_rules(quarantined_rows(night)))
            raise RefusedError(
                f"{line.name}: {bad:,} of {line.rows:,} rows cannot be used, more than the "
                f"{share:.0%} allowed ({reasons}): see "
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
    rules = quarantined["reason"]
    for reason, rule in _RULES:
        rules = pc.replace_substring_regex(rules, f"(?s)^{reason}", rule)
    rules = pc.binary_join_element_wise(quarantined["table"], rules, ": ")
    counts = pc.value_counts(rules.combine_chunks()).to_pylist()
    counts.sort(key=lambda entry: (-entry["counts"], entry["values"]))
    return {entry["values"]: entry["counts"] for entry in counts}
