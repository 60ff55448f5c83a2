"""The catalogue's attributes as typed columns, read together: what unit a column has, and what
kind an undeclared one is, its values decide."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa

from recsys.attributes.cells import CARRIED
from recsys.attributes.columns import Unreadable, typed_columns
from recsys.batch.plan import NightRun, ShardResult, one_batch
from recsys.batch.stages import Stage, StageLine
from recsys.release import files
from recsys.release.arrow import write_arrow
from recsys.tables import QUARANTINE

NAME = "attributes"
#: Of all values that could not be read the quarantine has so many of each attribute.
MAX_EXAMPLES = 1_000


def stages(night: NightRun) -> list[Stage]:
    """The stage, where the setup has attributes."""
    choices = night.setup.catalogue
    used = bool(choices.attributes) or choices.infer_attributes
    return [Stage(NAME, 1, type_attributes)] if used else []


def type_attributes(night: NightRun, shard: int) -> ShardResult:
    """Writes `files.ATTRIBUTES`, and to the quarantine what values could not be read."""
    choices = night.setup.catalogue
    parts = [night.read_part(CARRIED, part)[CARRIED] for part in range(night.plan.item_parts)]
    pairs_I = pa.chunked_array([chunk for part in parts for chunk in part.chunks])
    columns = typed_columns(pairs_I, choices.attributes, choices.infer_attributes, choices.decimal)
    table = columns.table
    night.assemble(files.ATTRIBUTES.name, write_arrow([one_batch(table)], table.schema))
    result = ShardResult(len(pairs_I))
    counts: dict[str, int] = {}
    examples = list[Unreadable]()
    for each in columns.unreadable:
        name = each.attribute.name
        counts[name] = counts.get(name, 0) + each.items
        seen = sum(example.attribute.name == name for example in examples[-MAX_EXAMPLES:])
        examples += [each] * (seen < MAX_EXAMPLES)
    night.write_quarantine(result, NAME, _quarantine_rows(examples))
    result.counts = {f"unreadable {name}": items for name, items in counts.items()}
    return result


def say_unreadable(lines: Mapping[str, StageLine], say: Callable[[str], None]) -> None:
    """A line for each attribute of which values could not be read."""
    if NAME not in lines:
        return
    for name, items in lines[NAME].counts.items():
        say(f"{name.partition(' ')[2]}: {items:,} items have a value that cannot be read and stay "
            f"without it: see {files.QUARANTINE.name}")  # fmt: skip


def _quarantine_rows(unreadable: list[Unreadable]) -> pa.Table:
    """They do not count as bad input: their items stay."""
    rows = len(unreadable)
    sources = [
        json.dumps({each.attribute.name: each.value, "items": each.items}, ensure_ascii=False)
        for each in unreadable
    ]
    return pa.table(
        [
            pa.array([NAME] * rows, pa.string()),
            pa.array(["all chunks"] * rows, pa.string()),
            pa.array(np.arange(rows)),
            pa.array([each.reason for each in unreadable], pa.string()),
            pa.array(sources, pa.string()),
        ],
        schema=QUARANTINE,
    )
