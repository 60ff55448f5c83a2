"""Online learning from the live event log: tails it, learns within the bounds of
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

#: Impressions that one step reads, and that may wait for their first event; of more the oldest go.
MOST, WAITING = 5_000, 50_000
#: Of the log before the trainer began, so many impressions and interactions are looked through for
#: replay.
PAST = 5_000

Now = Callable[[], datetime]


@dataclass(frozen=True)
class _Pending:
    """An impression awaiting feedback, its sequence number in the log, and that of the last
    interaction read before it."""

    impression: Impression
    number: int
    sequence: int


class OnlineTrainer:
    """Reads the live log, learns, publishes snapshots: one a setup. `step` is to be called again
    and again.

    It begins with what happens from now on, or where its last snapshot stood: what came since, it
    learns again. A list teaches once: with its first event, when `patience_s` have passed since it
    was shown. Rows that cannot be used are left out and counted in `bad`."""

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
        self._begin_empty(0, 0)

    def step(self) -> LearnReport | None:
        """One look at the log: what was learned, None where nothing was. Raises what the stores
        raise, and goes on from there when it is called again."""
        decided, (base, space) = read_control(self.setup), served_models(self.setup)
        if (base, space, decided.mark) != (self.base, self.space, self.mark):
            self._begin(base, space, decided.mark)
        if self.learner is None:
            return None
        self._read()
        if decided.frozen:
            self._pass_by()
            return None
        report = self._learn(self._ready())
        self._snapshot_when_due()
        return report

    # Beginning

    def _begin(self, base: str | None, space: str, mark: str) -> None:
        """From the night's network, or where its last snapshot stood."""
        self.base, self.learner, self.report, self.learned = None, None, None, 0
        self.space, self.mark = space, mark
        learner = self._nightly(base) if base else None
        if learner and base:
            self._begin_empty(self.events.end().impressions, self.events.end().interactions)
            with suppress(RecsysError, ValueError, KeyError):  # a damaged snapshot: from the night
                self._take_up(learner, current_snapshot(self.setup, base))
            self.learner = learner
            self._remember()
        self.base = base

    def _nightly(self, base: str) -> OnlineLearner | None:
        from recsys.training.last_layer import OnlineLearner

        folder = models_folder(self.setup, base, (NET, EXAMINATION))
        if not (folder / NET).is_dir():
            return None
        curve = Examination.load(folder / EXAMINATION) if (folder / EXAMINATION).exists() else None
        return OnlineLearner(folder / NET, self.choices, curve)

    def _take_up(self, learner: OnlineLearner, snapshot: Snapshot | None) -> None:
        if snapshot is not None:
            state = snapshot_state(self.setup, snapshot)
            learner.restore(snapshot_network(self.setup, snapshot), state["learner"])
            self._begin_empty(state["impressions"], state["sequence"], state["done"])

    def _begin_empty(
        self, position: int, sequence: int, processed: Mapping[str, int] | None = None
    ) -> None:
        self.position, self.sequence = position, sequence
        self._waiting: dict[str, _Pending] = {}
        self._touched: dict[str, list[pa.Table]] = {}
        self._standings: dict[str, PrivacyState] = {}
        self._processed = dict(processed or {})
        self._published = self.now()
        self._news = 0

    def _remember(self) -> None:
        """Lists of before for replay, from the end of the log that was there when it began."""
        assert self.learner is not None
        recent = self.events.impressions(max(0, self.position - PAST))
        before = takewhile(lambda each: each.sequence <= self.position, recent)
        impressions = [self._pseudonymise(each) for each in before if self._fits(each)]
        batches = self.events.interactions(self.sequence, max(0, self.sequence - PAST))
        interactions = [
            batch for each in batches for batch in self._pseudonymise_rows(each).to_batches()
        ]
        with suppress(RecsysError, ValueError):  # a bad row among them: without
            self.learner.remember(label_examples(impressions, interactions, self.now()))

    # Reading

    def _read(self) -> None:
        """What came since the last step. A click may be in the log before what it clicked: it
        waits."""
        read_before = self.sequence
        for impression in islice(self.events.impressions(self.position), MOST):
            self.position = impression.sequence
            if impression.request_id not in self._processed and self._fits(impression):
                self._waiting[impression.request_id] = _Pending(
                    self._pseudonymise(impression), self.position, read_before
                )
        until = self.events.end().interactions
        for batch in self.events.interactions(until, self.sequence):
            self._touch(self._pseudonymise_rows(batch))
        self.sequence = until
        self._forget()
        self._obey()

    def _touch(self, events: pa.Table) -> None:
        events = events.filter(events["request_id"].is_valid())
        for at, request in enumerate(events["request_id"].to_pylist()):
            if request not in self._processed:
                self._touched.setdefault(request, []).append(events.slice(at, 1))

    def _fits(self, impression: Impression) -> bool:
        """Whether the learner can use its features: of its surface, with its names, in its
        space."""
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

    def _forget(self) -> None:
        """What waited too long, and what came too late."""
        oldest = self.now() - timedelta(seconds=self.choices.window_s)
        late = [request for request, each in self._waiting.items() if each.impression.time < oldest]
        for request in late + list(self._waiting)[: max(0, len(self._waiting) - WAITING)]:
            self._waiting.pop(request, None)
            self._touched.pop(request, None)
        for request in [request for request in self._touched if request not in self._waiting]:
            if (
                self._touched[request][0]["time"][0].as_py() < oldest
                or len(self._touched) > WAITING
            ):
                del self._touched[request]
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

    def _obey(self) -> None:
        """What users decided since the last step."""
        standings, before = self.events.privacy_states(), self._standings
        self._standings = standings
        if news := {user for user, standing in standings.items() if before.get(user) != standing}:
            for request, each in list(self._waiting.items()):
                if each.impression.user_id in news and not standings[
                    each.impression.user_id
                ].allows(each.impression.time):
                    del self._waiting[request]
                    self._touched.pop(request, None)
            assert self.learner is not None
            self.learner.forget({user for user in news if standings[user] != PrivacyState()})

    def _pass_by(self) -> None:
        """Nothing of what is there now is ever learned."""
        self._waiting.clear()
        self._touched.clear()

    # Learning

    def _ready(self) -> list[_Pending]:
        latest = self.now() - timedelta(seconds=self.choices.patience_s)
        return [
            each
            for request, each in self._waiting.items()
            if request in self._touched and each.impression.time <= latest
        ]

    def _learn(self, ready: Sequence[_Pending]) -> LearnReport | None:
        """All at once; where a row among them is bad, one by one without the bad ones."""
        assert self.learner is not None
        if not ready:
            return None
        touched = {
            each.impression.request_id: self._touched.pop(each.impression.request_id)
            for each in ready
        }
        for each in ready:
            del self._waiting[each.impression.request_id]
            self._processed[each.impression.request_id] = each.number
        try:
            self._taught(ready, touched)
        except Exception:
            for each in ready:
                try:
                    self._taught([each], touched)
                except Exception:  # whatever a client sent must not stop the others from teaching
                    self.bad += 1
        return self.report

    def _taught(self, ready: Sequence[_Pending], touched: Mapping[str, Sequence[pa.Table]]) -> None:
        assert self.learner is not None
        rows = (
            batch
            for each in ready
            for table in touched[each.impression.request_id]
            for batch in table.to_batches()
        )
        self.report = self.learner.learn(
            label_examples([each.impression for each in ready], rows, self.now())
        )
        self.learned += self.report.learned
        self._news += self.report.learned + self.report.fell_back

    # Snapshots

    def _snapshot_when_due(self) -> None:
        due = self._published + timedelta(seconds=self.choices.snapshot_s)
        if self._news and self.now() >= due:
            self.snapshot()

    def snapshot(self) -> Snapshot:
        """Publishes the network as it is now, with all that a restart needs."""
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
            made = publish_snapshot(
                self.setup,
                Path(folder),
                base=self.base,
                mark=self.mark,
                metrics=self.metrics(),
                state=state,
            )
        self._published, self._news = self.now(), 0
        return made

    def metrics(self) -> dict[str, float]:
        """Numbers of a snapshot, and for a monitor; what was not measured is left out."""
        report = asdict(self.report) if self.report else {}
        named = {
            name: float(report[name])
            for name in ("distance", "difference", "low", "high", "fallbacks")
            if report
        }
        counts = {
            "learned": float(self.learned),
            "bad": float(self.bad),
            "waiting": float(len(self._waiting)),
        }
        return {name: value for name, value in {**counts, **named}.items() if value == value}

    def _low_water(self) -> tuple[int, int]:
        """From where a restart has to read: impressions and interactions before it are all dealt
        with."""
        first = min(self._waiting.values(), key=lambda each: each.number, default=None)
        return (first.number - 1, first.sequence) if first else (self.position, self.sequence)

    def close(self) -> None:
        self.events.close()
