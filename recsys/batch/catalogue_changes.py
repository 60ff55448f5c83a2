"""What changed in the catalogue by day: copied from its log before a night begins, and folded into
each shard of items.

The log goes on while the night runs, and is compacted: a night that was killed is continued from
its own copy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.batch.plan import NightRun, id_parts, scattered
from recsys.catalogue.changes import CatalogueLog, ItemState
from recsys.catalogue.fold import FoldedItems, fold_states, state_as_of
from recsys.release.arrow import write_arrow

#: States of the catalogue log: a batch for each shard of items, sorted by item.
CHANGES = "changes.arrow"
_STATES = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("number", pa.int64(), nullable=False),
        pa.field("whole", pa.bool_(), nullable=False),
        pa.field("state", pa.string(), nullable=False),
    ]
)
#: States that are read from the log at once.
_PAGE = 10_000
#: What a night counts of them, in the words of its summary.
PHRASES = {
    "changed": "changed",
    "added": "added",
    "withdrawn": "withdrawn",
    "outdated": "overruled by newer files",
}


@dataclass(frozen=True)
class CopiedChanges:
    """States of the catalogue log, sorted by item. A night takes in changes up to `number`."""

    number: int
    states: pa.Table

    @property
    def puts(self) -> int:
        """How many items there may be that the shop's files lack."""
        return int(pc.sum(self.states["whole"]).as_py() or 0)

    def to_arrow(self, item_parts: int) -> pa.Buffer:
        """The file CHANGES."""
        parts = id_parts(self.states["item_id"], item_parts)
        return write_arrow(scattered(self.states, parts, item_parts), _STATES)


def copy_changes(log: CatalogueLog, until: datetime) -> CopiedChanges:
    """All states as they are, and the highest number up to which no change is later than
    `until`."""
    log.drain()
    tables, end, later = [_STATES.empty_table()], 0, list[int]()
    while True:
        states = log.states(after=end, limit=_PAGE)
        rows = [(state.item_id, state.number, state.whole, state.to_json()) for state in states]
        columns = list(zip(*rows, strict=True)) or [()] * len(_STATES)
        tables.append(pa.table([list(column) for column in columns], schema=_STATES))
        later += [number for state in states for number in _numbers_after(state, until)]
        end = states[-1].number if states else end
        # A page that is not full reached the end: of what was read nothing had changed since.
        if len(states) < _PAGE:
            break
    number = min([end, *(number - 1 for number in later)])
    return CopiedChanges(number, _last_of_each(pa.concat_tables(tables)))


def _numbers_after(state: ItemState, until: datetime) -> list[int]:
    """The numbers of a state's changes that are later."""
    numbers = [each.number for each in state.fields.values() if each.time > until]
    return [*numbers, state.number] if state.time > until else numbers


def _last_of_each(states: pa.Table) -> pa.Table:
    """The newest state of each item, by item: one that changed meanwhile was read twice."""
    ordered = states.sort_by([("item_id", "ascending"), ("number", "ascending")])
    ids = ordered["item_id"].combine_chunks()
    is_last = np.append(np.asarray(pc.not_equal(ids[1:], ids[:-1])), True)[: len(ids)]
    return ordered.filter(pa.array(is_last, pa.bool_()))


def fold_changes(night: NightRun, part: int, items: pa.Table) -> FoldedItems:
    """The items of shard `part` with the changes that the night takes in."""
    if not night.plan.changes:
        return fold_states(items, [])
    file = pa.ipc.open_file(night.store.open(night.work_path(CHANGES)))
    texts = file.get_batch(part)["state"].to_pylist()
    states = (state_as_of(ItemState.from_json(text), night.plan.changes) for text in texts)
    return fold_states(items, [state for state in states if state])


def change_line(counts: Mapping[str, int]) -> str:
    """A sentence about the changes of the day; "" where there were none."""
    parts = [f"{counts[name]:,} {phrase}" for name, phrase in PHRASES.items() if counts.get(name)]
    return f"items by day: {', '.join(parts)}" if parts else ""
