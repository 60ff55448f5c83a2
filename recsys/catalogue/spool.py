"""Back-pressure of the catalogue log: while it cannot be reached, changes wait on this host
(`backpressure`)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from recsys.catalogue.changes import CatalogueLog, ChangeResult, ItemChange, ItemState
from recsys.errors import StoreDownError
from recsys.events.backpressure import SpooledStore
from recsys.interfaces import LogState

T = TypeVar("T")
logger = logging.getLogger(__name__)


class SpooledCatalogueLog(SpooledStore):
    """A `CatalogueLog` that accepts changes while `log` is down: into a file below `folder`,
    fsynced before it returns. Such a change has the number 0, and whether it is refused shows when
    the log is back.

    Without a version it counts as of when it was accepted (`ItemChange.accepted`). While the log is
    down every read raises StoreDownError. The factory is `partial(SpooledCatalogueLog,
    partial(RedisCatalogueLog, url), folder)`."""

    def __init__(
        self, log: Callable[[], CatalogueLog], folder: str | Path, limit_bytes: int = 1 << 30
    ) -> None:
        self.log, self._now = log(), datetime.now(UTC)
        super().__init__("catalogue log", folder, limit_bytes)

    def append(
        self, changes: Sequence[ItemChange], exists: Callable[[str], bool], folded: int = 0
    ) -> list[ChangeResult]:
        # Before the attempt, which may be written although its answer is lost; never backwards.
        now = self._now = max(self._now, datetime.now(UTC))
        results = self._unless_down(lambda: self.log.append(changes, exists, folded))
        if results is not None:
            return results
        accepted = {"accepted": now.isoformat(), "folded": folded}
        rows = [{"change": _own(c), "exists": exists(c.item_id), **accepted} for c in changes]
        self._spool("changes", rows)
        return [ChangeResult("accepted", 0, change.version) for change in changes]

    def health(self) -> LogState:
        return self._state()

    def drain(self) -> int:
        """Of this process, and of those of this host that died; others do it within a second."""
        self._ping()
        return self._replay_all()

    def close(self) -> None:
        """What still waits stays on the disk for the next process."""
        self._close_spool()
        self.log.close()

    # Raises StoreDownError while the log is down

    def states(self, after: int = 0, limit: int | None = None) -> list[ItemState]:
        return self._read(lambda: self.log.states(after, limit))

    def state(self, item_id: str) -> ItemState | None:
        return self._read(lambda: self.log.state(item_id))

    def end(self) -> int:
        return self._read(self.log.end)

    def _read(self, work: Callable[[], T]) -> T:
        """A log that is down is not waited for by each reader."""
        try:
            return self._if_up(work)
        except StoreDownError as error:
            self._mark_down(error)
            raise

    # For the replay

    def _ping(self) -> None:
        self.log.end()

    def _write_to_store(self, kind: str, rows: list[Any]) -> None:
        changes = [
            ItemChange(**row["change"] | {"accepted": datetime.fromisoformat(row["accepted"])})
            for row in rows
        ]
        existing = {row["change"]["item_id"] for row in rows if row["exists"]}
        results = self.log.append(changes, existing.__contains__, rows[0]["folded"])
        refused = [
            f"{change.item_id!r} ({result.status})"
            for change, result in zip(changes, results, strict=True)
            if result.status in ("stale", "missing")
        ]
        if refused:
            logger.warning(
                "%d changes that waited were refused: %s", len(refused), ", ".join(refused[:10])
            )


def _own(change: ItemChange) -> dict[str, Any]:
    return {name: value for name, value in vars(change).items() if name != "accepted"}
