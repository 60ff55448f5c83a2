"""Follows a stream of changes: reads, writes, and keeps the place, in this order.

What a follower killed between two of them had written it writes again: a change has the time of its
source for a version, so that again is no change."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from recsys.catalogue.bulk import LogWriter, Outcome, ReleasedItems
from recsys.catalogue.changes import CatalogueLog, ItemChange
from recsys.catalogue.streams import Message, MessageReading, PoisonError, read_message
from recsys.catalogue.validation import InvalidChange, read_changes
from recsys.datasets.choices import CatalogueChoices
from recsys.errors import InputError, NotFoundError
from recsys.storage.artifacts import ArtifactStore
from recsys.storage.files import FileStore

#: What became of a row that needs no person.
_GOOD = ("accepted", "unchanged", "stale")

#: Writes rows as `validation.read_changes` takes them; durable when it returns. Raises
#: StoreDownError where it cannot now, InputError where no rows can be.
Write = Callable[[Sequence[Mapping[str, Any]]], Sequence[Outcome]]


class Follower:
    """One stream into one catalogue. Offsets and quarantined messages lie in the home, below
    `streams/NAME`."""

    def __init__(self, home: FileStore, name: str, reading: MessageReading, write: Write) -> None:
        self.home, self.folder = home, f"streams/{name}"
        self.reading, self.write = reading, write

    def offsets(self) -> dict[str, str]:
        """The last offset of each partition that was taken in."""
        try:
            offsets: dict[str, str] = json.loads(self.home.read(f"{self.folder}/offsets.json"))
            return offsets
        except NotFoundError:
            return {}

    def take_in(self, messages: Sequence[Message]) -> Counter[str]:
        """What became of them, counted: the statuses of `changes`, `quarantined`, and `nothing` of
        those that say none. The place is kept when it returns. Raises StoreDownError: try again."""
        rows, poison = self._read(messages)
        counts = Counter(nothing=len(messages) - len(rows) - len(poison))
        outcomes = self.write([row for _, row in rows]) if rows else []
        for (message, row), outcome in zip(rows, outcomes, strict=True):
            is_gone = outcome.status == "missing" and row["op"] == "delete"
            if outcome.status in _GOOD or is_gone:
                counts[outcome.status] += 1
            else:
                poison.append((message, outcome.reason or outcome.status))
        counts["quarantined"] = len(poison)
        self._quarantine(poison)
        self._keep(messages)
        return +counts

    def _read(
        self, messages: Sequence[Message]
    ) -> tuple[list[tuple[Message, dict[str, Any]]], list[tuple[Message, str]]]:
        rows, poison = list[tuple[Message, dict[str, Any]]](), list[tuple[Message, str]]()
        for message in messages:
            try:
                if row := read_message(message, self.reading):
                    rows.append((message, row))
            except PoisonError as error:
                poison.append((message, str(error)))
        return rows, poison

    def _quarantine(self, poison: Sequence[tuple[Message, str]]) -> None:
        """One file, named by the first one's place: the same messages again give the same file."""
        if not poison:
            return
        lines = [
            {
                "place": message.place,
                "time": message.time and message.time.isoformat(),
                "reason": reason,
                "key": _text(message.key),
                "value": _text(message.value),
            }
            for message, reason in poison
        ]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        name = quote(min(message.place for message, _ in poison), safe="")
        self.home.write(f"{self.folder}/quarantine/{name}.jsonl", text.encode())

    def _keep(self, messages: Sequence[Message]) -> None:
        if messages:
            offsets = self.offsets() | {each.partition: each.offset for each in messages}
            text = json.dumps(offsets, indent=2, sort_keys=True)
            self.home.write(f"{self.folder}/offsets.json", text.encode())


class LogRows:
    """Writes rows straight into the log, in view of the release that is current."""

    def __init__(self, home: str, log: CatalogueLog, choices: CatalogueChoices) -> None:
        self.store, self.log, self.choices = ArtifactStore(home), log, choices
        self._version: str | None = None
        self._released, self._folded = ReleasedItems(), 0

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> list[Outcome]:
        if (version := self.store.current()) != self._version:
            self._version, self._released = version, ReleasedItems.of(self.store.uri)
            # After a roll-back an item may still have got another value from the later night.
            self._folded = max(self._folded, self._released.folded)
        currency = self.choices.currency or self._released.currency
        changes = read_changes(rows, replace(self.choices, currency=currency))
        valid = [change for change in changes if isinstance(change, ItemChange)]
        writer = LogWriter(self.log, replace(self._released, folded=self._folded))
        written = iter(_written(writer, valid))
        return [
            Outcome("invalid", each.reason) if isinstance(each, InvalidChange) else next(written)
            for each in changes
        ]


def _written(writer: LogWriter, changes: Sequence[ItemChange]) -> list[Outcome]:
    """Where the log refuses them together, one by one."""
    try:
        return writer.write(changes) if changes else []
    except InputError as error:
        if len(changes) == 1:
            return [Outcome("invalid", str(error))]
        return [outcome for change in changes for outcome in _written(writer, [change])]


def _text(content: bytes | None) -> str | None:
    return None if content is None else content.decode("utf-8", "replace")
