"""The live release: follows the store's `current` pointer, and swaps between two requests."""

from __future__ import annotations

import logging
import math
import threading
import time
from datetime import UTC, datetime
from typing import Any

import numpy as np

from recsys.catalogue.segment import EncodeItems
from recsys.config import Setup
from recsys.errors import NotFoundError, RecsysError, ReleaseError, SpaceMismatchError
from recsys.models.composition import build_recommender, load_ranker, with_models
from recsys.models.snapshots import current_snapshot, snapshot_network
from recsys.pipeline.live_catalogue import LiveCatalogue
from recsys.pipeline.recommender import Recommender
from recsys.privacy.erasure import release_time
from recsys.release.manifest import read_manifest
from recsys.release.release import Release
from recsys.storage.artifacts import ArtifactStore
from recsys.types import Filters, Query
from serve import metrics

logger = logging.getLogger("ray.serve")

#: States of items that are applied as one snapshot.
STATES_AT_ONCE = 10_000
#: The ranker that is trained by day too.
ONLINE_RANKER = "net"
#: Pages of one search stay of one snapshot so long, while it is among the newest that answered.
KEPT_S, MAX_SNAPSHOTS = 300.0, 16
#: A refused release is loaded again after this long: an unreachable bucket may be back.
RETRY_S = 30.0


class LiveRelease:
    """The release and what changed since its night. Requests read `recommender` once, so that
    items, scores and version of an answer are of one snapshot.

    Releases of another space than the encoder's, `space`, are refused; `encode` gives vectors of
    item texts in it."""

    def __init__(self, setup: Setup, space: str, encode: EncodeItems) -> None:
        self.setup, self.store = setup, ArtifactStore(setup.home)
        self.space, self.encode = space, encode
        self.log = setup.catalogue_log()
        self.recommender: Recommender | None = None
        self.catalogue: LiveCatalogue | None = None
        self.pages = RecentSnapshots()
        self.refused: dict[str, str] = {}
        self._attempts: dict[tuple[str, str], float] = {}
        self._inspected: Recommender | None = None
        self._swap_lock, self._change_lock = threading.Lock(), threading.Lock()
        self._log_error = ""
        self.refresh()

    @property
    def version(self) -> str | None:
        return live.release.version if (live := self.recommender) else None

    def follow(self, closed: threading.Event) -> None:
        """Refreshes every `day.refresh_s` until closed."""
        while not closed.wait(self.setup.day.refresh_s):
            self.refresh()
            if live := self.recommender:
                age = datetime.now(UTC) - start_of_night(live.release)
                metrics.RELEASE_AGE.set(age.total_seconds())

    def follow_changes(self, closed: threading.Event) -> None:
        """Applies new changes of the catalogue every `day.changes_s` until closed."""
        while not closed.wait(self.setup.day.changes_s):
            try:
                self.take_changes()
                self._log_error = ""
            except Exception as error:  # an unreachable log, or a model, must not end the thread
                reason = metrics.describe_error(error)
                if reason != self._log_error:
                    logger.error("changes of the catalogue are not applied: %s", reason)
                self._log_error = reason

    def take_changes(self) -> None:
        """Applies what is in the log, and serves it."""
        with self._change_lock:
            live = self.catalogue
            if live is not None and self._catch_up(live):
                self.recommender = live.recommender

    def _catch_up(self, live: LiveCatalogue) -> int:
        """How many states of items were applied."""
        applied = 0
        while states := self.log.states(live.number, STATES_AT_ONCE):
            live.advance(states, states[-1].number)
            applied += len(states)
            delay = datetime.now(UTC) - states[-1].time
            metrics.CHANGE_DELAY.observe(delay.total_seconds() * 1000)
        if applied:
            items = len(live.snapshot.segment)
            metrics.CHANGES_APPLIED.inc(applied)
            metrics.SEGMENT_SHARE.set(items / max(1, len(live.base.release.item_ids)))
        return applied

    def recommender_of(self, snapshot: str | None) -> Recommender | None:
        """That of a snapshot whose pages somebody is reading; where it is not kept, the newest."""
        return self.pages.get(snapshot) or self.recommender

    def list_releases(self) -> list[dict[str, Any]]:
        """Every published version, oldest first; for an unreadable one, the reason."""
        current, live = self.store.current(), self.version
        return [
            {
                "version": version,
                "current": version == current,
                "live": version == live,
                **self._describe_release(version),
            }
            for version in self.store.versions()
        ]

    def _describe_release(self, version: str) -> dict[str, Any]:
        try:
            manifest = read_manifest(self.store, version)
        except RecsysError as error:
            return {"error": str(error)}
        return {"created": manifest.created, "space": manifest.space, "counts": manifest.counts}

    def promote(self, version: str) -> None:
        """Loads it, points `current` at it, serves it; an error leaves all as it was."""
        with self._swap_lock:
            if version not in (versions := self.store.versions()):
                choices = ", ".join(versions) or "none yet"
                raise NotFoundError(f"release {version!r} is not there: choose one of {choices}")
            live = self._open(version)
            self.store.point(version)
            self._swap(live)

    def inspect(self, version: str) -> Recommender:
        """A recommender over any release, to explain its answers: the live one, or another that
        stays open until the next is inspected."""
        if (live := self.recommender) and live.release.version == version:
            return live
        if self._inspected is None or self._inspected.release.version != version:
            self._inspected = self._load(version)
        return self._inspected

    def refresh(self) -> None:
        """Loads what `current` names beside what is served, and swaps; what cannot be loaded is
        refused, and logged once."""
        with self._swap_lock:
            version = "current"
            try:
                version = self.store.current() or ""
                amended = self._amended(version)
                if self._needs_loading(version, amended):
                    self._attempts = {(version, amended): time.monotonic()}
                    self._swap(self._open(version))
                self._drop_erased()
                self._take_snapshot()
                self.refused.pop("current", None)
            except Exception as error:  # an unreachable bucket must not end the thread
                self._refuse(version, error)

    def _take_snapshot(self) -> None:
        """Serves the newest snapshot of online learning that grew from the served models; without
        one, the night's network."""
        live = self.recommender
        if live is None or self.setup.day.online is None:
            return
        reranker, base = live.reranker, live.release.manifest.models
        if ONLINE_RANKER not in reranker.rankers:
            return
        snapshot = current_snapshot(self.setup, base)
        label = f"{ONLINE_RANKER}@{base}" + (f"+{snapshot.version}" if snapshot else "")
        if label == reranker.labels[ONLINE_RANKER]:
            return
        if snapshot:
            ranker = load_ranker(snapshot_network(self.setup, snapshot))
        else:
            ranker = with_models(self.setup, base).rankers[ONLINE_RANKER]()
        rankers = {**reranker.rankers, ONLINE_RANKER: ranker}
        labels = {**reranker.labels, ONLINE_RANKER: label}
        with self._change_lock:
            assert self.catalogue is not None
            self.recommender = self.catalogue.serve_with(rankers, labels)
        logger.info("%s is the live ranker", label)

    def _needs_loading(self, version: str, amended: str) -> bool:
        if not version:
            return False
        if live := self.recommender:
            manifest = live.release.manifest
            if (version, amended) == (live.release.version, manifest.amended):
                return False
        since_attempt_s = time.monotonic() - self._attempts.get((version, amended), -math.inf)
        return since_attempt_s >= RETRY_S

    def _amended(self, version: str) -> str:
        """The folder of the release's last amendment; why one cannot be read, loading says."""
        try:
            return read_manifest(self.store, version).amended if version else ""
        except RecsysError:
            return ""

    def _drop_erased(self) -> None:
        """Closes the inspected release where users were erased from it since it was opened."""
        if inspected := self._inspected:
            release = inspected.release
            if self._amended(release.version) != release.manifest.amended:
                self._inspected = None

    def _open(self, version: str) -> LiveCatalogue:
        """The release with all changes since its night: one that they cannot be read for is not
        served, for it may show what is hidden."""
        live = LiveCatalogue(
            base=self._load(version), encode=self.encode, decimal=self.setup.catalogue.decimal
        )
        self._catch_up(live)
        _warm_up(live.recommender)
        return live

    def _load(self, version: str) -> Recommender:
        """The release with every checksum compared, and one answer computed from it: what cannot
        answer is not served."""
        try:
            pictures = self.setup.pictures
            picture_space = pictures.encoder().space if pictures else None
            release = Release.open(self.store, version, self.space, picture_space)
            setup = with_models(self.setup, release.manifest.models)
            recommender = build_recommender(setup, release)
            _warm_up(recommender)
            start_of_night(release)
        except (SpaceMismatchError, ReleaseError):
            raise
        except Exception as error:  # whatever a damaged file or a shop's own part may raise
            reason = f"{type(error).__name__}: {error}"
            raise ReleaseError(
                f"release {version} cannot answer ({reason}): promote another one"
            ) from error
        return recommender

    def _swap(self, live: LiveCatalogue) -> None:
        with self._change_lock:
            self._catch_up(live)
            self.catalogue, self.recommender = live, live.recommender
        version = live.base.release.version
        self.refused.pop(version, None)
        logger.info("release %s is live, with changes up to %d", version, live.number)

    def _refuse(self, version: str, error: Exception) -> None:
        reason = metrics.describe_error(error)
        if self.refused.get(version) != reason:
            metrics.RELEASES_REFUSED.inc()
            live = self.version or "none"
            logger.error("release %s is refused, %s stays live: %s", version, live, reason)
        self.refused = {**self.refused, version: reason}


