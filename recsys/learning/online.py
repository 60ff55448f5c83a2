"""Online learning from the live event log: tails it, updates the last layer within the bounds of
`training.last_layer`, publishes snapshots."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from recsys.config import Setup
from recsys.errors import RecsysError
from recsys.events.joins import label_examples
from recsys.models.snapshots import (
    Snapshot,
    current_snapshot,
    publish_snapshot,
    read_control,
    served_models,
    snapshot_network,
    snapshot_state,
)
from recsys.models.store import models_folder
from recsys.ranking.examination import Examination
from recsys.release.manifest import read_manifest
from recsys.storage.artifacts import ArtifactStore
from recsys.training import EXAMINATION, NET
from recsys.training.influence import OnlineConfig
from recsys.types import Impression, PrivacyState

if TYPE_CHECKING:
    from recsys.training.last_layer import LearnReport, OnlineLearner

#: Impressions that one step reads; impressions awaiting feedback, the oldest are dropped first.
MAX_PER_STEP, MAX_PENDING = 5_000, 50_000
#: Impressions and interactions, newest of the log before the trainer started, that fill the replay
#: reservoir.
REPLAY_ROWS = 5_000

Now = Callable[[], datetime]


@dataclass(frozen=True)
class _Pending:
    """An impression awaiting feedback, its sequence number in the log, and that of the last
    interaction read before it."""

    impression: Impression
    number: int
    sequence: int


class OnlineTrainer:
    """Tails the live log, learns, publishes snapshots: one a setup. Call `step` periodically.

    It starts at the end of the log, or at the position of its last snapshot. A list is learned
    once: with its first interaction, `feedback_delay_s` after its impression at the earliest. Rows
    that cannot be used are left out and counted in `bad`."""

    def __init__(
        self, setup: Setup, choices: OnlineConfig, now: Now = lambda: datetime.now(UTC)
    ) -> None:
        self.setup, self.choices, self.now = setup, choices, now
        self.events = setup.event_store()
        self.base: str | None = None
        self.mark, self.space = "", ""
        self.learner: OnlineLearner | None = None
        self.report: LearnReport | None = None
        self.bad = self.learned = 0
        self._spaces: dict[str, str] = {}
        self._reset(0, 0)

    def step(self) -> LearnReport | None:
        """Reads the log once; the report, or None where nothing was learned. Raises what the stores
        raise; the next call continues from there."""
        control, (base, space) = read_control(self.setup), served_models(self.setup)
        if (base, space, control.mark) != (self.base, self.space, self.mark):
            self._start(base, space, control.mark)
        if self.learner is None:
            return None
        self._read()
        if control.frozen:
            self._discard_pending()
            return None
        report = self._learn(self._ready())
        self._snapshot_when_due()
        return report

    # Starting

    def _start(self, base: str | None, space: str, mark: str) -> None:
        """From the nightly network, or from its last snapshot."""
        self.base, self.learner, self.report, self.learned = None, None, None, 0
        self.space, self.mark = space, mark
        learner = self._nightly(base) if base else None
        if learner and base:
            self._reset(self.events.end().impressions, self.events.end().interactions)
            with suppress(RecsysError, ValueError, KeyError):  # damaged: start from the night
                self._restore(learner, current_snapshot(self.setup, base))
            self.learner = learner
            self._fill_reservoir()
        self.base = base

    def _nightly(self, base: str) -> OnlineLearner | None:
        from recsys.training.last_layer import OnlineLearner

        folder = models_folder(self.setup, base, (NET, EXAMINATION))
        if not (folder / NET).is_dir():
            return None
        curve = Examination.load(folder / EXAMINATION) if (folder / EXAMINATION).exists() else None
        return OnlineLearner(folder / NET, self.choices, curve)

    def _restore(self, learner: OnlineLearner, snapshot: Snapshot | None) -> None:
        if snapshot is not None:
            state = snapshot_state(self.setup, snapshot)
            learner.restore(snapshot_network(self.setup, snapshot), state["learner"])
            self._reset(state["impressions"], state["sequence"], state["done"])

    def _reset(
        self, position: int, sequence: int, processed: Mapping[str, int] | None = None
    ) -> None:
        self.position, self.sequence = position, sequence
        self._pending: dict[str, _Pending] = {}
        self._interactions: dict[str, list[pa.Table]] = {}
        self._privacy_states: dict[str, PrivacyState] = {}
        self._processed = dict(processed or {})
        self._published = self.now()
        self._unpublished = 0

    def _fill_reservoir(self) -> None:
        """Fills the replay reservoir from the newest lists before the start."""
        assert self.learner is not None
        recent = self.events.impressions(max(0, self.position - REPLAY_ROWS))
        before = takewhile(lambda each: each.sequence <= self.position, recent)
        impressions = [self._pseudonymise(each) for each in before if self._fits(each)]
        batches = self.events.interactions(self.sequence, max(0, self.sequence - REPLAY_ROWS))
        interactions = [
            batch for each in batches for batch in self._pseudonymise_rows(each).to_batches()
        ]
        with suppress(RecsysError, ValueError):  # a bad row among them: without
            self.learner.remember(label_examples(impressions, interactions, self.now()))

    # Reading

    def _read(self) -> None:
        """Reads rows since the last step. A click may precede its impression in the log: it
        waits."""
        read_before = self.sequence
        for impression in islice(self.events.impressions(self.position), MAX_PER_STEP):
            self.position = impression.sequence
            if impression.request_id not in self._processed and self._fits(impression):
                self._pending[impression.request_id] = _Pending(
                    self._pseudonymise(impression), self.position, read_before
                )
        until = self.events.end().interactions
        for batch in self.events.interactions(until, self.sequence):
            self._add_interactions(self._pseudonymise_rows(batch))
        self.sequence = until
        self._expire()
        self._apply_privacy()

    def _add_interactions(self, events: pa.Table) -> None:
        events = events.filter(events["request_id"].is_valid())
        for at, request in enumerate(events["request_id"].to_pylist()):
            if request not in self._processed:
                self._interactions.setdefault(request, []).append(events.slice(at, 1))

    def _fits(self, impression: Impression) -> bool:
        """Whether the learner can use the impression: its surface, feature names and space
        match."""
        assert self.learner is not None
        if self.choices.surfaces and impression.surface not in self.choices.surfaces:
            return False
        if set(self.learner.feature_names).isdisjoint(impression.features.names):
            return False
        return self._space_of(impression.release) == self.space

    def _space_of(self, version: str) -> str:
        if version not in self._spaces:
            self._spaces[version] = ""
            with suppress(RecsysError):
                self._spaces[version] = read_manifest(ArtifactStore(self.setup.home), version).space
        return self._spaces[version]

    def _expire(self) -> None:
        """Drops impressions and interactions past the attribution window, or beyond MAX_PENDING."""
        oldest = self.now() - timedelta(seconds=self.choices.attribution_window_s)
        late = [request for request, each in self._pending.items() if each.impression.time < oldest]
        for request in late + list(self._pending)[: max(0, len(self._pending) - MAX_PENDING)]:
            self._pending.pop(request, None)
            self._interactions.pop(request, None)
        for request in [request for request in self._interactions if request not in self._pending]:
            if (
                self._interactions[request][0]["time"][0].as_py() < oldest
                or len(self._interactions) > MAX_PENDING
            ):
                del self._interactions[request]
        restart = self._low_water()[0]
        self._processed = {
            request: number for request, number in self._processed.items() if number > restart
        }

    def _pseudonymise(self, impression: Impression) -> Impression:
        """Online learning and its snapshots hold users by their digest alone."""
        if impression.user_id is None:
            return impression
        return replace(impression, user_id=self.events.digest(impression.user_id))

    def _pseudonymise_rows(self, batch: pa.RecordBatch) -> pa.Table:
        digests = pa.array(
            [self.events.digest(user) for user in batch["user_id"].to_pylist()], pa.string()
        )
        return pa.Table.from_batches([batch]).set_column(
            batch.schema.get_field_index("user_id"), "user_id", digests
        )

    def _apply_privacy(self) -> None:
        """Applies the users' privacy choices of the time since the last step."""
        states, before = self.events.privacy_states(), self._privacy_states
        self._privacy_states = states
        if news := {user for user, state in states.items() if before.get(user) != state}:
            for request, each in list(self._pending.items()):
                if each.impression.user_id in news and not states[each.impression.user_id].allows(
                    each.impression.time
                ):
                    del self._pending[request]
                    self._interactions.pop(request, None)
            assert self.learner is not None
            self.learner.forget({user for user in news if states[user] != PrivacyState()})

    def _discard_pending(self) -> None:
        """Drops all pending lists: they are never learned."""
        self._pending.clear()
        self._interactions.clear()

    # Learning

    def _ready(self) -> list[_Pending]:
        latest = self.now() - timedelta(seconds=self.choices.feedback_delay_s)
        return [
            each
            for request, each in self._pending.items()
            if request in self._interactions and each.impression.time <= latest
        ]

    def _learn(self, ready: Sequence[_Pending]) -> LearnReport | None:
        """Learns all at once; where that fails, list by list, leaving out the bad ones."""
        assert self.learner is not None
        if not ready:
            return None
        interactions = {
            each.impression.request_id: self._interactions.pop(each.impression.request_id)
            for each in ready
        }
        for each in ready:
            del self._pending[each.impression.request_id]
            self._processed[each.impression.request_id] = each.number
        try:
            self._update(ready, interactions)
        except Exception:
            for each in ready:
                try:
                    self._update([each], interactions)
                except Exception:  # no client's rows may stop the others from being learned
                    self.bad += 1
        return self.report

    def _update(
        self, ready: Sequence[_Pending], interactions: Mapping[str, Sequence[pa.Table]]
    ) -> None:
        assert self.learner is not None
        rows = (
            batch
            for each in ready
            for table in interactions[each.impression.request_id]
            for batch in table.to_batches()
        )
        self.report = self.learner.learn(
            label_examples([each.impression for each in ready], rows, self.now())
        )
        self.learned += self.report.learned
        self._unpublished += self.report.learned + self.report.fell_back

    # Snapshots

    def _snapshot_when_due(self) -> None:
        due = self._published + timedelta(seconds=self.choices.snapshot_interval_s)
        if self._unpublished and self.now() >= due:
            self.snapshot()

    def snapshot(self) -> Snapshot:
        """Publishes the current network and the state that a restart needs."""
        assert self.learner is not None
        assert self.base is not None
        impressions, sequence = self._low_water()
        state = {
            "impressions": impressions,
            "sequence": sequence,
            "done": self._processed,
            "learner": self.learner.state(),
        }
        with tempfile.TemporaryDirectory() as folder:
            self.learner.snapshot(Path(folder))
            snapshot = publish_snapshot(
                self.setup,
                Path(folder),
                base=self.base,
                mark=self.mark,
                metrics=self.metrics(),
                state=state,
            )
        self._published, self._unpublished = self.now(), 0
        return snapshot

    def metrics(self) -> dict[str, float]:
        """Metrics of a snapshot and for monitoring; NaNs are left out."""
        report = asdict(self.report) if self.report else {}
        named = {
            name: float(report[name])
            for name in ("distance", "difference", "low", "high", "fallbacks")
            if report
        }
        counts = {
            "learned": float(self.learned),
            "bad": float(self.bad),
            "waiting": float(len(self._pending)),
        }
        return {name: value for name, value in {**counts, **named}.items() if value == value}

    def _low_water(self) -> tuple[int, int]:
        """The log positions a restart reads from: everything before them is processed."""
        first = min(self._pending.values(), key=lambda each: each.number, default=None)
        return (first.number - 1, first.sequence) if first else (self.position, self.sequence)

    def close(self) -> None:
        self.events.close()
