"""Users' privacy decisions as filters of tables: which rows may not be kept.

Legend: N rows, E events."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.datasets.validate import LINE, ValidationResult
from recsys.interfaces import PrivacyRegistry
from recsys.types import Mask, PrivacyState


@dataclass(frozen=True)
class PrivacyDecisions:
    """What users decided, by `digest` of their ids. Pickles: goes with the night's tasks."""

    digest: Callable[[str], str] = str
    states: Mapping[str, PrivacyState] = field(default_factory=dict)

    @classmethod
    def load(cls, registry: PrivacyRegistry) -> PrivacyDecisions:
        """As of now."""
        return cls(registry.hasher(), registry.privacy_states())

    def forbidden_users(
        self, ids: pa.ChunkedArray, time: datetime, only: Collection[str] | None = None
    ) -> Mask:
        """[N]: users whose state allows nothing of that time; `only` among these where given."""
        is_forbidden_N = np.zeros(len(ids), bool)
        if not self.states:
            return is_forbidden_N
        rows = np.arange(len(ids))
        if only is not None:
            is_listed_N = pc.is_in(ids, value_set=pa.array(list(only), pa.string()))
            rows = np.flatnonzero(np.asarray(is_listed_N))
        names = ids.take(pa.array(rows)).to_pylist()
        is_forbidden_N[rows] = [not self._state(name).allows(time) for name in names]
        return is_forbidden_N

    def forbidden_sources(self, quarantined: pa.Table) -> Mask:
        """[N]: quarantined rows that name a user who decided anything, whatever their time."""
        if not self.states:
            return np.zeros(quarantined.num_rows, bool)
        decided = {key for key, state in self.states.items() if state != PrivacyState()}
        sources = map(str, quarantined["source"].to_pylist())
        return np.array(
            [any(self.digest(name) in decided for name in users_named(each)) for each in sources],
            bool,
        )

    def filter_events(self, checked: ValidationResult) -> ValidationResult:
        """A chunk of events without those that their users' states rule out."""
        good, quarantined = checked.good, checked.quarantined
        if not self.states:
            return checked
        coded = good["user_id"].combine_chunks().dictionary_encode()
        states = [self._state(name) for name in coded.dictionary.to_pylist()]
        has_decided = np.array([*(state != PrivacyState() for state in states), False])
        is_allowed_E = np.ones(good.num_rows, bool)
        users_E = np.asarray(pc.fill_null(coded.indices, len(states)))  # guests decide nothing
        for row in np.flatnonzero(has_decided[users_E]):
            is_allowed_E[row] = states[users_E[row]].allows(good["time"][int(row)].as_py())
        return replace(
            checked,
            good=good.filter(pa.array(is_allowed_E)),
            quarantined=quarantined.filter(pa.array(~self.forbidden_sources(quarantined))),
        )

    def _state(self, user_id: str) -> PrivacyState:
        return self.states.get(self.digest(user_id), PrivacyState())


def users_named(source: str) -> set[str]:
    """Whom a quarantined row may name: its user id; of a line that could not be split, every
    word."""
    try:
        row = json.loads(source)
    except ValueError:
        return set()
    if not isinstance(row, dict):
        return set()
    words = re.split(r"""[\s,;|"']+""", str(row.get(LINE) or ""))
    return {word for word in (*words, str(row.get("user_id") or "")) if word}