class RecentSnapshots:
    """The recommenders of which somebody may ask for another page: KEPT_S long, and the newest
    MAX_SNAPSHOTS. Safe for many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._recent: dict[str, tuple[float, Recommender]] = {}

    def add(self, recommender: Recommender) -> None:
        now = time.monotonic()
        with self._lock:
            recent = self._recent
            recent.pop(recommender.release.snapshot, None)
            recent[recommender.release.snapshot] = (now, recommender)
            for name, (since, _) in list(recent.items()):
                if now - since > KEPT_S or len(recent) > MAX_SNAPSHOTS:
                    del recent[name]

    def get(self, snapshot: str | None) -> Recommender | None:
        with self._lock:
            since, recommender = self._recent.get(snapshot or "", (-math.inf, None))
        return recommender if time.monotonic() - since <= KEPT_S else None


def _warm_up(recommender: Recommender) -> None:
    """Computes now what is computed once per release, rather than in the first requests."""
    filters = Filters(category=("",), brand=("",), min_price=0.0)
    recommender.recommend(Query(request_id="warm up", k=1, filters=filters))
    title = recommender.release.item(0).title or "warm up"
    search = Query(
        request_id="warm up",
        k=1,
        text=title,
        filters=filters,
        sort="newest",
        collapse=True,
        facets=True,
    )
    recommender.search(search, np.array(recommender.release.item_vectors_ID[0]))
    recommender.release.suggestions.complete("warm up")


def start_of_night(release: Release) -> datetime:
    """Events later than this are not in the release."""
    return release_time(release.manifest)
