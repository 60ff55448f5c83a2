"""Changes of the catalogue in a replica: judged as a night's rows are, and written to their log."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import pyarrow.compute as pc

from recsys.catalogue.changes import ChangeResult, FieldChange, ItemChange
from recsys.catalogue.validation import InvalidChange, read_changes
from recsys.config import Setup
from recsys.datasets.choices import CatalogueChoices
from recsys.errors import NotFoundError, StoreDownError
from recsys.release.release import Release
from serve import metrics

Outcomes = list[ChangeResult | InvalidChange]
#: Rows that are judged and written together, but for those of one call.
GROUP_ROWS = 1_000


class _Call(NamedTuple):
    rows: Sequence[Any]
    release: Release | None
    outcomes: Future[Outcomes]


class CatalogueWriter(threading.Thread):
    """Calls that come while others are written are written together: judging costs 5 ms and an
    fsync as much, for one row as for a hundred. A release says which items there are, and in which
    currency."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(name="catalogue", daemon=True)
        self.choices, self.log = setup.catalogue, setup.catalogue_log()
        self._folded, self._choices = 0, ("", self.choices)
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self.start()

    def submit(self, rows: Sequence[Any], release: Release | None) -> Future[Outcomes]:
        """What becomes of each row, which is as `read_changes` takes it: in the log when it is
        done."""
        call = _Call(rows, release, Future())
        self._calls.put(call)
        return call.outcomes

    def run(self) -> None:
        while call := self._calls.get():
            calls, rows = [call], len(call.rows)
            with suppress(Empty):
                while rows < GROUP_ROWS and (call := self._calls.get_nowait()):
                    calls.append(call)
                    rows += len(call.rows)
            self._write_calls(calls)
            if call is None:
                return

    def _write_calls(self, calls: Sequence[_Call]) -> None:
        # Who left before their turn is not written, and not told.
        calls = [call for call in calls if call.outcomes.set_running_or_notify_cancel()]
        if not calls:
            return
        try:
            rows = [row for call in calls for row in call.rows]
            outcomes = iter(self.write(rows, calls[-1].release))
        except Exception as error:  # is the callers'
            for call in calls:
                call.outcomes.set_exception(error)
            return
        for call in calls:
            call.outcomes.set_result([next(outcomes) for _ in call.rows])

    def write(self, rows: Sequence[Any], release: Release | None) -> Outcomes:
        """At once, in the caller's thread."""
        outcomes = read_changes(rows, self._choices_of(release))
        changes = [each for each in outcomes if isinstance(each, ItemChange)]
        if release:
            # After a roll-back an item may still have got another value from the later night.
            self._folded = max(self._folded, release.manifest.changes)
        results = iter(self.log.append(changes, _existence(release), self._folded))
        written = [next(results) if isinstance(o, ItemChange) else o for o in outcomes]
        metrics.count_changes(
            [each.status for each in written if isinstance(each, ChangeResult)],
            [each.field for each in written if isinstance(each, InvalidChange)],
        )
        self.observe()
        return written

    def changed_fields(self, item_id: str, release: Release) -> Mapping[str, FieldChange] | None:
        """The fields of an item that changed after the release's night, by their change; None where
        the log does not answer."""
        try:
            state = self.log.state(item_id)
        except StoreDownError:
            return None
        after = release.manifest.changes
        fields = state.fields if state else {}
        return {name: each for name, each in fields.items() if each.number > after}

    def explain_absence(self, item_id: str, release: Release) -> None:
        """Raises NotFoundError for an item that was deleted after the release's night."""
        with suppress(StoreDownError):
            state = self.log.state(item_id)
            if state and state.deleted and state.number > release.manifest.changes:
                raise NotFoundError(
                    f"item {item_id!r} was deleted at {state.time.isoformat()} by change "
                    f"{state.number}: PUT it to bring it back"
                )

    def observe(self) -> None:
        """Measures what waits for the log."""
        health = self.log.health()
        metrics.CATALOGUE_WAITING.set(health.waiting)
        metrics.CATALOGUE_LAG.set(health.lag_s)

    def close(self, timeout_s: float) -> None:
        """What was submitted is written before."""
        self._calls.put(None)
        self.join(timeout_s)
        self.log.close()

    def _choices_of(self, release: Release | None) -> CatalogueChoices:
        """A price is in the shop's currency, which may be that of its release alone."""
        if self.choices.currency or release is None:
            return self.choices
        version, choices = self._choices
        if release.version != version:  # checking choices takes 8 ms
            has_column = "currency" in release.items.column_names
            currency = pc.first(release.items["currency"]).as_py() if has_column else None
            choices = replace(self.choices, currency=currency)
            self._choices = release.version, choices
        return choices


def _existence(release: Release | None) -> Any:
    return lambda item_id: release is not None and release.item_ids.row(item_id) is not None
