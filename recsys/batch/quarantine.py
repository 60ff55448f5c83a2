"""Rows that a night could not use: collected, counted by the rule they broke, refused when many."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.batch.plan import NightRun
from recsys.batch.stages import StageLine
from recsys.errors import ReleaseError
from recsys.tables import QUARANTINE

#: What a reason says of one row, and of all that broke the same rule.
_RULES = (
    (r"(\w+) is .*: ", r"\1: "),
    (r"(\w+) .* repeats row \d+ of .*: ", r"\1 stands there before: "),
    (r"item .* is not in the catalogue: ", "item not in the catalogue: "),
    (r"the text of item .*: the encoder fails", "text: the encoder fails"),
)


def require_usable(night: NightRun, *lines: StageLine) -> None:
    """Raises ReleaseError where a stage could not use more than `max_bad_share` of its rows."""
    for line in lines:
        bad, share = line.counts.get("quarantined", 0), night.choices.max_bad_share
        if bad > share * line.rows:
            rules = count_rules(quarantined_rows(night))
            reasons = "; ".join(f"{count:,} x {rule}" for rule, count in rules.items())
            raise ReleaseError(
                f"{line.name}: {bad:,} of {line.rows:,} rows cannot be used, more than the "
                f"{share:.0%} allowed ({reasons}): see "
                f"{night.store.uri}/{night.work_path('quarantine')}, mend the input or its column "
                "mapping, or raise night.max_bad_share"
            )


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
